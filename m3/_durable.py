"""What is to outlive a loss of power."""

import os
from pathlib import Path

__all__ = ("sync",)


def sync(path: Path) -> None:
    """Block until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
