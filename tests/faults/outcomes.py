"""What became of the items of a run that met a fault."""

from m3.engine.books import OUTCOMES
from m3.engine.report import Report


def residual(counts):
    """Return how many items of a report, or of one as JSON, are not accounted for."""
    if isinstance(counts, Report):
        counts = {name: getattr(counts, name) for name in ("produced", *OUTCOMES)}
    return counts["produced"] - sum(counts[name] for name in OUTCOMES)
