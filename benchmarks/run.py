"""``python -m benchmarks.run``: measure everything, print the table, write the page."""

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.plot import plot
from benchmarks.report import Measured, page, row_table, summary, target_table, warning
from benchmarks.rounds import ROOT, Laboratory
from benchmarks.rows import ROWS, Row

__all__ = ("main",)

BLOCK = re.compile(r"(<!-- benchmarks:start -->\n).*?(<!-- benchmarks:end -->)", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks for."""
    options = parser().parse_args(arguments)
    rounds, seconds = (3, 0.2) if options.quick else (7, 0.8)
    laboratory = Laboratory(
        options.rounds or rounds,
        options.seconds or seconds,
        options.freethreaded,
        tuple(options.also),
    )
    measured = measure(laboratory, chosen(options.only))
    print("## targets", *target_table(measured), sep="\n")
    if options.output is not None or not options.only:
        write(measured, laboratory, options.output or ROOT / "docs")
    caveat = warning(measured)
    if caveat is not None:
        print(f"{caveat} README.md is left as it was.", file=sys.stderr)
    elif not options.only:
        refresh(ROOT / "README.md", summary(measured))


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    made.add_argument("--quick", action="store_true", help="3 short rounds instead of 7 long ones")
    made.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        choices=[row.name for row in ROWS],
        help="measure this row and write no page; may be repeated: %(choices)s",
    )
    made.add_argument(
        "--freethreaded",
        metavar="PATH",
        default=os.environ.get("M3_FREETHREADED"),
        help="an interpreter without the GIL that has m3, for its rows (or M3_FREETHREADED)",
    )
    made.add_argument(
        "--also",
        action="append",
        default=os.environ.get("M3_BENCHMARK_PYTHONS", "").split(),
        metavar="PATH",
        help="an interpreter with rivals that this one lacks; may be repeated",
    )
    made.add_argument("--rounds", type=int, help="how often each system is measured")
    made.add_argument("--seconds", type=float, help="about how long a run takes")
    made.add_argument("--output", type=Path, metavar="FOLDER", help="where the page goes")
    return made


def chosen(names: list[str]) -> list[Row]:
    """Return the rows called *names*, or all."""
    return [row for row in ROWS if not names or row.name in names]


def measure(laboratory: Laboratory, rows: Iterable[Row]) -> Measured:
    """Measure *rows* and print each as soon as it is there."""
    measured: Measured = []
    for row in rows:
        began = time.monotonic()
        result = laboratory.run(row)
        measured.append((row, result))
        print(f"## {row.name}: {row.title}", *row_table(row, result), "", sep="\n", flush=True)
        print(f"{row.name} took {time.monotonic() - began:.0f} s", file=sys.stderr)
    return measured


def write(measured: Measured, laboratory: Laboratory, folder: Path) -> None:
    """Write the page and its plot."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = page(measured, rounds=laboratory.rounds, seconds=laboratory.seconds)
    (folder / "benchmarks.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (folder / "benchmarks.svg").write_text(plot(measured), encoding="utf-8")


def refresh(readme: Path, lines: Iterable[str]) -> None:
    """Replace what is between the benchmark marks of the README, if it has them."""
    text = readme.read_text(encoding="utf-8")
    block = "\n".join(["", *lines, "", ""])
    readme.write_text(BLOCK.sub(lambda match: match[1] + block + match[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
