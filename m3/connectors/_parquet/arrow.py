"""
Items, Arrow's columns and Parquet files: a schema, and what fits into it.

The only module that imports pyarrow, when it is asked to.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from m3._durable import sync
from m3.errors import ConfigError, MissingExtraError, StateError, abridged

__all__ = (
    "WRITER",
    "Gathering",
    "Part",
    "arrow",
    "identity",
    "parquet",
    "schema_of",
    "writer_of",
)

WRITER = b"m3.writer"
"""The key, in the metadata of a part, of the mark of who has written it."""

LOOSE = 64
"""How many small batches are kept before they are put together into one."""


def arrow() -> Any:
    """
    Return the module ``pyarrow``.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise MissingExtraError("Parquet needs pyarrow", extra="arrow") from error


def parquet() -> Any:
    """Return the module ``pyarrow.parquet``."""
    arrow()
    return import_module("pyarrow.parquet")


def schema_of(schema: Any) -> Any:
    """
    Return *schema* as Arrow's own, which it is already or makes of names and types.

    Raises:
        ConfigError: it is neither, or there is no such type.
    """
    pa = arrow()
    if schema is None or isinstance(schema, pa.Schema):
        return schema
    if not isinstance(schema, Mapping) or not schema:
        raise ConfigError(f"schema: names of columns with their types, not {abridged(schema)}")
    try:
        return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in schema.items()])
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"schema: {error}; types are called bool, int64, double, string, binary, date32, "
            "timestamp[us] and so on"
        ) from error


class Gathering:
    """
    Rows on their way into a file, in Arrow's batches, with the schema they share.

    Args:
        schema: what items are to fit into; without it, it is made of the first
            items and widened by further ones, until the first rows are taken.

    Attributes:
        schema: as it is now; None before the first item.
        rows: how many rows there are.
        size: how many bytes they take.
    """

    def __init__(self, schema: Any) -> None:
        self._arrow = arrow()
        self._is_fixed = schema is not None
        self._batches: list[Any] = []
        self._loose: list[Any] = []
        self.schema = schema
        self.rows = 0
        self.size = 0

    def add(self, items: Sequence[Any]) -> dict[int, Exception]:
        """
        Add those of *items* that fit: mappings, and Arrow's own batches.

        Returns:
            What is wrong with each of the others, by its index.
        """
        errors: dict[int, Exception] = {}
        try:
            self._add(items)
        except Exception:
            for index, item in enumerate(items):
                try:
                    self._add([item])
                except Exception as error:
                    errors[index] = error
        return errors

    def take(self, most: int) -> Any:
        """Take the first rows out, *most* at most, as a table; from now on the schema stays."""
        self._is_fixed = True
        everything = self._arrow.Table.from_batches(self._all(), schema=self.schema)
        self._batches, self._loose = everything.slice(most).to_batches(), []
        self.rows = self.size = 0
        self._count(self._batches)
        return everything.slice(0, most).combine_chunks()

    def _all(self) -> list[Any]:
        return [*self._batches, *self._loose]

    def _add(self, items: Sequence[Any]) -> None:
        """Add all *items*, or raise."""
        is_table = isinstance(items[0], self._arrow.RecordBatch) and len(items) == 1
        if self._is_fixed:
            batch = self._known(items[0]) if is_table else self._fitted(items)
        else:
            batch = self._widened(items[0] if is_table else self._inferred(items))
        self._loose.append(batch)
        self._count([batch])
        if len(self._loose) == LOOSE:
            together = self._arrow.Table.from_batches(self._loose).combine_chunks()
            self._batches += together.to_batches()
            self._loose = []

    def _count(self, batches: Iterable[Any]) -> None:
        for batch in batches:
            self.rows += batch.num_rows
            self.size += batch.nbytes

    def _inferred(self, items: Sequence[Any]) -> Any:
        """Return a batch of *items* with the types that they suggest."""
        names = dict.fromkeys(name for item in items for name in keys_of(item))
        if not names:
            raise ValueError("an item without keys makes no columns")
        columns = [self._arrow.array([item.get(name) for item in items]) for name in names]
        return self._arrow.RecordBatch.from_arrays(columns, names=list(names))

    def _widened(self, batch: Any) -> Any:
        """Make the schema one that *batch* fits into too; return it as it then is."""
        schema = self.schema or batch.schema.remove_metadata()
        if not batch.schema.equals(schema):
            both = [schema, batch.schema]
            schema = self._arrow.unify_schemas(both, promote_options="permissive")
            batches = [self._conformed(each, schema) for each in self._all()]
            batch = self._conformed(batch, schema)
            self._batches, self._loose = batches, []
        self.schema = schema
        return batch

    def _known(self, batch: Any) -> Any:
        self._check(set(batch.schema.names))
        return self._conformed(batch, self.schema)

    def _conformed(self, batch: Any, schema: Any) -> Any:
        """Return *batch* in *schema*, or raise if a value would become another one."""
        if batch.schema.equals(schema):
            return batch
        columns = [self._column(batch, field) for field in schema]
        return self._arrow.RecordBatch.from_arrays(columns, schema=schema)

    def _column(self, batch: Any, field: Any) -> Any:
        index = batch.schema.get_field_index(field.name)
        if index < 0:
            return self._arrow.nulls(batch.num_rows, field.type)
        column = batch.column(index)
        if "null" in str(column.type):  # Arrow damages lists of nothing when it casts them
            return self._arrow.array(column.to_pylist(), type=field.type)
        return column.cast(field.type)

    def _fitted(self, items: Sequence[Any]) -> Any:
        """Return a batch of *items* with the types that the schema has."""
        self._check(set().union(*map(keys_of, items)))
        columns = [
            self._array([item.get(field.name) for item in items], field) for field in self.schema
        ]
        return self._arrow.RecordBatch.from_arrays(columns, schema=self.schema)

    def _check(self, names: set[str]) -> None:
        if unknown := names - set(self.schema.names):
            raise ValueError(
                f"no column is called {abridged(sorted(unknown))}; there are: "
                f"{', '.join(self.schema.names)}"
            )

    def _array(self, values: list[Any], field: Any) -> Any:
        try:
            array = self._arrow.array(values, type=field.type)
            self._check_lossless(values, array)
        except Exception as error:
            message = f"the column {field.name!r} is {field.type}: {error}"
            if "null" in str(field.type):
                message += "; the first rows had no value there, so its type must be given (schema)"
            raise ValueError(message) from error
        if array.null_count and not field.nullable:
            raise ValueError(f"the column {field.name!r} needs a value in each row")
        return array

    def _check_lossless(self, values: list[Any], array: Any) -> None:
        """Raise if Arrow has cut something off *values*, as it does with 1.5 for an integer."""
        kind = array.type
        if not (self._arrow.types.is_integer(kind) or self._arrow.types.is_temporal(kind)):
            return
        natural = self._arrow.array(values)
        if natural.type == kind or natural.null_count == len(natural):
            return
        if not array.cast(natural.type).equals(natural):
            raise ValueError(f"not all of {abridged(values)} fits into {kind}")


