"""
Compute the SHA-256 of all files in a folder, on all cores, as ``sha256sum`` prints it.

    python examples/hash_files.py [FOLDER]

``hashlib`` lets go of the GIL while it works, so threads share the cores.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from m3 import Pipeline, Transport


def files(folder: Path) -> Iterator[Path]:
    """Yield the regular files in *folder* and below."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


class Digest(Transport[Path, tuple[str, Path]]):
    """Reads a file through a buffer that is allocated once per worker."""

    def setup(self) -> None:
        self.buffer = memoryview(bytearray(1 << 18))

    def transport(self, data: Path) -> tuple[str, Path]:
        digest = hashlib.sha256()
        with data.open("rb", buffering=0) as file:
            while size := file.readinto(self.buffer):
                digest.update(self.buffer[:size])
        return digest.hexdigest(), data


def show(line: tuple[str, Path]) -> None:
    """Print one line as sha256sum does."""
    print(f"{line[0]}  {line[1]}")


def main(folder: Path = Path(__file__).parent) -> None:
    """Print the digests of the files, in the order of their names."""
    report = (
        Pipeline(files(folder))
        .transport(Digest, workers=os.cpu_count() or 1, ordering="input")
        .backend(show)
        .run()
    )
    print(f"{report.delivered} files in {report.wall:.2f} s", file=sys.stderr)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
