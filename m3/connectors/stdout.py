r"""
``stdout``: records to standard output.

Bytes are written as they are, text in an encoding, anything else as its
``str()``; each with a ``\n``.  What is waiting is written at once and nothing
is held back, so the output is prompt however slow the items come.

Delivery: an item counts as delivered when the system has taken it.  When the
reader is gone (``| head``), :exc:`BrokenPipeError` is raised, with
``"<stdout>"`` as its ``filename``.
"""

from m3.connectors._output.sinks import Sink, Stdout
from m3.connectors._output.writing import RecordBackend, encoder

__all__ = ("StdoutBackend",)


class StdoutBackend(RecordBackend):
    """
    Write records to standard output.

    Args:
        encoding: the encoding of text.
        errors: what to do about text that the encoding does not have; strict
            makes it an error of the item.
    """

    def __init__(self, *, encoding: str = "utf-8", errors: str = "strict") -> None:
        super().__init__(encoder(encoding, errors, other=str))

    def open(self) -> Sink:
        """Return standard output as it is now."""
        return Stdout()
