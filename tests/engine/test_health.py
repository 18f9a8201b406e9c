"""How a run is: its states, what its components say, within bounds of time."""

import threading
import time

import pytest
from workbench import SOON, Blocked, Dawdling, Keep, join_threads

from m3 import Component, Engine, Pipeline, Transport
from m3.engine import health as module
from m3.engine.health import Examiner, Health
from m3.errors import StageError


class Database(Component):
    """A component whose check the test decides on, and counts."""

    def __init__(self):
        self.error = None
        self.gate = None
        self.begun = threading.Semaphore(0)
        self.checks = 0

    def health(self):
        self.checks += 1
        self.begun.release()
        if self.gate is not None:
            self.gate.wait(SOON)
        if self.error is not None:
            raise self.error


class Query(Transport):
    database: Database

    def transport(self, data):
        if data == "bad":
            raise ValueError("no such table")
        return data


class Run:
    """An engine that runs until the test lets it go, its database and its examiner."""

    def __init__(self, items=(), **options):
        self.gate = threading.Event()
        self.database = Database()
        pipeline = Pipeline(
            Blocked(self.gate, items), name="query", resources={Database: self.database}
        )
        self.engine = pipeline.transport(Query, **options).backend(Keep([])).engine()
        self.examine = Examiner(self.engine).examine

    def end(self):
        self.gate.set()
        if self.database.gate is not None:
            self.database.gate.set()
        if self.engine.started():
            self.engine.stop()
        join_threads()


@pytest.fixture
def run():
    made = Run()
    yield made
    made.end()


def test_from_the_start_to_the_end(run):
    """It is starting, ready, draining from the request to stop on, and stopped."""
    assert run.examine() == Health("query", "starting")
    run.engine.start(block=False)
    assert run.examine() == Health("query", "ready", 0, {"Database": None})
    run.engine.request_stop()
    assert run.examine() == Health("query", "draining")
    run.gate.set()
    run.engine.wait(SOON)
    assert run.examine() == Health("query", "stopped")


def test_it_is_starting_until_all_is_set_up():
    """While a setup takes its time it is neither ready nor dead."""
    begun, may_end = threading.Event(), threading.Event()

    class Slow(Transport):
        def setup(self):
            begun.set()
            may_end.wait(SOON)

        def transport(self, data):
            return data

    engine = Pipeline([1]).transport(Slow).backend(Keep([])).engine()
    examiner = Examiner(engine)
    starting = threading.Thread(target=engine.start)
    starting.start()
    assert begun.wait(SOON)
    health = examiner.examine()
    assert (health.state, health.is_live, health.is_ready) == ("starting", True, False)
    may_end.set()
    starting.join(SOON)
    assert examiner.examine().state == "stopped"


def test_a_run_that_fails():
    """It has failed, and it is told why, though not with which item; a restart would help."""
    run = Run(["bad"])
    run.engine.start(block=False)
    run.gate.set()
    with pytest.raises(StageError):
        run.engine.wait(SOON)
    health = run.examine()
    assert (health.state, health.is_live) == ("failed", False)
    assert health.why_not_live() == [
        "failed",
        "stage 'Query', worker 0: ValueError: no such table",
    ]


def test_a_setup_that_fails():
    """So has a run that could not be set up."""
    run = Run()
    run.database.setup = lambda: 1 / 0
    with pytest.raises(Exception, match="division"):
        run.engine.start()
    assert run.examine().state == "failed"
    assert not run.examine().is_live


def test_items_under_way():
    """Those that are not at their end yet are counted."""
    begun, may_end = threading.Event(), threading.Event()

    def hold(item):
        begun.set()
        may_end.wait(SOON)

    engine = Pipeline(["item"]).backend(hold).engine()
    examiner = Examiner(engine)
    engine.start(block=False)
    assert begun.wait(SOON)
    assert examiner.examine() == Health("pipeline", "ready", 1)
    may_end.set()
    engine.wait(SOON)
    assert examiner.examine().in_flight == 0


