"""``m3 run --state``: however a run ends, the same command goes on, and nothing is lost."""

import json
import random
import signal
import sqlite3

import pytest

STAGES = r'''
"""A source that tells how far it is, and holds where it is told to; and code that fails."""

import os
import threading

import sturdy


class Numbers(sturdy.Numbers):
    def produce(self):
        tell, hold = (int(os.environ.get(name, -1)) for name in ("TELL_AFTER", "HOLD_AT"))
        self.over = threading.Event()
        for count, item in enumerate(super().produce()):
            if count == tell:
                os.write(2, b"there\n")
            if item.value == hold:
                os.write(2, b"holding\n")
                self.over.wait()
            yield item

    def stop(self):
        self.over.set()


def check(number):
    """Fail on one of seven, until somebody has corrected it."""
    if number % 7 == 3 and not os.path.exists("corrected"):
        raise ValueError("not a good number")
    return number


class Gate:
    """Holds the first item until somebody writes into a FIFO."""

    def __init__(self):
        self.is_open = not os.path.exists("gate")

    def transport(self, data):
        if not self.is_open:
            os.write(2, b"at the gate\n")
            open("gate").read()
            self.is_open = True
        return data
'''

COUNT = 20_000


class Resumable:
    """A command with a source of numbers, state and a sink, which is called again and again."""

    def __init__(self, command, sink):
        self.command = command
        self.sink = sink
        (command.folder / "app" / "going_on.py").write_text(STAGES)

    def arguments(self, *more, count=COUNT):
        return (
            *("run", "--frontend", "going_on:Numbers", "--set", f"frontend.count={count}"),
            *("--backend", f"sturdy:{self.sink}", "--set", "backend.path=out"),
            *("--state", "st", *more),
        )

    def run(self, *more, **options):
        """Run it to its end."""
        return self.command.run(*self.arguments(*more, **options))

    def start(self, *more, **environment):
        """Start it; its source speaks after TELL_AFTER items, and holds at the number HOLD_AT."""
        environment = {name: str(value) for name, value in environment.items()}
        return self.command.start(*self.arguments(*more), environment=environment)

    def content(self):
        """Return the numbers in the sink."""
        path = self.command.folder / "out"
        if self.sink == "Table":
            database = sqlite3.connect(path)
            try:
                return [row for (row,) in database.execute("select number from numbers")]
            finally:
                database.close()
        return [int(line) for line in path.read_bytes().split()]

    def state(self):
        """Return what ``m3 state show`` says."""
        return json.loads(self.command.run("state", "show", "st", "--json").stdout)


@pytest.fixture(params=["Lines", "Table"])
def effectively_once(command, request):
    """The command, with a sink that goes back and then one that commits the checkpoint."""
    return Resumable(command, request.param)


@pytest.fixture
def lines(command):
    """The command with a sink that goes back."""
    return Resumable(command, "Lines")


def wait_for(process, text):
    """Read stderr up to the line *text*."""
    for line in process.stderr:
        if line.strip() == text:
            return
    raise AssertionError(f"{text!r} did not come")


def killed(pipeline, *more, **environment):
    """Start the pipeline, and kill it when it says that it is there."""
    process = pipeline.start(*more, **environment)
    wait_for(process, b"there")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


# -- kill -9


