"""``null``: discards the items; each counts as delivered."""

from m3.stages import Backend

__all__ = ("NullBackend",)


class NullBackend(Backend[object]):
    """Discard the items."""

    def process_batch(self, items: list[object]) -> None:
        """Do nothing with *items*."""
