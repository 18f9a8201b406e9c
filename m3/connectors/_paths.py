"""From what a user names to a list of files: files, patterns, directories."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from m3.errors import ConfigError

__all__ = ("FilePath", "FilePaths", "expanded", "is_stream", "named")

FilePath = str | os.PathLike[str]
FilePaths = FilePath | Sequence[FilePath]

UNFINISHED = ".tmp"
"""How the names of files end that somebody is still writing, here and elsewhere."""


def named(path: FilePaths) -> list[FilePath]:
    """
    Return *path*, or the paths in it, as a list.

    Raises:
        ConfigError: there is none.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise ConfigError("path: no file is named")
    return paths


def expanded(paths: Sequence[FilePath]) -> list[str]:
    """
    Return the files that *paths* stand for, each once, in their order.

    What is there under a name is what is meant by it.  A directory stands for
    the files in and below it, sorted, without hidden ones and those that end in
    ``.tmp``; links to directories are not followed there.  Otherwise a name
    with ``*``, ``?`` or ``[`` is a pattern, ``**`` for any number of
    directories, and stands for all files that match, sorted; for those in
    ``.tmp`` only if it ends so itself.

    Raises:
        ConfigError: a pattern or directory has no file.
        OSError: a directory cannot be read.
    """
    return list(dict.fromkeys(file for path in paths for file in _files(path)))


def is_stream(path: FilePath) -> bool:
    """Say whether *path* is there and is no regular file, or stands for a descriptor."""
    if os.fspath(path).startswith(("/dev/", "/proc/")):
        return True
    return Path(path).exists() and not Path(path).is_file()


def _files(path: FilePath) -> list[str]:
    name = os.fspath(path)
    if os.path.isdir(name):  # noqa: PTH112 - a Path would change how the name is written
        files = list(_below(name))
        if not files:
            raise ConfigError(
                f"path={name!r}: there is no file in this directory (hidden ones and *.tmp "
                "are left out)"
            )
    elif os.path.lexists(name) or not glob.has_magic(name):
        return [name]
    else:
        files = [file for file in glob.glob(name, recursive=True) if _is_meant(file, name)]  # noqa: PTH207
        if not files:
            raise ConfigError(f"path={name!r}: no file matches this pattern")
    return sorted(files, key=lambda file: Path(file).parts)


def _is_meant(file: str, pattern: str) -> bool:
    unfinished = file.endswith(UNFINISHED) and not pattern.endswith(UNFINISHED)
    return not unfinished and Path(file).is_file()


def _below(directory: str) -> Iterator[str]:
    for folder, folders, files in os.walk(directory, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            file = os.path.join(folder, name)  # noqa: PTH118 - as os.walk names it
            if not name.startswith(".") and not name.endswith(UNFINISHED) and Path(file).is_file():
                yield file


def _raise(error: OSError) -> None:
    raise error
