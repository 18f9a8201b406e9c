"""The table, as Markdown: for the terminal, for docs/benchmarks.md and for the README."""

from collections.abc import Callable, Iterable, Iterator
from statistics import median

from benchmarks.results import Result
from benchmarks.rows import Contender, Row
from benchmarks.stamp import stamp
from benchmarks.systems import NOT_INSTALLABLE, SYSTEMS

__all__ = ("Measured", "one", "page", "row_table", "share", "summary", "target_table", "warning")

NONE = "-"
"""What a cell without a number shows."""

Measured = list[tuple[Row, Result]]

INTRODUCTION = """\
# Benchmarks

Made by `python -m benchmarks.run`; do not edit. Each system ran in a process of
its own, the systems in turn, {rounds} rounds of about {seconds:g} s each; every
number is a median, and every ratio is the median of the ratios within a round,
because the machine changes its speed from one minute to the next. Compare
numbers of one table only. How to run and read this, and where we are biased:
`benchmarks/README.md` in the repository.
"""


QUIET = 0.9


def share_of_a_core(measured: Measured) -> float | None:
    """Return how much of a core the bare loop got, which with nothing else running is all."""
    shares = [
        result.figure("bare", "cpu") * result.figure("bare", "rate")
        for row, result in measured
        if row.kind == "rate" and not row.freethreaded and result.has("bare")
    ]
    return median(shares) if shares else None


def warning(measured: Measured) -> str | None:
    """Return what to say of a machine that had other work, or :data:`None` if it was quiet."""
    got = share_of_a_core(measured)
    if got is None or got >= QUIET:
        return None
    return (
        f"The machine was busy: the bare loop got {got:.0%} of a core, and systems with several "
        "threads got a larger part of the machine than those with one. Do not quote these figures."
    )


def page(measured: Measured, *, rounds: int, seconds: float) -> Iterator[str]:
    """Yield the lines of docs/benchmarks.md."""
    yield from INTRODUCTION.format(rounds=rounds, seconds=seconds).splitlines()
    yield ""
    caveat = warning(measured)
    if caveat is not None:
        yield f"**{caveat}**"
        yield ""
    yield from aligned(("", ""), stamp().items())
    yield ""
    yield "## What m3 must reach, and what it reaches"
    yield ""
    yield from target_table(measured)
    yield ""
    yield "![Items per second of every system, a panel for each kind of work](benchmarks.svg)"
    for row, result in measured:
        yield ""
        yield f"## {row.title}"
        yield ""
        yield from row_table(row, result)


def row_table(row: Row, result: Result) -> Iterator[str]:
    """Yield the table of one row, best first, and what there is to say on it."""
    columns = {
        heading.format(one=one(row)): column
        for heading, column in COLUMNS[row.kind].items()
        if row.baseline is not None or column is not cpu_cell
    }
    present = [contender for contender in row.contenders if result.has(contender.name)]
    if row.kind in ("rate", "wait"):
        present.sort(key=lambda contender: -result.figure(contender.name, "rate"))
    cells = (
        (contender.label, *(column(row, result, contender) for column in columns.values()))
        for contender in present
    )
    if present:
        yield from aligned(("system", *columns), cells)
    yield from notes(row, result)


def notes(row: Row, result: Result) -> Iterator[str]:
    """Yield what the numbers of a row do not say."""
    lines = [row.note] if row.note else []
    for contender in row.contenders:
        reason = result.failures.get(contender.name)
        if reason is not None:
            lines.append(f"{contender.label}: {explained(contender, reason)}.")
        elif contender.name in result.baselines:
            python = result.pythons[contender.name]
            lines.append(
                f"{contender.label}: on CPython {python}, compared with the bare loop there."
            )
    for line in lines:
        yield ""
        yield line


def explained(contender: Contender, reason: str) -> str:
    """Return why a contender has no figures."""
    if reason.startswith("ModuleNotFoundError") and contender.name in NOT_INSTALLABLE:
        return f"not installable here: {NOT_INSTALLABLE[contender.name]}"
    return f"not measured: {reason.rstrip('.')}"


def target_table(measured: Measured) -> Iterator[str]:
    """Yield the table of what was asked for and what was reached."""
    cells = []
    for row, result in measured:
        for target in row.targets:
            value = target.reached(result)
            cells.append(
                (
                    row.title,
                    target.show(value),
                    bound(target.must, target.scale),
                    bound(target.aim, target.scale),
                    target.verdict(value),
                )
            )
    yield from aligned(("work", "m3", "must", "aim", ""), cells)