def keys_of(item: Any) -> Any:
    """Return the keys of *item*, which must be text."""
    if not isinstance(item, Mapping):
        raise TypeError(f"a mapping can be written, not {abridged(item)}")
    if not all(isinstance(name, str) for name in item):
        raise TypeError(f"columns have text for names, and not all of {abridged(list(item))} is")
    return item.keys()


class Part:
    """
    A Parquet file that is being written.

    Args:
        path: the name it is written under.
        schema: of its rows.
        compression: of its columns.

    Attributes:
        path: the same.
        rows: how many rows were written.
    """

    def __init__(self, path: Path, schema: Any, compression: str) -> None:
        self.path = path
        self.rows = 0
        self._schema = schema
        self._file = arrow().OSFile(str(path), "wb")
        self._writer = parquet().ParquetWriter(self._file, schema, compression=compression)

    def write(self, table: Any) -> None:
        """Write the rows of *table* as a row group."""
        self._writer.write_table(table.replace_schema_metadata(self._schema.metadata))
        self.rows += table.num_rows

    def close(self) -> None:
        """Complete the file and make it durable."""
        self._writer.close()
        self._file.close()
        sync(self.path)

    def discard(self) -> None:
        """Remove what was written."""
        with suppress(Exception):
            self._writer.close()
        with suppress(Exception):
            self._file.close()
        self.path.unlink(missing_ok=True)


def identity(path: str) -> tuple[int, str]:
    """
    Return the size of a Parquet file, and a hash of its footer.

    Raises:
        StateError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8))
            length = int.from_bytes(file.read(4), "little")
            file.seek(max(0, size - 8 - length))
            footer = file.read()
    except OSError as error:
        raise StateError(
            f"{path} was used by an earlier run and cannot be read: {error}"
        ) from error
    return size, hashlib.blake2b(footer, digest_size=16).hexdigest()


def writer_of(file: BinaryIO) -> str:
    """Return the mark that a part bears; empty if it bears none, or cannot be read."""
    with suppress(arrow().ArrowException):
        metadata = parquet().read_metadata(file).metadata or {}
        return bytes(metadata.get(WRITER, b"")).decode("ascii", "replace")
    return ""
