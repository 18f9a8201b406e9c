r"""
``stdin``: the records of standard input.

Each item is a record as :class:`bytes`, without its ``\n``, or as text if an
encoding is named.  A record reaches the pipeline as soon as its ``\n`` is read,
and at most 256 KiB are read ahead.  ``sys.stdin`` is looked at when the run
begins, and need not be a real file then.

Delivery: standard input cannot be read twice, so what was read and not
delivered when the process dies is lost.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager

from m3.connectors._input.reading import RecordFrontend, Source, open_stdin
from m3.connectors._input.records import RECORD_LIMIT, converter, splitting

__all__ = ("StdinFrontend",)


class StdinFrontend(RecordFrontend):
    """
    Read records from standard input.

    Args:
        encoding: decode the records to text; without it they are bytes.
        errors: what to do about bytes that are not in the encoding: strict
            makes the record a failure, replace and the like keep it.
        limit: the most bytes of a record; a longer one is a failure.
    """

    def __init__(
        self,
        *,
        encoding: str | None = None,
        errors: str = "strict",
        limit: int = RECORD_LIMIT,
    ) -> None:
        super().__init__(splitting(limit, converter(encoding, errors)))

    def sources(self) -> Iterator[AbstractContextManager[Source]]:
        """Yield standard input."""
        yield open_stdin()
