"""
The long version of the oracle: many kills in each scenario, and a table of what came of them.

    python tests/oracle --kills 600 --json results.json
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median

import postgresql
from killing import RunError
from oracle import Oracle, Outcome
from scenarios import SCENARIOS

COLUMNS = (
    "pipeline",
    "level",
    "kills",
    "records",
    "missing",
    "foreign",
    "duplicates",
    "per kill: p50 / p99 / most",
    "most beyond the mark",
    "seconds",
)


def row(outcome: Outcome) -> str:
    """Return what came of a scenario as a row of the table."""
    repeated = sorted(outcome.repeated)
    each = "-"
    if repeated:
        p99 = repeated[min(len(repeated) - 1, len(repeated) * 99 // 100)]
        each = f"{median(repeated):.0f} / {p99} / {repeated[-1]}"
    values = (
        outcome.scenario,
        outcome.level,
        sum(outcome.kills.values()),
        outcome.records,
        outcome.missing + outcome.lost,
        outcome.foreign + outcome.unbidden,
        outcome.duplicates,
        each,
        max(outcome.beyond, default=0),
        f"{outcome.seconds:.0f}",
    )
    return "| " + " | ".join(map(str, values)) + " |"


def main() -> int:
    """Run the scenarios one after the other; return 1 if one has not kept its promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=600, help="in all scenarios together")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--only", default="", help="scenarios with this in their names")
    parser.add_argument("--json", type=Path, help="a file for the results")
    options = parser.parse_args()
    chosen = [each for each in SCENARIOS if options.only in each.name]
    if not postgresql.is_there():
        chosen = [each for each in chosen if each.needs != "pg8000"]
    outcomes = []
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for scenario in chosen:
        with tempfile.TemporaryDirectory() as folder:
            oracle = Oracle(scenario, Path(folder) / "run", count=scenario.count, seed=options.seed)
            try:
                oracle.ask(-(-options.kills // len(chosen)))
            except RunError as error:
                oracle.outcome.error = str(error)
        outcomes.append(oracle.outcome)
        print(row(oracle.outcome), flush=True)
    kinds = sum((Counter(each.kills) for each in outcomes), Counter())
    print(f"\n{kinds.total()} kills: {dict(kinds)}")
    if options.json:
        results = [dataclasses.asdict(each) for each in outcomes]
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    failed = [each for each in outcomes if not each.keeps_promise()]
    for outcome in failed:
        print(f"NOT KEPT: {outcome.scenario}\n{outcome.error}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
