"""What the backends that write records have in common."""

import codecs
import os
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from m3.connectors._output.in_place import InPlace
from m3.connectors._output.sinks import Sink, Stdout, open_sink
from m3.connectors._output.templated import Mode, TemplatedFiles
from m3.connectors._output.templates import Template, parse_path
from m3.connectors._output.torn import line_end
from m3.connectors._output.tree import Names
from m3.connectors._paths import FilePath, is_stream
from m3.errors import BatchError, ConfigError, StateError, abridged
from m3.policies import Batch
from m3.stages import Backend

__all__ = ("FileRecordBackend", "RecordBackend", "encoder")


def encoder(
    encoding: str, errors: str, *, other: Callable[[Any], str] | None = None
) -> Callable[[Any], bytes]:
    r"""
    Return what makes bytes of an item: bytes stay, text is encoded.

    Args:
        encoding: of text.
        errors: the error mode, as of :meth:`str.encode`.
        other: makes text of any other item; None refuses it.

    Raises:
        ConfigError: there is no such encoding or error mode, or the encoding
            does not write a line end as the byte ``\n``.
    """
    try:
        codecs.lookup_error(errors)
        fits = "\n".encode(encoding) == b"\n"
    except LookupError as error:
        raise ConfigError(f"encoding={encoding!r}, errors={errors!r}: {error}") from error
    if not fits:
        raise ConfigError(f"encoding={encoding!r}: it does not write a line end as the byte \\n")

    def encode(item: Any) -> bytes:
        if isinstance(item, str):
            return item.encode(encoding, errors)
        if isinstance(item, bytes | bytearray | memoryview):
            return bytes(item)
        if other is None:
            raise TypeError(f"bytes or text can be written, not {abridged(item)}")
        return other(item).encode(encoding, errors)

    return encode


