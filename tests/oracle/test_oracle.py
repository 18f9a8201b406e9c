"""
The short version of the oracle: each pipeline is killed a few times, at fixed moments.

``tox -e oracle`` runs the long one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import postgresql
import pytest
from found import Verdict
from killing import Usual
from oracle import Oracle, Outcome
from scenarios import SCENARIOS

HERE = Path(__file__).parent

KILLS = 2
RECORDS = 1000
USUAL = Usual(start=0.25, whole=0.6)
"""As on most machines; where it is not so, the kills land elsewhere."""


def cases():
    """Return the scenarios as parameters; one that needs a server is marked."""
    return [
        pytest.param(
            scenario,
            id=scenario.name,
            marks=[pytest.mark.services] if scenario.needs == "pg8000" else [],
        )
        for scenario in SCENARIOS
    ]


@pytest.mark.parametrize("scenario", cases())
def test_nothing_is_lost_and_nothing_comes_that_should_not(scenario, tmp_path):
    """After kills at random moments the sink has what was issued, as often as the level says."""
    if scenario.needs:
        pytest.importorskip(scenario.needs)
    if scenario.needs == "pg8000" and not postgresql.is_there():
        is_required = os.environ.get("M3_REQUIRE_SERVICES")
        (pytest.fail if is_required else pytest.skip)("PostgreSQL cannot be used")
    outcome = Oracle(scenario, tmp_path / "run", count=RECORDS, seed=1).ask(KILLS, USUAL)
    assert sum(outcome.kills.values()) == KILLS
    assert outcome.keeps_promise(), outcome


def test_the_oracle_finds_what_is_wrong():
    """Records that are missing, that are there twice, and that nobody has issued, are found."""
    issued = {(1, "A"), (2, "B"), (3, "C")}
    assert Verdict.of(issued, [(1, "A"), (2, "B"), (3, "C")]) == Verdict(0, 0, 0)
    assert Verdict.of(issued, [(1, "A"), (3, "c"), (1, "A"), (1, "A")]) == Verdict(2, 2, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"missing": 1},
        {"foreign": 1},
        {"lost": 1},
        {"unbidden": 1},
        {"duplicates": 1},
        {"error": "x"},
    ],
)
def test_a_promise_that_is_not_kept_is_told(wrong):
    """Whatever is wrong with a pipeline that delivers effectively once makes its scenario fail."""
    assert Outcome("a pipeline", "effectively once").keeps_promise()
    assert not Outcome("a pipeline", "effectively once", **wrong).keeps_promise()


def test_at_least_once_may_repeat_what_was_under_way_and_no_more():
    """Where a sink cannot go back, as many may come twice as were beyond the mark at a kill."""
    assert Outcome("a pipeline", "at least once", duplicates=5, beyond=[2, 3]).keeps_promise()
    assert not Outcome("a pipeline", "at least once", duplicates=6, beyond=[2, 3]).keeps_promise()
    assert not Outcome("a pipeline", "at least once", beyond=[70_000]).keeps_promise()


def test_the_table_is_printed_and_the_results_are_written(tmp_path):
    """The command of the long version runs, here with a single kill."""
    command = [sys.executable, HERE, "--kills=1", "--only=file to file", "--json=results.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| file to file | effectively once | 1 |" in done.stdout
    (outcome,) = json.loads((tmp_path / "results.json").read_text())
    assert outcome["missing"] == outcome["duplicates"] == 0
