"""What a message of a FIFO queue or topic has beside its text: a group and a deduplication id."""

from hashlib import sha256
from typing import Any

from m3.connectors._naming import Name, naming
from m3.errors import ConfigError

__all__ = ("Fifo",)

LONGEST = 128
"""Bytes of each (API references of SQS, SendMessage, and SNS, Publish)."""


class Fifo:
    """
    Makes both of items.

    Args:
        name: of the queue or topic; one that is FIFO ends with ``.fifo``.
        group_id: its option, None for none.
        deduplication_id: its option; None for a hash of the text.

    Raises:
        ConfigError: they cannot be, or not for that queue or topic.
    """

    def __init__(self, name: str, group_id: Name | None, deduplication_id: Name | None) -> None:
        self._is_fifo = name.endswith(".fifo")
        if self._is_fifo and group_id is None:
            raise ConfigError(f"{name} is FIFO, so its messages need a group_id")
        if deduplication_id is not None and not self._is_fifo:
            raise ConfigError(f"deduplication_id: {name} is not FIFO, and has none")
        self._group = None if group_id is None else naming("group_id", group_id, longest=LONGEST)
        self._identity = (
            None
            if deduplication_id is None
            else naming("deduplication_id", deduplication_id, longest=LONGEST)
        )

    def fields(self, item: Any, text: str) -> dict[str, str]:
        """Return both, as far as there are any, for *item* and the *text* that is sent of it."""
        found = {}
        if self._group is not None:
            found["MessageGroupId"] = self._group(item)
        if self._identity is not None:
            found["MessageDeduplicationId"] = self._identity(item)
        elif self._is_fifo:
            found["MessageDeduplicationId"] = sha256(text.encode()).hexdigest()
        return found
