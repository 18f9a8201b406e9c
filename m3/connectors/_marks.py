"""What a connector keeps to go on from, and what is checked when it comes back."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

from m3.errors import StateError, abridged

__all__ = ("hash_of_names", "same_files", "values_of")


def hash_of_names(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Return by what a list of files is recognised, however long it is."""
    names = "\0".join([os.fspath(path) for path in paths])
    return hashlib.blake2b(os.fsencode(names), digest_size=16).hexdigest()


def same_files(paths: Sequence[str | os.PathLike[str]], file: int, path: str, names: str) -> None:
    """
    Check that the files up to the number *file*, which is called *path*, are named as they were.

    Raises:
        StateError: they are not.
    """
    if not 0 <= file < len(paths) or hash_of_names(paths[: file + 1]) != names:
        raise StateError(
            f"an earlier run has come to {path}, its file number {file + 1}, and this run is "
            "given other files; give it the same, or begin again without the kept state"
        )


def values_of(mark: Any, **kinds: type) -> tuple[Any, ...]:
    """
    Return what *mark*, a dictionary, has under the names of *kinds*, each of its kind.

    Raises:
        StateError: it is no such dictionary.
    """
    fits = isinstance(mark, dict) and mark.keys() == kinds.keys()
    if not fits or not all(type(mark[name]) is kind for name, kind in kinds.items()):
        raise StateError(
            f"this is no checkpoint of such a stage: {abridged(mark)}; is the kept state that of "
            "another pipeline?"
        )
    return tuple(mark[name] for name in kinds)