def test_components_tell_how_they_are(run):
    """What a check raises is told in one line without secrets; the run is unready, not dead."""
    run.engine.start(block=False)
    run.database.error = ConnectionError("refused at db://me:secret@host\nsecond line")
    health = run.examine()
    assert health.components == {
        "Database": "component Database, in health(): ConnectionError: refused at db://me:***@host"
    }
    assert (health.is_ready, health.is_live) == (False, True)
    assert run.examine(checked=False).is_ready  # for that was not asked


def test_many_who_ask_make_one_check(run):
    """However many ask at once, and again and again, there is one check in a second."""
    run.engine.start(block=False)
    found = []
    asking = [threading.Thread(target=lambda: found.append(run.examine())) for _ in range(20)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(SOON)
    assert [health.is_ready for health in found] == [True] * 20
    assert run.database.checks == 1


def test_a_result_does_not_last(run, monkeypatch):
    """After a moment a check is made again."""
    monkeypatch.setattr(module, "FRESH", 0.0)
    run.engine.start(block=False)
    assert run.examine().is_ready
    run.database.error = OSError("gone")
    assert not run.examine().is_ready
    run.database.error = None
    assert run.examine().is_ready
    assert run.database.checks == 3


def test_a_check_that_hangs(run, monkeypatch):
    """It is given up in time; who asks then is told at once, and no thread comes on top."""
    monkeypatch.setattr(module, "CHECK_TIMEOUT", 0.1)
    monkeypatch.setattr(module, "FRESH", 0.0)
    run.engine.start(block=False)
    run.database.gate = threading.Event()
    assert "took longer than its limit of 0.1 s" in run.examine().components["Database"]
    before = threading.active_count()
    for _ in range(20):
        assert "has not ended yet" in run.examine().components["Database"]
    assert threading.active_count() == before
    assert run.database.checks == 1


def test_an_event_loop_that_is_blocked(monkeypatch):
    """Where nothing can be asked, since a component blocks the loop of all, it is told in time."""
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    begun, may_end = threading.Event(), threading.Event()

    class Blocking(Component):
        async def health(self):
            begun.set()
            may_end.wait(SOON)

    class Asks(Transport):
        blocking: Blocking

        def transport(self, data):
            return data

    gate = threading.Event()
    engine = Pipeline(Blocked(gate)).transport(Asks).backend(Keep([])).engine()
    examiner = Examiner(engine)
    engine.start(block=False)
    assert examiner.examine().components == module.NO_ANSWER
    assert begun.is_set()
    before = threading.active_count()
    began = time.monotonic()
    for _ in range(20):
        assert examiner.examine().components == module.NO_ANSWER
    assert time.monotonic() - began < 3  # nobody waits for what has taken too long already
    assert threading.active_count() == before
    may_end.set()
    gate.set()
    engine.stop()
    join_threads()


def test_a_stop_while_components_are_asked(run):
    """The state is that at the end of the check: nobody is told of one before the stop."""
    run.engine.start(block=False)
    run.database.gate = threading.Event()
    found = []
    asking = threading.Thread(target=lambda: found.append(run.examine()))
    asking.start()
    assert run.database.begun.acquire(timeout=SOON)
    run.engine.request_stop()
    run.database.gate.set()
    asking.join(SOON)
    assert [health.state for health in found] == ["draining"]


def test_who_has_asked_leaves_no_thread():
    """When it is told how the components are, the thread that has asked them has ended."""

    class Fine(Component):
        def health(self):
            pass

    class Asks(Transport):
        fine: Fine

        def transport(self, data):
            return data

    gate, runtime = threading.Event(), Dawdling("m3-checks")
    plan = Pipeline(Blocked(gate)).transport(Asks).backend(Keep([])).plan()
    engine = Engine(plan, runtime=runtime)
    engine.start(block=False)
    assert Examiner(engine).examine().components == {"Fine": None}
    (checks,) = (thread for thread in runtime.threads if thread.name == "m3-checks")
    assert not checks.is_alive()
    gate.set()
    engine.stop()


def test_as_plain_data():
    """It can be written as JSON; the name is its key elsewhere."""
    health = Health("query", "ready", 2, {"bus": None, "db": "is gone"}, ("no",), "hangs")
    assert health.as_dict() == {
        "state": "ready",
        "in_flight": 2,
        "components": {"bus": None, "db": "is gone"},
        "errors": ["no"],
        "hung": "hangs",
    }