class RecordBackend(Backend[Any]):
    r"""
    What the backends that write records have in common.

    An item that cannot be made into bytes fails by itself; the rest of its
    batch is written.

    Args:
        encode: makes the bytes of an item, without the ``\n``.
    """

    max_workers: ClassVar[int | None] = 1
    """Two would write into each other's records."""

    batch: ClassVar[Batch | None] = Batch(count=1024, bytes=1024 * 1024)
    """What is waiting, without waiting for more; at most about 1 MiB at once."""

    takes_records: ClassVar[bool] = True
    """Whether an item that is bytes is a record already."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self._encode = encode

    def open(self) -> Sink:
        """Return what to write to."""
        raise NotImplementedError

    def setup(self) -> None:
        """Open the target."""
        self._sink = self.open()

    def process_batch(self, items: list[Any]) -> None:
        r"""Write *items*, each with a ``\n``."""
        errors: dict[int, Exception] = {}
        if not self.takes_records or set(map(type, items)) != {bytes}:
            items = list(self._encoded(items, errors))
        if items:
            self.write(b"\n".join(items) + b"\n")
        if errors:
            raise BatchError(errors)

    def write(self, lines: bytes) -> None:
        """Write whole *lines*."""
        self._sink.write(lines)

    def _encoded(self, items: list[Any], errors: dict[int, Exception]) -> Iterator[bytes]:
        """Yield the bytes of each item; into *errors* goes why there are none."""
        for index, item in enumerate(items):
            try:
                yield self._encode(item)
            except Exception as error:
                errors[index] = error

    def cleanup(self) -> None:
        """End the output, as far as the run came."""
        self._sink.close(keep=not self.failed)


class FileRecordBackend(RecordBackend):
    """
    Write records to a file, or to one of many by the fields of each item.

    Args:
        encode: makes the bytes of an item, without the line end.
        path: the file; with fields, see :class:`~m3.connectors._output.templates.Template`.
        append: write to the end of the file, as the items come.

    Raises:
        ConfigError: *path* has fields that cannot be filled in.
    """

    standard_output: ClassVar[str | None] = None
    """The path that stands for standard output, if one does."""

    items_have_fields: ClassVar[bool] = False
    """Whether the items can be mappings, so that a path can have fields."""

    can_resume: bool = True
    """
    Whether what was written can be taken back.

    It cannot from FIFOs, devices and standard output, nor with ``append`` from
    files that are only known when items come for them.
    """

    def __init__(
        self, encode: Callable[[Any], bytes], *, path: FilePath, append: bool = False
    ) -> None:
        super().__init__(encode)
        self._path = parse_path(os.fspath(path))
        self._append = append
        self._many: TemplatedFiles | None = None
        self.can_resume = self._can_go_back()
        if isinstance(self._path, Template) and not self.items_have_fields:
            raise ConfigError(
                f"path={os.fspath(path)!r}: the items are bytes or text and have no fields; "
                "a brace is written {{ or }}, and items with fields can be written by jsonl"
            )

    @property
    def keeps_at_end(self) -> bool:
        """Whether, unless it is resumed, what was written is put in its place at the end only."""
        return not self._append and self._can_go_back()

    def setup(self) -> None:
        """Open the target; of many files, only the directory."""
        self.can_resume = self._can_go_back()
        if isinstance(self._path, Template):
            mode: Mode = "append" if self._append else "replace"
            self._many = TemplatedFiles(self._path.root, mode)
        else:
            self._sink = self.open()

    def open(self) -> Sink:
        """Open the file, or the one that will replace it, or take standard output."""
        assert isinstance(self._path, str)
        if self._path == self.standard_output:
            return Stdout()
        return open_sink(self._path, append=self._append, lacking=self.lacking)

    def lacking(self, descriptor: int) -> bytes:
        """Return what ends the last record of a file that is there, before any is added."""
        return line_end(descriptor)

    def process_batch(self, items: list[Any]) -> None:
        r"""Write *items*, each with a ``\n``, to its file."""
        if self._many is None:
            super().process_batch(items)
            return
        errors: dict[int, Exception] = {}
        for names, records in self._by_file(items, errors).items():
            try:
                self.write_below(self._many, names, b"\n".join(records.values()) + b"\n")
            except (OSError, StateError) as error:
                errors |= dict.fromkeys(records, error)
        if errors:
            raise BatchError(errors)

    def write_below(self, files: TemplatedFiles, names: Names, lines: bytes) -> None:
        """Write whole *lines* to one of many *files*."""
        files.write(names, lines)

    def commit(self) -> Any:
        """
        Make durable what was written; in a run with state, return the mark of it.

        A file that replaces another as a whole is durable at the end only.

        Raises:
            StateError: somebody else has written to a file.
        """
        return self._sink.commit() if self._many is None else self._many.commit()

    def resume(self, mark: Any) -> None:
        """
        From here on write to the file itself; cut off what came after *mark*.

        Without a mark a file begins empty or, with ``append``, goes on behind
        what is there.

        Raises:
            StateError: a file is shorter than it was, or ends differently.
        """
        if not self.can_resume:
            return
        if isinstance(self._path, str):
            sink = InPlace(self._path, mark, append=self._append, lacking=self.lacking)
            self._sink.close(keep=False)
            self._sink = sink
        elif self._many is not None:
            self._many.close(keep=False)
            self._many = TemplatedFiles(self._path.root, "in place")
            self._many.go_back(mark)

    def cleanup(self) -> None:
        """End the output, as far as the run came."""
        if self._many is None:
            super().cleanup()
        else:
            self._many.close(keep=not self.failed)

    def _can_go_back(self) -> bool:
        if isinstance(self._path, Template):
            return not self._append
        return self._path != self.standard_output and not is_stream(self._path)

    def _by_file(
        self, items: list[Any], errors: dict[int, Exception]
    ) -> dict[Names, dict[int, bytes]]:
        """Return the records for each file; into *errors* goes why an item is none."""
        assert isinstance(self._path, Template)
        files: dict[Names, dict[int, bytes]] = {}
        for index, item in enumerate(items):
            try:
                names = self._path.names(item)
                files.setdefault(names, {})[index] = self._encode(item)
            except Exception as error:
                errors[index] = error
        return {names: records for names, records in files.items() if records}
