"""The long version: ``python tests/oracle --kills 500``."""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from oracle import Oracle, Outcome
from scenarios import SCENARIOS

COLUMNS = ("scenario", "level", "rounds", "kills", "records", "missing", "duplicates", "foreign")


def row(outcome: Outcome) -> str:
    """Return a row of the table."""
    values = {**dataclasses.asdict(outcome), "kills": outcome.kills.total()}
    return "| " + " | ".join(f"{values[name]}" for name in COLUMNS) + f" | {outcome.seconds:.0f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="scenarios with this in their names")
    parser.add_argument("--json", type=Path, help="a file for the results")
    options = parser.parse_args()
    chosen = [each for each in SCENARIOS if options.only in each.name]
    outcomes = []
    print("| " + " | ".join((*COLUMNS, "seconds")) + " |")
    print("|" + "---|" * (len(COLUMNS) + 1), flush=True)
    for scenario in chosen:
        with tempfile.TemporaryDirectory() as folder:
            oracle = Oracle(scenario, Path(folder) / "run", count=scenario.count, seed=options.seed)
            outcomes.append(oracle.ask(-(-options.kills // len(chosen))))
        print(row(outcomes[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(each) for each in outcomes], indent=1))
    return int(any(each.missing or each.foreign for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
