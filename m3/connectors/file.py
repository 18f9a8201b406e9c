r"""
``file``: the records of files, and records to a file.

The frontend reads one file after the other; each item is a record as
:class:`bytes`, without its ``\n``, or as text if an encoding is named.  FIFOs
and devices are read too.

The backend writes bytes as they are and text in an encoding, each with a
``\n``.  A regular file is replaced as a whole when the run has ended well:
whoever opens it sees the old content or all of the new, also after a crash or
a loss of power.  When the run fails, the old content stays.  A crash may leave
a file called ``.m3-….tmp`` beside it.  FIFOs, devices and, with ``append``,
files are written to as the items come.

Delivery: with replacement an item counts as delivered when it is written, and
all are lost together if the process dies before the end.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from m3.connectors._reading import FilePath, RecordFrontend, Source, check_readable, open_path
from m3.connectors._records import RECORD_LIMIT, converter
from m3.connectors._sinks import Sink, open_sink
from m3.connectors._writing import RecordBackend, encoder
from m3.errors import ConfigError

__all__ = ("FileBackend", "FileFrontend")


class FileFrontend(RecordFrontend):
    """
    Read records from files.

    Args:
        path: the file, or a list of files, read in their order.
        encoding: decode the records to text; without it they are bytes.
        errors: what to do about bytes that are not in the encoding: strict
            makes the record a failure, replace and the like keep it.
        limit: the most bytes of a record; a longer one is a failure.
    """

    def __init__(
        self,
        *,
        path: FilePath | Sequence[FilePath],
        encoding: str | None = None,
        errors: str = "strict",
        limit: int = RECORD_LIMIT,
    ) -> None:
        super().__init__(limit=limit, converter=converter(encoding, errors))
        self._paths = [path] if isinstance(path, str | os.PathLike) else list(path)
        if not self._paths:
            raise ConfigError("path: no file is named")

    def setup(self) -> None:
        """Check that the files are there and can be read."""
        for path in self._paths:
            check_readable(path)
        super().setup()

    def sources(self) -> Iterator[AbstractContextManager[Source]]:
        """Yield the files."""
        return map(open_path, self._paths)


class FileBackend(RecordBackend):
    """
    Write records to a file, which appears as a whole or not at all.

    Args:
        path: the file.
        encoding: the encoding of text.
        errors: what to do about text that the encoding does not have; strict
            makes it an error of the item.
        append: write to the end of the file, as the items come.
    """

    def __init__(
        self,
        *,
        path: FilePath,
        encoding: str = "utf-8",
        errors: str = "strict",
        append: bool = False,
    ) -> None:
        super().__init__(encoder(encoding, errors))
        self._path = path
        self._append = append

    def open(self) -> Sink:
        """Open the file, or the one that will replace it."""
        return open_sink(self._path, append=self._append)
