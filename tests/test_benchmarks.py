"""The benchmarks run: tiny ones, whose figures mean nothing."""

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import rounds, run  # noqa: E402
from benchmarks.report import warning  # noqa: E402
from benchmarks.results import Result, over, per_hop, times  # noqa: E402
from benchmarks.rounds import Laboratory, MeasurementError  # noqa: E402
from benchmarks.rows import ROWS  # noqa: E402

pytestmark = pytest.mark.once

OPTIONAL = {
    "bytewax_flow",
    "culsans",
    "culsans_by_hand",
    "nameko_service",
    "pypeln_threads",
    "ramos",
    "spdl_pipeline",
}
TINY = Laboratory(rounds=1, seconds=0.002)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "row", [row for row in ROWS if not row.freethreaded], ids=lambda row: row.name
)
def test_every_row_has_figures_of_everybody(row, request):
    """Every system of every row does its work, unless it is a rival not installed here."""
    if row.module == "messages":
        request.getfixturevalue("rabbitmq")
    if row.name == "records":
        pytest.importorskip("m3._records")
    result = TINY.run(row)
    missing = {
        name: reason
        for name, reason in result.failures.items()
        if not (name in OPTIONAL and reason.startswith("ModuleNotFoundError"))
        and "cannot keep the order" not in reason
    }
    assert not missing
    for target in row.targets:
        if not OPTIONAL.intersection(target.contenders):
            assert target.reached(result) is not None


def test_a_row_without_its_interpreter_says_so():
    """The rows of the free-threaded build are kept, with the reason why they are empty."""
    row = next(row for row in ROWS if row.freethreaded)
    result = TINY.run(row)
    assert not result.rounds
    assert set(result.failures.values()) == {"no free-threaded interpreter was given"}


def test_the_page_and_its_plot_are_written(tmp_path, capsys):
    """A run prints its tables and writes the page with a drawing that is XML."""
    run.main(["--only", "noop-1", "--rounds", "2", "--seconds", "0.002", "--output", str(tmp_path)])
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| the bare loop " in page
    assert "## What m3 must reach" in page
    assert "| m3 " in capsys.readouterr().out
    ET.parse(tmp_path / "benchmarks.svg")


def test_the_readme_gets_the_summary_between_its_marks(tmp_path):
    """Only the block between the marks is replaced, and a README without marks stays."""
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmarks:start -->\nold\n<!-- benchmarks:end -->\nafter\n")
    run.refresh(readme, ["new"])
    assert readme.read_text() == (
        "before\n<!-- benchmarks:start -->\n\nnew\n\n<!-- benchmarks:end -->\nafter\n"
    )
    readme.write_text("no marks\n")
    run.refresh(readme, ["new"])
    assert readme.read_text() == "no marks\n"


def test_ratios_are_medians_over_rounds():
    """A round in which the machine was slow for both does not change the ratio."""
    result = Result()
    result.rounds["m3"] = [{"rate": 100}, {"rate": 10}, {"rate": 90}]
    result.rounds["it"] = [{"rate": 50}, {"rate": 5}, {"rate": 60}]
    target = times("m3", "it", must=2.0, aim=3.0)
    assert target.reached(result) == 2.0
    assert target.verdict(2.0) == "reached"
    assert target.verdict(1.9) == "missed"
    assert target.verdict(3.1) == "aim"


@pytest.mark.parametrize(("cpu", "is_busy"), [(1.0e-6, False), (0.5e-6, True)])
def test_a_busy_machine_is_told_from_a_quiet_one(cpu, is_busy):
    """A bare loop that got half of a core makes the figures unfit to be quoted."""
    row = next(row for row in ROWS if row.name == "noop-1")
    result = Result()
    result.rounds["bare"] = [{"rate": 1e6, "cpu": cpu}]
    assert (warning([(row, result)]) is not None) == is_busy


def test_limits_are_to_be_undercut():
    """A time over a baseline is good when it is small."""
    target = over("m3 --help", "python", must=0.15, aim=0.09)
    assert [target.verdict(value) for value in (0.2, 0.1, 0.05, None)] == [
        "missed",
        "reached",
        "aim",
        "not measured",
    ]


def test_what_following_items_costs_is_per_item_and_hop():
    """What a contender takes more of the processor for an item is divided by its hops."""
    target = per_hop("acknowledged", "positions", hops=2, must=60e-9)
    result = Result()
    result.rounds["acknowledged"] = [{"cpu": 400e-9}, {"cpu": 900e-9}]
    result.rounds["positions"] = [{"cpu": 300e-9}, {"cpu": 800e-9}]
    value = target.reached(result)
    assert target.show(value) == "acknowledged: 50 ns per item and hop"
    assert target.verdict(value) == "reached"


def test_a_failing_measurement_says_why():
    """What a measuring process wrote last is the reason."""
    with pytest.raises(MeasurementError, match="no_such_system"):
        TINY.ask(sys.executable, "pipelines", {"system": "no_such_system", "workload": "noop"})


def test_settings_of_python_do_not_reach_the_measurements(monkeypatch):
    """Unbuffered output would make every line cost a system call."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    assert "PYTHONUNBUFFERED" not in rounds.environment()
