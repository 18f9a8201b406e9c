"""
Count the words of text files.

    python examples/word_count.py [PATH...]

The lines of all files are merged, split into words by two workers and counted
by one.  The same stages work from the shell, as ``make demo`` shows:

    m3 run --app-dir examples --frontend word_count:Lines --set frontend.path=PATH
        --transport word_count:words --backend word_count:Count
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from m3 import Backend, Frontend, Pipeline

LOG = Path(__file__).parent / "data" / "access.log"
WORD = re.compile(rb"[A-Za-z]{3,}")


class Lines(Frontend[bytes]):
    """The lines of a text file, or of all Python sources in a folder and below."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def produce(self) -> Iterator[bytes]:
        """Return an iterator written in C: no Python code runs per line."""
        return chain.from_iterable(self.blocks())

    def blocks(self) -> Iterator[list[bytes]]:
        """Yield the lines file by file."""
        paths = sorted(self.path.rglob("*.py")) if self.path.is_dir() else [self.path]
        for path in paths:
            if "site-packages" not in path.parts:
                yield path.read_bytes().split(b"\n")


def words(line: bytes) -> list[bytes]:
    """Return the words of a line, in small letters."""
    return WORD.findall(line.lower())


class Count(Backend[list[bytes]]):
    """Counts words; writes them down at the end, the most frequent ones first."""

    def __init__(self, output: str | None = None) -> None:
        self.output = output
        self.totals: Counter[bytes] = Counter()

    def process(self, data: list[bytes]) -> None:
        self.totals.update(data)

    def cleanup(self) -> None:
        lines = (f"{count:8} {word.decode()}\n" for word, count in self.totals.most_common())
        if self.output is None:
            sys.stdout.writelines(lines)
        else:
            Path(self.output).write_text("".join(lines), "ascii")


def main(*paths: str) -> None:
    """Count the words of all *paths* together."""
    first, *others = paths or [str(LOG)]
    pipeline = Pipeline(Lines, path=first)
    for other in others:
        pipeline.frontend(Lines, path=other)
    report = pipeline.transport(words, workers=2).backend(Count).run()
    print(f"{report.delivered} lines in {report.wall:.2f} s", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
