"""
``jsonl``: JSON documents, one per line.

The frontend makes an item of each record of a file, or of standard input for
the path ``-``.  A record that is no JSON document, an empty one too, is a
failure with the raw bytes as its value.

The backend writes one compact document per line in UTF-8, to a file (see
``file`` for how: as a whole at the end, unless it appends) or to standard
output for the path ``-``.  An item that JSON cannot express is an error;
``NaN`` and ``Infinity`` are such.  A path with fields, as
``out/{country}/{day}.jsonl``, makes a file of its own for all items that have
these in common.

Delivery: as of ``file`` and ``stdin``, ``stdout``.  Files of a path with fields
are gone on with too, unless they are appended to.
"""

from typing import Any

from m3.connectors._input.compression import MAX_OUTPUT, MAX_RATIO, Compression
from m3.connectors._input.files import FilesFrontend
from m3.connectors._input.records import RECORD_LIMIT, Converter, splitting
from m3.connectors._json import dumps, loads, quick_loads
from m3.connectors._output.writing import FileRecordBackend
from m3.connectors._paths import FilePath, FilePaths

__all__ = ("JsonlBackend", "JsonlFrontend")


class Documents(Converter):
    """Makes of a record what it says in JSON."""

    def one(self, record: bytes) -> Any:
        """Return what *record* says."""
        return loads(record)

    def many(self, records: list[bytes]) -> list[Any]:
        """Return what *records* say."""
        return list(map(quick_loads, records))


class JsonlFrontend(FilesFrontend):
    """
    Read JSON documents, one per line.

    Args:
        path: the file, or - for standard input; or a directory, a pattern, or
            a list, as of the frontend file.
        limit: the most bytes of a record; a longer one is a failure.
        compression: of the files, gzip, bz2, xz, zstd or none; auto knows it
            by the first bytes.
        max_ratio: end the run if compressed input becomes so many times as
            long, and more than 1 MiB.
        max_output: end the run if one compressed file holds more bytes.
        follow: at the end of the file wait for more, as tail -F does, also
            when it is rotated.
    """

    standard_input = "-"

    def __init__(
        self,
        *,
        path: FilePaths = "-",
        limit: int = RECORD_LIMIT,
        compression: Compression = "auto",
        max_ratio: float = MAX_RATIO,
        max_output: int = MAX_OUTPUT,
        follow: bool = False,
    ) -> None:
        super().__init__(
            path=path,
            splitter=splitting(limit, Documents()),
            compression=compression,
            max_ratio=max_ratio,
            max_output=max_output,
            follow=follow,
        )


class JsonlBackend(FileRecordBackend):
    """
    Write JSON documents, one per line.

    Args:
        path: the file, or - for standard output; with fields of the items, as
            in out/{country}/{day}.jsonl, one of many files.
        append: write to the end of the file, as the items come.
    """

    standard_output = "-"
    items_have_fields = True
    takes_records = False

    def __init__(self, *, path: FilePath = "-", append: bool = False) -> None:
        super().__init__(dumps, path=path, append=append)
