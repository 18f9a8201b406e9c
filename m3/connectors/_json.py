"""
JSON as the connectors read and write it: strict, one document, UTF-8.

``NaN`` and ``Infinity`` are not JSON and are refused both ways.

``quick_loads`` is msgspec's where that is installed.  It refuses some documents
that :func:`loads` takes (numbers beyond a double, half surrogate pairs), and
gives the same for all others.  There is no such pair to write with, because
msgspec writes things that are no JSON values.
"""

import codecs
import json
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

__all__ = ("dumps", "loads", "quick_loads")


def refuse_constant(name: str) -> NoReturn:
    """Refuse what JavaScript has and JSON has not."""
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=refuse_constant).decode
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def loads(document: bytes) -> Any:
    """
    Return what *document* says.

    Raises:
        ValueError: it is not JSON or not UTF-8.
        RecursionError: it is nested too deep.
    """
    return _decode(document.removeprefix(codecs.BOM_UTF8).decode())


def dumps(item: Any) -> bytes:
    """
    Return *item* as JSON, compact, in UTF-8.

    Raises:
        TypeError: JSON has no such thing.
        ValueError: it has itself inside, or a number that JSON has not.
        RecursionError: it is nested too deep.
    """
    try:
        return _encode(item).encode()
    except UnicodeEncodeError:  # half of a surrogate pair: only an escape can say it
        return _encode_ascii(item).encode()


quick_loads: Callable[[bytes], Any] = loads
with suppress(ImportError):
    quick_loads = import_module("msgspec.json").Decoder().decode
