"""The plot of docs/benchmarks.md, written as SVG by hand: a panel of bars for each kind of work."""

from collections.abc import Iterator
from html import escape

from benchmarks.report import Measured, one, share
from benchmarks.results import Result
from benchmarks.rows import Row

__all__ = ("plot",)

PANEL_WIDTH = 460
LABEL_WIDTH = 182
VALUE_WIDTH = 52
BAR_HEIGHT = 15
BAR_STEP = 21
HEADER = 46
GAP = 28
COLUMNS = 2

STYLE = """\
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #3b4252; }
  .title { font-size: 14px; font-weight: 600; fill: #1f2530; }
  .unit { font-size: 11px; fill: #6b7280; }
  .page { fill: #ffffff; }
  .value { stroke: #ffffff; stroke-width: 4px; paint-order: stroke; }
  .bar { fill: #b8c0cc; }
  .m3 { fill: #d9480f; }
  text.ours { font-weight: 600; fill: #1f2530; }
  .one { stroke: #1f2530; stroke-width: 1; stroke-dasharray: 2 3; opacity: 0.55; }
  @media (prefers-color-scheme: dark) {
    text { fill: #c3cad6; }
    .title, text.ours { fill: #f1f3f6; }
    .unit { fill: #8b95a5; }
    .page { fill: #14171c; }
    .value { stroke: #14171c; }
    .bar { fill: #4a5361; }
    .m3 { fill: #ff7a3d; }
    .one { stroke: #f1f3f6; }
  }"""

Bar = tuple[str, str, float]


def plot(measured: Measured) -> str:
    """Return the drawing of all rows that have a share to show."""
    panels = [(row, bars(row, result)) for row, result in measured if row.kind == "rate"]
    panels = [(row, found) for row, found in panels if found]
    columns: list[list[str]] = [[] for _ in range(COLUMNS)]
    heights = [GAP] * COLUMNS
    for row, found in panels:
        column = heights.index(min(heights))
        left = GAP + column * (PANEL_WIDTH + GAP)
        columns[column].append(f'<g transform="translate({left} {heights[column]})">')
        columns[column] += [f"  {line}" for line in panel(row, found)]
        columns[column].append("</g>")
        heights[column] += HEADER + BAR_STEP * len(found) + GAP
    width, height = GAP + COLUMNS * (PANEL_WIDTH + GAP), max(heights)
    drawing = [line for column in columns for line in column]
    return "\n".join([*opening(width, height), *drawing, "</svg>", ""])


def opening(width: int, height: int) -> Iterator[str]:
    """Yield the beginning of the drawing."""
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    yield "<title>Throughput of m3 and of the other systems</title>"
    yield f"<style>\n{STYLE}\n</style>"
    yield f'<rect class="page" width="{width}" height="{height}" rx="8"/>'


def bars(row: Row, result: Result) -> list[Bar]:
    """Return name, label and share of each contender of *row*, the best first."""
    found = [
        (contender.name, contender.label, value)
        for contender in row.contenders
        if (value := share(row, result, contender.name)) is not None
    ]
    return sorted(found, key=lambda bar: -bar[2])


def panel(row: Row, found: list[Bar]) -> Iterator[str]:
    """Yield one panel; its bars are drawn to a linear scale of its own."""
    room = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH
    longest = max(1.0, *(value for _, _, value in found))
    yield f'<text class="title" y="13">{escape(row.title)}</text>'
    yield f'<text class="unit" y="30">{escape(unit(row))}</text>'
    mark = LABEL_WIDTH + room / longest
    bottom = HEADER + len(found) * BAR_STEP - BAR_STEP + BAR_HEIGHT + 3
    yield f'<line class="one" x1="{mark:.1f}" x2="{mark:.1f}" y1="{HEADER - 5}" y2="{bottom}"/>'
    for index, (name, label, value) in enumerate(found):
        top = HEADER + index * BAR_STEP
        middle = top + BAR_HEIGHT - 3.5
        ours = " ours" if is_ours(name) else ""
        length = max(1.5, room * value / longest)
        yield (
            f'<text class="label{ours}" x="{LABEL_WIDTH - 8}" y="{middle}" '
            f'text-anchor="end">{escape(label)}</text>'
        )
        yield (
            f'<rect class="{"m3" if ours else "bar"}" x="{LABEL_WIDTH}" y="{top}" '
            f'width="{length:.1f}" height="{BAR_HEIGHT}" rx="2"/>'
        )
        yield (
            f'<text class="value{ours}" x="{LABEL_WIDTH + length + 6:.1f}" '
            f'y="{middle}">{value:.3g}</text>'
        )


def is_ours(name: str) -> bool:
    """Return whether a contender is m3 or a part of it."""
    return name.startswith("m3") or name in ("BoundedQueue", "RecordQueue")


def unit(row: Row) -> str:
    """Return what 1 means in the panel of *row*."""
    return f"items per second, as a multiple of {one(row)}"
