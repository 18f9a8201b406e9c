"""What is shown of texts from elsewhere: no passwords, and nothing that a terminal obeys."""

import re
from typing import Any

from m3.secret import MASK, without_secrets

__all__ = ("all_masked", "escaped", "escaped_json", "indented", "masked", "one_line", "safe")

# "/", "?" and "#" in a password are against the rules for URLs, and happen; but a port, and then a
# path, is no password.  The bounds keep the search short in any text.
_PASSWORD = re.compile(
    r"(?<=://)(?P<user>[^\s:/?#\[]{0,256}):(?!\d{1,5}[/?#\"',;)\]}])"
    r"(?:[^\s/?#]{1,1024}|\S{1,1024})@"
)

# What moves the cursor, changes the terminal, ends a line for some program, or reorders the text.
_UNSEEN = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff"
)
_CONTROL = re.compile(f"[{_UNSEEN}]")
_CONTROL_OR_END = re.compile(rf"[\n\t{_UNSEEN}]")


def safe(text: str) -> str:
    """Return *text* as it may be shown: masked, and escaped but for line ends and tabs."""
    return escaped(masked(text))


def one_line(text: str) -> str:
    """Return *text* as it may be shown in the middle of a line."""
    return _CONTROL_OR_END.sub(_escape, masked(text))


def masked(text: str) -> str:
    """Return *text* without secrets: those of :class:`m3.Secret`, and passwords in URLs."""
    if "://" in text:
        text = _PASSWORD.sub(rf"\g<user>:{MASK}@", text)
    return without_secrets(text)


def all_masked(value: Any) -> Any:
    """Return *value* with every string in it, in lists and as value in dictionaries, masked."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: all_masked(inner) for key, inner in value.items()}
    return [all_masked(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def escaped(text: str) -> str:
    """Return *text* with control characters as Python would write them; not line ends, not tabs."""
    return _CONTROL.sub(_escape, text)


def escaped_json(text: str) -> str:
    """Return *text*, which is JSON in one line, with the same characters as JSON escapes them."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def indented(text: str) -> str:
    """Return *text* so that none of its lines but the first can pass for another message."""
    return text.replace("\n", "\n  ")


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