def bound(value: float | None, scale: float) -> str:
    """Return a target's number."""
    return NONE if value is None else f"{value * scale:.3g}"


SUMMARY = ("noop-1", "noop-3", "sleep", "random-sleep", "sha256", "spin")


def summary(measured: Measured) -> Iterator[str]:
    """Yield the short table of the README: a line per system, a column per kind of work."""
    chosen = [(row, result) for row, result in measured if row.name in SUMMARY]
    if not chosen:
        return
    cells = []
    for name, label in SYSTEMS.items():
        shares = [share(row, result, name) for row, result in chosen]
        if any(value is not None for value in shares):
            shown = (NONE if value is None else f"{value:.3g}" for value in shares)
            cells.append((f"**{label}**" if name == "m3_pipeline" else label, *shown))
    yield from aligned(("", *(row.title for row, _ in chosen)), cells)
    facts = stamp()
    yield ""
    yield (
        "Items per second as a multiple of the bare loop's, or of what the sleeping alone allows; "
        f"{facts['Python']}, {facts['machine']}, {facts['date']}. "
        "[All rows, processor time and memory](docs/benchmarks.md)."
    )


def share(row: Row, result: Result, name: str) -> float | None:
    """Return a contender's rate as a multiple of the baseline's or the ideal."""
    if not result.has(name):
        return None
    if row.ideal is not None:
        return result.figure(name, "rate") / row.ideal
    if row.baseline is not None and result.has(row.baseline):
        return result.ratio(name, row.baseline)
    return None


def one(row: Row) -> str:
    """Return what a share of 1 is in *row*."""
    if row.ideal is not None:
        return f"the ideal {row.ideal:,.0f}"
    labels = {contender.name: contender.label for contender in row.contenders}
    return labels.get(row.baseline or "", "nothing")


def share_cell(row: Row, result: Result, contender: Contender) -> str:
    value = share(row, result, contender.name)
    return NONE if value is None else f"{value:.3g}"


def figure_cell(figure: str, scale: float = 1.0) -> Callable[[Row, Result, Contender], str]:
    """Return a column of a figure's medians."""

    def cell(_row: Row, result: Result, contender: Contender) -> str:
        return number(result.figure(contender.name, figure) * scale)

    return cell


def wall_cell(_row: Row, result: Result, contender: Contender) -> str:
    return number(1e6 / result.figure(contender.name, "rate"))


def cpu_cell(row: Row, result: Result, contender: Contender) -> str:
    if row.baseline is None or not result.has(row.baseline):
        return NONE
    return number(result.ratio(contender.name, row.baseline, "cpu"))


def over_cell(row: Row, result: Result, contender: Contender) -> str:
    return number(result.difference(contender.name, row.contenders[0].name) * 1e3)


COLUMNS: dict[str, dict[str, Callable[[Row, Result, Contender], str]]] = {
    "rate": {
        "per second": figure_cell("rate"),
        "of {one}": share_cell,
        "µs each": wall_cell,
        "CPU µs each": figure_cell("cpu", 1e6),
        "CPU x {one}": cpu_cell,
    },
    "wait": {
        "per second": figure_cell("rate"),
        "of {one}": share_cell,
        "p50 µs": figure_cell("p50", 1e6),
        "p99 µs": figure_cell("p99", 1e6),
        "CPU µs each": figure_cell("cpu", 1e6),
    },
    "latency": {
        "p50 µs": figure_cell("p50", 1e6),
        "p99 µs": figure_cell("p99", 1e6),
        "CPU µs each": figure_cell("cpu", 1e6),
    },
    "start": {
        "ms": figure_cell("wall", 1e3),
        "ms over the first": over_cell,
        "CPU ms": figure_cell("cpu", 1e3),
    },
    "memory": {
        "MiB": figure_cell("memory", 1 / 2**20),
        "items": figure_cell("count"),
    },
}


def number(value: float) -> str:
    """Return *value* with three digits that count and commas."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def aligned(headings: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield a Markdown table whose columns line up; all but the first are numbers."""
    table = [tuple(headings), *lines]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*table, strict=True)]

    def line(cells: Iterable[str]) -> str:
        first, *rest = (
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join((first, *rest))} |"

    yield line(table[0])
    yield f"|{'-' * (widths[0] + 2)}|{'|'.join('-' * (width + 1) + ':' for width in widths[1:])}|"
    yield from map(line, table[1:])
