"""What the rounds of one row gave, and what can be read from it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from benchmarks.figures import Figures

__all__ = ("Result", "Target", "at_most", "of_ideal", "over", "per_hop", "rate_of", "times")


@dataclass(slots=True)
class Result:
    """
    The figures of one row.

    Attributes:
        rounds: for each contender, its figures of each round.
        failures: for each contender that could not run, why.
        pythons: for each contender, the version of its interpreter.
        baselines: for a contender that ran on an interpreter of its own, the
            baseline's figures there.
        ideal: items per second if nothing but the work took time.
    """

    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    pythons: dict[str, str] = field(default_factory=dict)
    baselines: dict[str, list[Figures]] = field(default_factory=dict)
    ideal: float | None = None

    def figure(self, name: str, figure: str) -> float:
        """Return the median of a contender's *figure*."""
        return float(median(figures[figure] for figures in self.rounds[name]))

    def ratio(self, name: str, rival: str, figure: str = "rate") -> float:
        """Return the median over the rounds of one figure divided by the other of that round."""
        pairs = zip(self.rounds[name], self.baselines.get(name, self.rounds[rival]), strict=True)
        return float(median(mine[figure] / its[figure] for mine, its in pairs))

    def difference(self, name: str, rival: str, figure: str = "wall") -> float:
        """Return the median over the rounds of how much more *name* took than *rival*."""
        pairs = zip(self.rounds[name], self.rounds[rival], strict=True)
        return float(median(mine[figure] - its[figure] for mine, its in pairs))

    def has(self, *names: str) -> bool:
        """Return whether all of *names* have figures."""
        return all(name in self.rounds for name in names)


@dataclass(frozen=True, slots=True)
class Target:
    """
    What a row asks of m3.

    Attributes:
        contenders: who must have been measured for it.
        value: reads what was reached from a result.
        text: what the value is, with a place for the number.
        must: what it must reach, if anything.
        aim: what would be fine, if anything.
        scale: what the value is multiplied with to be shown.
        is_limit: whether the value must stay under the numbers, not over them.
    """

    contenders: tuple[str, ...]
    value: Callable[[Result], float]
    text: str
    must: float | None = None
    aim: float | None = None
    scale: float = 1.0
    is_limit: bool = False

    def reached(self, result: Result) -> float | None:
        """Return what was reached, or :data:`None` if it was not measured."""
        return self.value(result) if result.has(*self.contenders) else None

    def verdict(self, value: float | None) -> str:
        """Return one word on *value*."""
        if value is None:
            return "not measured"
        if self.aim is not None and self.satisfies(value, self.aim):
            return "aim"
        if self.must is None:
            return "below the aim"
        return "reached" if self.satisfies(value, self.must) else "missed"

    def satisfies(self, value: float, bound: float) -> bool:
        """Return whether *value* is on the right side of *bound*."""
        return value <= bound if self.is_limit else value >= bound

    def show(self, value: float | None) -> str:
        """Return *value*, or the word for none, as the table has it."""
        return "-" if value is None else self.text.format(f"{value * self.scale:.3g}")


def times(
    of: str, rival: str, must: float | None, aim: float | None = None, name: str = ""
) -> Target:
    """Ask *of* for so many times the rate of *rival*, called *name*."""
    return Target(
        (of, rival), lambda result: result.ratio(of, rival), f"{{}} x {name or rival}", must, aim
    )


def of_ideal(of: str, aim: float) -> Target:
    """Ask *of* for so much of the rate that the work alone would allow."""

    def share(result: Result) -> float:
        assert result.ideal is not None
        return result.figure(of, "rate") / result.ideal

    return Target((of,), share, "{} of the ideal", aim=aim)


def rate_of(of: str, aim: float) -> Target:
    """Ask *of* for so many per second."""
    return Target((of,), lambda result: result.figure(of, "rate"), "{} per second", aim=aim)


def at_most(of: str, figure: str, must: float, aim: float) -> Target:
    """Ask *of* for a *figure* of no more seconds, which are shown as microseconds."""
    return Target(
        (of,), lambda result: result.figure(of, figure), f"{figure} {{}} µs", must, aim, 1e6, True
    )


def per_hop(of: str, rival: str, hops: int, must: float) -> Target:
    """Ask *of* for no more processor time over *rival*, per item and hop; shown as nanoseconds."""
    return Target(
        (of, rival),
        lambda result: result.difference(of, rival, "cpu") / hops,
        f"{of}: {{}} ns per item and hop",
        must,
        scale=1e9,
        is_limit=True,
    )


def over(of: str, rival: str, must: float, aim: float) -> Target:
    """Ask *of* for no more seconds over *rival*, which are shown as milliseconds."""
    return Target(
        (of, rival),
        lambda result: result.difference(of, rival),
        f"{{}} ms over {rival}",
        must,
        aim,
        1e3,
        True,
    )
