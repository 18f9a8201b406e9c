"""
Extract, transform, load: from a web server's log to the failing pages, as JSON.

    python examples/log_report.py [ACCESS_LOG]

Lines that are not requests are skipped and counted, requests that went well are
filtered out, and every line that a frontend produced appears in the report.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3 import DROP, Backend, Frontend, Item, Pipeline

LOG = Path(__file__).parent / "data" / "access.log"
REQUEST = re.compile(r'\S+ \S+ \S+ \[[^]]+\] "(?:\S+) (?P<page>\S+)[^"]*" (?P<status>\d{3}) ')


@dataclass(frozen=True)
class Request:
    """What the report needs of a line."""

    page: str
    status: int


class Lines(Frontend[str]):
    """The lines of a text file; an error about one names its number."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def produce(self) -> Iterator[Item]:
        with self.path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                yield Item(line, position=number)


def parse(line: str) -> Request:
    """Return the request that a line tells of."""
    found = REQUEST.match(line)
    if found is None:
        raise ValueError("not a request")
    return Request(found["page"].partition("?")[0], int(found["status"]))


def failing(request: Request) -> Any:
    """Let through only what the server refused or got wrong."""
    return request if request.status >= 400 else DROP


class Pages(Backend[Request]):
    """Counts failures by page; one instance, made below, so that we can read it."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()

    def process(self, data: Request) -> None:
        self.failures[f"{data.status} {data.page}"] += 1


def main(path: Path = LOG) -> None:
    """Print the failing pages of the log as JSON, and what became of its lines."""
    pages = Pages()
    report = (
        Pipeline(Lines, path=path)
        .transport(parse, workers=2, on_error="skip")
        .transport(failing, workers=0)
        .backend(pages)
        .run()
    )
    print(json.dumps(dict(pages.failures.most_common()), indent=2))
    print(
        f"{report.produced} lines: {report.delivered} failing requests, "
        f"{report.dropped} others, {report.failed} unreadable",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