@pytest.mark.parametrize("interval", [0.005, 3600])
def test_a_killed_run_is_gone_on_with(effectively_once, interval):
    """After kill -9, the same command gives what an undisturbed run gives, also the third time."""
    fast = ("--set", f"checkpoint_interval={interval}", "--transport", "going_on:check")
    fast += ("--set", "transport.workers=3")
    (effectively_once.command.folder / "corrected").touch()
    draw = random.Random(7)
    for _ in range(3):
        killed(effectively_once, *fast, TELL_AFTER=draw.randrange(COUNT // 4), HOLD_AT=COUNT - 1)
    done = effectively_once.run(*fast)
    assert done.returncode == 0, done.stderr
    assert sorted(effectively_once.content()) == list(range(COUNT))


def test_a_killed_run_repeats_where_the_sink_only_appends(command):
    """A sink that cannot go back gets everything, and again what came after the checkpoint."""
    pipeline = Resumable(command, "Appended")
    fast = ("--set", "checkpoint_interval=0.005")
    killed(pipeline, *fast, TELL_AFTER=COUNT // 2, HOLD_AT=COUNT - 1)
    before, position = len(pipeline.content()), pipeline.state()["sources"]["going_on:Numbers/0"]
    assert pipeline.run(*fast).returncode == 0
    content = pipeline.content()
    assert set(content) == set(range(COUNT))
    repeated = before if position is None else before - position - 1
    assert len(content) == COUNT + repeated


# -- going on with nothing


def test_a_finished_run_has_nothing_to_do(effectively_once):
    """When the input has ended, the same command does nothing, and that is a success."""
    assert effectively_once.run().returncode == 0
    assert effectively_once.state()["finished"]
    done = effectively_once.run("--report", "report.json")
    assert done.returncode == 0
    assert "0 produced, 0 delivered, 0 dropped, 0 failed, 0 abandoned" in done.stderr
    assert sorted(effectively_once.content()) == list(range(COUNT))
    report = json.loads((effectively_once.command.folder / "report.json").read_text())
    assert (report["ok"], report["produced"]) == (True, 0)
    assert effectively_once.state()["counts"]["delivered"] == COUNT


def test_input_that_has_grown(effectively_once):
    """What was added to the input since is all that the next run does."""
    effectively_once.run()
    done = effectively_once.run(count=COUNT + 5)
    assert "5 produced, 5 delivered" in done.stderr
    assert sorted(effectively_once.content()) == list(range(COUNT + 5))


def test_from_start(lines):
    """--from-start reads everything again; without it nothing is left to read."""
    lines.run()
    assert "0 produced" in lines.run().stderr
    done = lines.run("--from-start")
    assert done.returncode == 0
    assert f"{COUNT:,} produced, {COUNT:,} delivered" in done.stderr
    assert lines.content() == list(range(COUNT))


def test_from_start_leads_out_of_a_damaged_state(lines):
    """A state that is refused is not begun anew by itself, and is with --from-start."""
    lines.run()
    before = lines.content()
    (lines.command.folder / "st" / "state.db").write_bytes(b"nothing")
    done = lines.run()
    assert (done.returncode, lines.content()) == (2, before)
    assert "state.db" in done.stderr
    assert "--from-start" in done.stderr
    assert "produced" not in done.stderr
    assert lines.run("--from-start").returncode == 0
    assert lines.content() == before


def test_state_of_another_pipeline_is_refused(lines):
    """Other stages are told by their names, and nothing is touched."""
    lines.run()
    done = lines.run("--set", "backend.name=other")
    assert done.returncode == 2
    assert "sturdy:Lines/0" in done.stderr
    assert "other/0" in done.stderr
    assert lines.content() == list(range(COUNT))


def test_a_backend_more_is_refused(command):
    """Also where none of the backends keeps marks, it would get nothing of what was done."""
    one = (
        *("run", "--frontend", "going_on:Numbers", "--set", "frontend.count=10"),
        *("--backend", "stages_of_test:Printing", "--state", "st"),
    )
    (command.folder / "app" / "going_on.py").write_text(STAGES)
    assert len(command.run(*one).stdout.splitlines()) == 10
    done = command.run(*one, "--backend", "sturdy:Appended", "--set", "backend.2.path=out")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        "stages_of_test:Printing, and this one has stages_of_test:Printing, sturdy" in done.stderr
    )
    done = command.run(*one, "--transport", "json.dumps")
    assert (done.returncode, done.stdout) == (0, "")


# -- two at once


def test_a_second_run_at_the_same_time(lines):
    """A state that a run uses is refused, with the number of its process; the run goes on."""
    process = lines.start(HOLD_AT=COUNT // 2)
    wait_for(process, b"holding")
    done = lines.run()
    assert done.returncode == 2
    assert f"process {process.pid}" in done.stderr
    assert "produced" not in done.stderr
    done = lines.run("--from-start")
    assert done.returncode == 2
    assert f"process {process.pid}" in done.stderr
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert lines.run().returncode == 0
    assert lines.content() == list(range(COUNT))


# -- signals


def test_a_stopped_run_keeps_what_it_did(effectively_once):
    """After one Ctrl-C what was read is delivered and kept; the next run does the rest only."""
    process = effectively_once.start("--report", "report.json", HOLD_AT=COUNT // 2)
    wait_for(process, b"holding")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == -signal.SIGINT
    report = json.loads((effectively_once.command.folder / "report.json").read_text())
    first = report["delivered"]
    assert first >= COUNT // 2
    state = effectively_once.state()
    assert (state["counts"]["delivered"], state["finished"]) == (first, False)
    done = effectively_once.run()
    assert f"{COUNT - first:,} produced, {COUNT - first:,} delivered" in done.stderr
    assert sorted(effectively_once.content()) == list(range(COUNT))


def test_an_abandoned_run_is_gone_on_with(effectively_once):
    """After two Ctrl-C the queues are given up, the state is there, and nothing is lost."""
    gate = effectively_once.command.gate()
    through = ("--transport", "going_on:Gate")
    process = effectively_once.start(*through, "--report", "report.json")
    wait_for(process, b"at the gate")
    for text in (b"stopping", b"abandoning"):
        process.send_signal(signal.SIGINT)
        while text not in process.stderr.readline():
            pass
    gate.write_text("open")
    process.communicate()
    assert process.returncode == -signal.SIGINT
    report = json.loads((effectively_once.command.folder / "report.json").read_text())
    assert report["abandoned"] > 0
    assert report["produced"] == accounted(report)
    assert not effectively_once.state()["finished"]
    gate.unlink()
    assert effectively_once.run(*through).returncode == 0
    assert sorted(effectively_once.content()) == list(range(COUNT))


# -- the accounts


def accounted(report):
    """Return the sum of what became of the items."""
    outcomes = ("delivered", "dropped", "dead_lettered", "failed", "abandoned")
    return sum(report[name] for name in outcomes)


CHECKED = (
    *("--transport", "going_on:check", "--set", "transport.workers=2"),
    *("--set", "transport.on_error=dead_letter", "--report", "report.json"),
)


@pytest.mark.parametrize("place", [None, "letters.db", "letters.jsonl"])
def test_dead_letters(lines, place):
    """Items that failed for good are kept and counted, and the exit code is 3."""
    more = () if place is None else ("--dead-letters", place)
    done = lines.run(*CHECKED, *more, count=100)
    assert done.returncode == 3
    report = json.loads((lines.command.folder / "report.json").read_text())
    assert (report["produced"], report["delivered"], report["dead_lettered"]) == (100, 86, 14)
    assert report["produced"] == accounted(report)
    assert (
        "m3: pipeline: 100 produced, 86 delivered, 0 dropped, 14 dead_lettered, 0 failed, "
        "0 abandoned in "
    ) in done.stderr
    assert (lines.command.folder / (place or "st/dead-letters.db")).exists()
    assert sorted(lines.content()) == [number for number in range(100) if number % 7 != 3]


def test_dead_letters_are_not_repeated(lines):
    """A letter is of one item, however often the run is killed; the code of the last run is 0."""
    dead = ("--dead-letters", "letters.jsonl", "--set", "checkpoint_interval=0.005")
    killed(lines, *CHECKED, *dead, TELL_AFTER=COUNT // 2, HOLD_AT=COUNT - 1)
    assert lines.run(*CHECKED, *dead).returncode == 3
    bad = [number for number in range(COUNT) if number % 7 == 3]
    assert sorted(lines.content()) == sorted(set(range(COUNT)) - set(bad))
    letters = (lines.command.folder / "letters.jsonl").read_text().splitlines()
    assert len(letters) == len(bad)
    assert lines.run(*CHECKED, *dead).returncode == 0


def test_a_failed_run_says_what_the_next_one_undoes(command):
    """What was delivered after the last checkpoint counts as delivered, and is named as undone."""
    good = "good\n" * 10_000
    (command.folder / "in.txt").write_text(good + "bad\n")
    arguments = (
        *("run", "--frontend", "file", "--set", "frontend.path=in.txt", "--state", "st"),
        *("--transport", "stages_of_test:Strict", "--set", "transport.workers=0"),
        *("--backend", "file", "--set", "backend.path=out.txt", "--set", "backend.queue_size=10"),
        *("--set", "checkpoint_interval=3600", "--report", "report.json"),
    )
    done = command.run(*arguments)
    assert done.returncode == 1
    report = json.loads((command.folder / "report.json").read_text())
    assert report["undone"] == report["delivered"] > 0
    assert done.stderr.splitlines()[-1] == (
        f"m3: {report['undone']:,} of the delivered came after the last checkpoint; the next run "
        "undoes them and does them again"
    )
    (command.folder / "in.txt").write_text(good)
    done = command.run(*arguments)
    assert done.returncode == 0
    assert "undoes" not in done.stderr
    assert (command.folder / "out.txt").read_text() == good


@pytest.mark.parametrize("sink", ["Lines", "Table", "Appended"])
def test_a_failed_run_is_gone_on_with_when_its_code_is_corrected(command, sink):
    """What a run failed on is not passed over: it comes again, and everything is there."""
    pipeline = Resumable(command, sink)
    through = ("--transport", "going_on:check", "--report", "report.json")
    for _ in range(2):
        done = pipeline.run(*through)
        assert done.returncode == 1
        assert "ValueError: not a good number (item: 3)" in done.stderr
        report = json.loads((command.folder / "report.json").read_text())
        assert report["produced"] == accounted(report)
        assert (report["failed"], report["ok"]) == (1, False)
    (command.folder / "corrected").touch()
    assert pipeline.run(*through).returncode == 0
    content = pipeline.content()
    assert set(content) == set(range(COUNT))
    assert sink == "Appended" or len(content) == COUNT
