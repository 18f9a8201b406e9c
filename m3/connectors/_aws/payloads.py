"""What is sent of an item: bytes and text as they are, anything else as JSON."""

import re
from typing import Any

from m3.connectors._json import dumps

__all__ = ("payload", "text")

FORBIDDEN = re.compile("[^\\t\\n\\r\\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no message may have: what XML 1.0 has not (API reference of SQS, SendMessage)."""


def payload(item: Any) -> bytes:
    """
    Return the bytes of *item*.

    Raises:
        TypeError: JSON has no such thing.
        ValueError: JSON has no such number, or the text cannot be encoded.
    """
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    return dumps(item)


def text(item: Any) -> str:
    """
    Return *item* as text that a message can have.

    Raises:
        ValueError: it is empty, no UTF-8, or has a character that is not allowed.
    """
    found = payload(item).decode()
    if not found:
        raise ValueError("a message cannot be empty")
    if bad := FORBIDDEN.search(found):
        raise ValueError(
            f"a message cannot have the character {bad[0]!r}, at {bad.start()}; "
            "send bytes as base64"
        )
    return found
