"""The header of a CSV file, read by itself."""

from m3.connectors._csv.dialect import Dialect
from m3.connectors._csv.rows import RowSplitter
from m3.connectors._input.compression import Decompression
from m3.connectors._input.reading import open_path
from m3.connectors._paths import FilePath

__all__ = ("read_header",)

BLOCK = 64 * 1024


def read_header(
    path: FilePath, dialect: Dialect, *, limit: int, decompression: Decompression
) -> list[str] | None:
    """
    Return the columns that the regular file at *path* names; None if there is no record in it.

    Raises:
        ConfigError: two have the same name, or its header cannot be read.
        CompressedInputError: it cannot be decompressed.
    """
    with open_path(path) as source:
        splitter = RowSplitter(source.name, dialect=dialect, limit=limit, columns=None)
        blocks = iter(lambda: source.read(BLOCK), b"")
        for block in decompression.applied(source.name, blocks, lambda: False):
            splitter.feed(block)
            if splitter.columns is not None:
                return splitter.columns
        splitter.end()
        return splitter.columns
