"""Progress as a table, drawn by rich; the only module that imports it."""

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from m3.observe.rates import Rates, StageRate

__all__ = ("TablePainter", "table")

BAR_WIDTH = 16


class TablePainter:
    """
    A table of the stages, redrawn in place below what is written to stderr.

    Colours follow ``NO_COLOR``.
    """

    period = 0.25

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False
        )

    def paint(self, rates: Rates) -> None:
        """Draw the table."""
        if not self._live.is_started:
            self._live.start()
        self._live.update(table(rates), refresh=True)

    def close(self) -> None:
        """Take the table away."""
        self._live.stop()


def table(rates: Rates) -> Group:
    """Return the picture of *rates*: a line of totals and a table of the stages."""
    report = rates.report
    headline = (
        f"{report.name}: {report.produced:,} produced, {report.delivered:,} delivered, "
        f"{report.in_flight:,} in flight, {rates.items:,.0f} items/s, {report.wall:.0f} s"
    )
    drawn = Table(box=None, pad_edge=False)
    for heading in ("stage", "workers", "items", "items/s", "busy"):
        drawn.add_column(heading, justify="left" if heading == "stage" else "right")
    drawn.add_column("queue")
    drawn.add_column("")
    slowest = rates.slowest
    for stage in rates.stages:
        drawn.add_row(*_row(stage), _bar(stage), Text("slowest" if stage is slowest else ""))
    return Group(Text(headline), drawn)


def _row(stage: StageRate) -> list[Text]:
    report = stage.report
    return [
        Text(report.name),
        Text(str(report.workers)),
        Text(f"{report.items_out:,}"),
        Text(f"{stage.items:,.0f}"),
        Text(f"{stage.busy:.0%}"),
    ]


def _bar(stage: StageRate) -> ProgressBar | Text:
    if stage.fill is None:
        return Text("")
    return ProgressBar(total=1.0, completed=stage.fill, width=BAR_WIDTH)
