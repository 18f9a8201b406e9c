"""Where each key of a TOML document stands; :mod:`tomllib` does not say."""

import re

from m3.config.origins import KeyPath

__all__ = ("key_lines",)

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)+")
_PART = re.compile(r"[ \t]*(?:([A-Za-z0-9_-]+)|\"((?:\\.|[^\"\\\n])*)\"|'([^'\n]*)')[ \t]*")
_PIECE = re.compile(
    r'"""(?:\\.|[^\\])*?""""{0,2}'  # the closing quotes may have two more before them
    r"|'''.*?''''{0,2}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[\[\]{}\n]"
    r"|[^\[\]{}\n\"'#]+",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """
    Return the line, from 1, of each key and table header of a TOML document.

    *text* must be valid TOML.  Keys inside an inline table or an array are
    not listed: they are on the lines of the key that holds them.
    """
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.table: KeyPath = ()
        self.lines: dict[KeyPath, int] = {}
        self.array_sizes: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        while self._skip_blank():
            if self.text[self.position] == "[":
                self._header()
            else:
                self._pair()
        return self.lines

    def _skip_blank(self) -> bool:
        if match := _BLANK.match(self.text, self.position):
            self.position = match.end()
        return self.position < len(self.text)

    def _header(self) -> None:
        line = self._line()
        is_array = self.text.startswith("[[", self.position)
        self.position += 1 + is_array
        parts = self._key()
        self.position += 1 + is_array
        self.table = self._located(parts[:-1], line) + parts[-1:]
        if is_array:
            index = self.array_sizes.get(self.table, 0)
            self.array_sizes[self.table] = index + 1
            self.lines.setdefault(self.table, line)
            self.table += (index,)
        self.lines[self.table] = line

    def _pair(self) -> None:
        line = self._line()
        path = self.table
        for part in self._key():
            path += (part,)
            self.lines.setdefault(path, line)
        self.position += len("=")
        self._skip_value()

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while match := _PART.match(self.text, self.position):
            bare, basic, literal = match.groups()
            parts.append(bare or literal or _unescaped(basic or ""))
            self.position = match.end()
            if not self.text.startswith(".", self.position):
                break
            self.position += 1
        return tuple(parts)

    def _located(self, parts: tuple[str, ...], line: int) -> KeyPath:
        """Return the path that *parts* mean now: in the last element of each array."""
        path: KeyPath = ()
        for part in parts:
            path += (part,)
            self.lines.setdefault(path, line)
            if size := self.array_sizes.get(path):
                path += (size - 1,)
        return path

    def _skip_value(self) -> None:
        depth = 0
        while match := _PIECE.match(self.text, self.position):
            self.position = match.end()
            piece = match.group()
            if piece in ("[", "{"):
                depth += 1
            elif piece in ("]", "}"):
                depth -= 1
            elif piece == "\n" and depth == 0:
                return

    def _line(self) -> int:
        return self.text.count("\n", 0, self.position) + 1


def _unescaped(basic: str) -> str:
    """Return the text of a basic string, by TOML's own rules."""
    if "\\" not in basic:
        return basic
    import tomllib

    text: str = tomllib.loads(f'text = "{basic}"')["text"]
    return text
