"""A string that is not shown."""

import threading
from collections import deque
from functools import lru_cache

__all__ = ("Secret",)

MASK = "***"
SHORTEST = 4
"""What is shorter would be found by chance in too many texts."""
MOST = 256


class Secret:
    """
    A string that is shown as ``***``, such as a password.

    :meth:`reveal` returns the string.  Annotate an option of a stage's
    constructor with ``Secret``, and what a configuration file, the environment
    or the command line gives for it comes as one.

    Messages, logs and reports that m3 writes show ``***`` wherever they would
    show the string itself, if it has at least 4 characters; that holds for the
    256 that were made last.  What your own code prints, m3 does not see.

    >>> token = Secret("hunter2")
    >>> print(token, repr(token), f"{token:>10}", token.reveal())
    *** Secret('***') *** hunter2
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"a secret is a string, not a {type(value).__qualname__}")
        self._value = value
        if len(value) >= SHORTEST:
            _remember(value)

    def reveal(self) -> str:
        """Return the string."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, _: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled; pickle what reveal() returns, if that is meant")

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, _: object) -> "Secret":
        return self


_lock = threading.Lock()
_known: deque[str] = deque(maxlen=MOST)


def _remember(value: str) -> None:
    with _lock:
        if value not in _known:
            _known.append(value)


def without_secrets(text: str) -> str:
    """Return *text* with ``***`` in place of each secret that was made."""
    if not _known:
        return text
    with _lock:
        known = tuple(_known)
    for form in _forms(known):
        if form in text:
            text = text.replace(form, MASK)
    return text


@lru_cache(maxsize=1)
def _forms(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return how *values* may stand in a text, the longest first."""
    import json
    from urllib.parse import quote, quote_plus

    forms: set[str] = set()
    for value in values:
        data = value.encode("utf-8", "surrogatepass")
        forms |= {value, repr(value)[1:-1], json.dumps(value)[1:-1]}
        forms |= {repr(data)[2:-1], data.decode("latin-1"), quote(data, ""), quote_plus(data)}
    return tuple(sorted(forms, key=len, reverse=True))
