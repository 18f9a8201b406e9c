"""Many files below one directory, a few of them open."""

import os
import re
import secrets
import stat
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from m3.connectors._both_ends import Inputs
from m3.connectors._marks import values_of
from m3.connectors._output.begun import Begun
from m3.connectors._output.in_place import REMEDY, Written
from m3.connectors._output.tree import Names, Tree
from m3.errors import StateError, abridged

__all__ = ("MOST_OPEN", "TemplatedFiles")

MOST_OPEN = 64
"""How many files are open at once."""

KEY = re.compile(r"[0-9a-f]{16}")

Mode = Literal["replace", "append", "in place"]


class TemplatedFiles:
    """
    The files of one backend, a bounded number of them open.

    Args:
        root: the directory.
        mode: ``"replace"`` each file as a whole at the end, ``"append"`` to
            what is there, or write ``"in place"`` what a mark can bring back.
    """

    def __init__(self, root: str, mode: Mode) -> None:
        self._mode = mode
        self._tree = Tree(root)
        self._root = root
        self._inputs = Inputs()
        self._files: dict[Names, Written] = {}
        self._open: OrderedDict[Names, int] = OrderedDict()
        self._begun = Begun(self._tree, secrets.token_hex(8))
        self._unsynced: set[Names] = set()
        self._new_folders: set[Names] = set()
        self._token = secrets.token_hex(8)
        self._temporaries: dict[Names, str] = {}

    def go_back(self, mark: Any) -> None:
        """
        Cut off what was written after :meth:`commit` has returned *mark*.

        Files that were begun since are removed.

        Raises:
            StateError: a file is gone, not as it was then, or one of those that are read.
        """
        if mark is None:
            return
        key, files = values_of(mark, begun=str, files=dict)
        if not KEY.fullmatch(key) or not all(map(leads_down, files)):
            raise StateError(
                f"this is no mark of files below {self._root}: {abridged(mark)}; "
                "begin anew with --from-start"
            )
        self._begun = Begun(self._tree, key)
        for path, part in files.items():
            names = tuple(path.split("/"))
            self._files[names] = self._taken_back(names, part)
        for names in self._begun.names():
            if names not in self._files:
                self._tree.remove(names)

    def _taken_back(self, names: Names, mark: Any) -> Written:
        written = Written(self._name(names))
        try:
            descriptor = self._tree.open(names, make=False)
        except OSError as error:
            raise StateError(
                f"{self._name(names)} was written to and cannot be opened: {error}; {REMEDY}"
            ) from error
        try:
            self._inputs.refuse(self._name(names), descriptor, emptying=False)
            written.go_back(descriptor, mark)
        finally:
            os.close(descriptor)
        return written

    def is_new(self, names: Names) -> bool:
        """Return whether nothing was written to the file yet."""
        return names not in self._files or self._files[names].is_empty

    def write(self, names: Names, data: bytes) -> None:
        """Write all of *data*, or nothing of it."""
        descriptor = self._descriptor(names)
        self._unsynced.add(names)
        self._files[names].write(descriptor, data)

    def commit(self) -> dict[str, Any] | None:
        """
        Make durable what was written, and return the marks of all files.

        Raises:
            StateError: somebody else has written to one of them.
        """
        if self._mode == "replace":
            return None
        self._sync()
        if self._mode == "append":
            return None
        self._begun.take_turn()
        files = {"/".join(names): written.mark() for names, written in self._files.items()}
        return {"begun": self._begun.key, "files": files}

    def close(self, *, keep: bool) -> None:
        """End all files; with *keep*, durably, and those that replace others in their place."""
        try:
            if keep:
                self._sync()
                self._put_in_place()
                self._begun.drop()
        finally:
            self._begun.close()
            while self._open:
                os.close(self._open.popitem()[1])
            self._discard()
            self._tree.close()

    def _sync(self) -> None:
        for names in sorted(self._unsynced):
            descriptor = self._descriptor(names)
            if self._mode == "in place":
                self._files[names].check(descriptor)
            os.fsync(descriptor)
            self._unsynced.discard(names)
        for folder in sorted(self._new_folders):
            self._tree.sync(folder)
        self._new_folders.clear()

    def _descriptor(self, names: Names) -> int:
        """Return the open file, open it again, or begin with it."""
        if names in self._open:
            self._open.move_to_end(names)
            return self._open[names]
        if len(self._open) >= MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        is_new = names not in self._files
        if is_new and self._mode == "in place":
            self._refuse_input(names)  # before the note, which has the next run remove the file
            self._begun.note(names)
        descriptor = self._tree.open(self._real(names), make=is_new)
        try:
            self._take(names, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._open[names] = descriptor
        return descriptor

    def _refuse_input(self, names: Names) -> None:
        """Raise :exc:`~m3.errors.StateError` if the file is there, and is read."""
        with suppress(FileNotFoundError):
            descriptor = self._tree.open(names, make=False)
            try:
                self._inputs.refuse(self._name(names), descriptor, emptying=True)
            finally:
                os.close(descriptor)

    def _take(self, names: Names, descriptor: int) -> None:
        """Begin with a file, or see whether it is as it was when it was closed."""
        if names not in self._files:
            written = Written(self._name(names))
            written.begin(descriptor, append=self._mode == "append")
            self._files[names] = written
            self._new_folders.add(names[:-1])
        elif self._mode == "in place":
            self._files[names].check(descriptor)

    def _real(self, names: Names) -> Names:
        """Return where a file is until the end."""
        if self._mode != "replace":
            return names
        number = len(self._temporaries)
        temporary = self._temporaries.setdefault(names, f".m3-{self._token}-{number}.tmp")
        return (*names[:-1], temporary)

    def _put_in_place(self) -> None:
        for names, temporary in list(self._temporaries.items()):
            with self._tree.folder(names[:-1]) as folder:
                with suppress(FileNotFoundError):
                    old = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
                    if stat.S_ISREG(old.st_mode):
                        os.chmod(temporary, stat.S_IMODE(old.st_mode), dir_fd=folder)
                os.replace(temporary, names[-1], src_dir_fd=folder, dst_dir_fd=folder)
            del self._temporaries[names]
        for folders in sorted({names[:-1] for names in self._files}):
            self._tree.sync(folders)

    def _discard(self) -> None:
        for names, temporary in self._temporaries.items():
            with suppress(OSError), self._tree.folder(names[:-1]) as folder:
                os.unlink(temporary, dir_fd=folder)

    def _name(self, names: Names) -> str:
        return str(Path(self._root, *names))


def leads_down(path: Any) -> bool:
    """Say whether a path in a mark can be one that we have written."""
    return isinstance(path, str) and not {"", ".", ".."} & set(path.split("/"))
