"""
One pipeline that writes to different places, chosen by an id.

    python examples/backend_pool.py memory
    python examples/backend_pool.py folder /tmp/letters

The stages know a pool of storages; which of them is meant is said once, outside.
"""

import sys
from pathlib import Path
from typing import Protocol

from m3 import Backend, BackendPool, Pipeline, configure
from m3.pools import ThreadSafeCreateMixin


class Storage(Protocol):
    """What every storage can do."""

    def write(self, name: str, text: str) -> None:
        """Keep *text* under *name*."""


class Memory(ThreadSafeCreateMixin):
    """Keeps texts in a dictionary."""

    id = "memory"

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def write(self, name: str, text: str) -> None:
        self.texts[name] = text

    def close(self) -> None:
        print(f"memory: {len(self.texts)} texts are forgotten")


class Folder(ThreadSafeCreateMixin):
    """Keeps texts in files."""

    id = "folder"

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def close(self) -> None:
        print(f"folder: {len(list(self.root.iterdir()))} files are in it")


class StoragePool(BackendPool):
    """All storages."""

    backend_type = "storage"
    interface = Storage


class Keep(Backend[str]):
    """Writes each letter to the storage that was chosen."""

    storage: StoragePool

    def process(self, letter: str) -> None:
        self.storage.default.write(letter, letter)


def main(arguments: list[str]) -> None:
    """Write 26 letters to the storage that was chosen."""
    options: dict[str, dict[str, str]] = {}
    match arguments or ["memory"]:
        case ["memory" as chosen]:
            pass
        case ["folder" as chosen, root]:
            options["folder"] = {"root": root}
        case _:
            sys.exit("usage: python examples/backend_pool.py memory | folder ROOT")
    configure(pools={"storage": [Memory, Folder]})
    pool = StoragePool(default=chosen, options=options)
    letters = [chr(ord("a") + number) for number in range(26)]
    Pipeline(letters, resources={StoragePool: pool}).backend(Keep, workers=4).run()


if __name__ == "__main__":
    main(sys.argv[1:])
