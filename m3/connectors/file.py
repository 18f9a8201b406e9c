r"""
``file``: the records of files, and records to a file.

The frontend reads one file after the other; each item is a record as
:class:`bytes`, without its ``\n``, or as text if an encoding is named.
Compressed files are known by their first bytes.  FIFOs and devices are read
too.  With ``follow`` it waits for more at the end of the file, looks for it
every 0.2 s, and goes on with a new file of that name when the old one was
renamed or cut off.

The backend writes bytes as they are and text in an encoding, each with a
``\n``.  A regular file is replaced as a whole when the run has ended well:
whoever opens it sees the old content or all of the new, also after a crash or
a loss of power.  When the run fails, the old content stays.  A crash may leave
a file called ``.m3-….tmp`` beside it.  FIFOs, devices and, with ``append``,
files are written to as the items come; a file whose last line has no end, for a
write of it was torn, say, gets one first.

Delivery: the frontend can go on where an earlier run has ended, and refuses
input that has changed; FIFOs and devices cannot be gone on with.  The backend
writes in place in a run with state, and delivers effectively once: the next run
cuts off what was not committed.  Without state, and with replacement, an item
counts as delivered when it is written, and all are lost together if the process
dies before the end.
"""

from m3.connectors._input.compression import MAX_OUTPUT, MAX_RATIO, Compression
from m3.connectors._input.files import FilesFrontend
from m3.connectors._input.records import RECORD_LIMIT, converter, splitting
from m3.connectors._output.writing import FileRecordBackend, encoder
from m3.connectors._paths import FilePath, FilePaths

__all__ = ("FileBackend", "FileFrontend")


class FileFrontend(FilesFrontend):
    """
    Read records from files.

    Args:
        path: the file, a directory, a pattern as *.log or **/*.log, or a list
            of these; read in their order, and what is in a directory or
            matches a pattern sorted by name.
        encoding: decode the records to text; without it they are bytes.
        errors: what to do about bytes that are not in the encoding: strict
            makes the record a failure, replace and the like keep it.
        limit: the most bytes of a record; a longer one is a failure.
        compression: of the files, gzip, bz2, xz, zstd or none; auto knows it
            by the first bytes.
        max_ratio: end the run if compressed input becomes so many times as
            long, and more than 1 MiB.
        max_output: end the run if one compressed file holds more bytes.
        follow: at the end of the file wait for more, as tail -F does, also
            when it is rotated.
    """

    def __init__(
        self,
        *,
        path: FilePaths,
        encoding: str | None = None,
        errors: str = "strict",
        limit: int = RECORD_LIMIT,
        compression: Compression = "auto",
        max_ratio: float = MAX_RATIO,
        max_output: int = MAX_OUTPUT,
        follow: bool = False,
    ) -> None:
        super().__init__(
            path=path,
            splitter=splitting(limit, converter(encoding, errors)),
            compression=compression,
            max_ratio=max_ratio,
            max_output=max_output,
            follow=follow,
        )


class FileBackend(FileRecordBackend):
    """
    Write records to a file, which appears as a whole or not at all.

    In a run that keeps state, the file is written to in place, and the next
    run cuts off what the last one has not committed.

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
        super().__init__(encoder(encoding, errors), path=path, append=append)
