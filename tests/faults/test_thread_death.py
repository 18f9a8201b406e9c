"""An exception out of nowhere in a worker's thread: the run fails, and every item is counted."""

import random
import sys
import threading
import time

import pytest
from outcomes import residual
from struck import COUNT, KINDS, NAMES, Bolt, SoftBolt, Target, pipelines, run, strike

from m3 import Backend, Frontend, Item, Pipeline
from m3.engine.async_worker import AsyncWork
from m3.engine.checkpoints import Checkpoints
from m3.errors import StageError


def check_strike(name, folder, *, kind, at):
    """Strike the thread that makes the call number *at* of a stage, and check what comes of it."""
    target, answers, errors = Target(at), [], []
    engine = pipelines(target, folder, answers)[name].engine()
    thread = threading.Thread(target=run, args=(engine, errors), daemon=True)
    thread.start()
    assert target.arrived.wait(10)
    target.is_struck = True
    strike(target.ident, kind)
    thread.join(10)
    assert not thread.is_alive(), "it hangs"
    report = engine.report()
    assert residual(report) == 0
    assert report.in_flight == 0
    is_survived = kind is SoftBolt and name in ("skip", "retry")
    assert bool(errors) is not is_survived
    assert report.ok or report.failed or report.abandoned or name == "frontend"
    if is_survived:
        assert report.delivered + report.failed == COUNT
    if answers:
        assert sorted(answers) == list(range(report.produced))


@pytest.mark.parametrize("name", NAMES)
def test_a_strike_in_the_code_of_a_stage(tmp_path, name):
    """It is as if that code had raised: policies apply to an Exception, all else fails the run."""
    for number, kind in enumerate(KINDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        check_strike(name, folder, kind=kind, at=random.Random(number).randrange(1, 50))


@pytest.mark.stress
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_many_strikes_in_the_code_of_a_stage(tmp_path, name):
    """The same at 72 moments, which makes a thousand with all pipelines."""
    chance = random.Random(name)
    for number in range(72):
        folder = tmp_path / str(number)
        folder.mkdir()
        check_strike(name, folder, kind=chance.choice(KINDS), at=chance.randrange(1, COUNT + 1))


def strike_anywhere(name, folder, chance):
    """Strike a random thread of a run, wherever it is; return what went wrong, or None."""
    target, answers, errors = Target(-1), [], []
    engine = pipelines(target, folder, answers)[name].engine()
    thread = threading.Thread(target=run, args=(engine, errors), daemon=True)
    thread.start()
    until = time.perf_counter() + chance.choice((0.0005, 0.002, 0.004, 0.02)) * chance.random()
    while not engine.workers or time.perf_counter() < until:
        if not thread.is_alive():
            break
    threads = [it for it in threading.enumerate() if it.name.startswith("m3-") and it.ident]
    if threads:
        strike(chance.choice(threads).ident, chance.choice(KINDS))
    thread.join(20)
    if thread.is_alive():
        engine.stop(timeout=2)
        thread.join(5)
        return "hangs for ever" if thread.is_alive() else "hangs until it is stopped"
    report = engine.report()
    if residual(report):
        return f"items are not accounted for, and it says {errors}"
    if not errors and report.delivered + report.failed != COUNT and name != "expand":
        return "items are lost, and the run says that all is well"
    if answers and sorted(answers) != list(range(report.produced)):
        return "answers are missing"
    return None


@pytest.mark.stress
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
def test_strikes_anywhere(tmp_path):
    """A thousand strikes into any thread, also in m3's own code: residual 0, hangs 0."""
    chance = random.Random(1)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    found = []
    try:
        for number in range(1000):
            name = chance.choice(NAMES)
            folder = tmp_path / str(number)
            folder.mkdir()
            problem = strike_anywhere(name, folder, chance)
            if problem:
                found.append((number, name, problem))
    finally:
        sys.setswitchinterval(interval)
    print(len(found), "of 1000:", found)
    assert found == []


class Kept(Backend):
    """Keeps what was committed."""

    def __init__(self, *, committed):
        self.taken = []
        self.committed = committed

    def process(self, data):
        self.taken.append(data)

    def commit(self):
        self.committed += self.taken
        self.taken = []


class Asking(Frontend):
    """Numbers, half of them before there was a first answer; keeps the acknowledged ones."""

    def __init__(self, *, acknowledged):
        self.acknowledged = acknowledged
        self.heard = threading.Event()

    def produce(self):
        for number in range(COUNT):
            if number == COUNT // 2:
                self.heard.wait(30)
            yield Item(number, number)

    def ack(self, position):
        self.acknowledged.append(position)
        self.heard.set()

    def stop(self):
        self.heard.set()


@pytest.mark.parametrize("at", [1, 2])
def test_a_strike_in_the_thread_of_the_checkpoints(monkeypatch, at):
    """The run fails, and nothing is acknowledged that was not committed."""
    calls, acknowledged, committed = [], [], []
    inner = Checkpoints._commit_all

    def struck(self):
        calls.append(1)
        if len(calls) == at:
            raise Bolt
        return inner(self)

    monkeypatch.setattr(Checkpoints, "_commit_all", struck)
    pipeline = Pipeline(Asking, acknowledged=acknowledged)
    engine = pipeline.backend(Kept, committed=committed, queue_size=2).engine()
    with pytest.raises(StageError, match="Bolt"):
        engine.start()
    assert residual(engine.report()) == 0
    assert set(acknowledged) <= set(committed)


@pytest.mark.parametrize("at", [1, 2, 50])
def test_a_strike_in_the_thread_that_feeds_an_async_stage(monkeypatch, at):
    """The run fails, and the item that was on its way to the loop is abandoned."""
    calls, inner = [], AsyncWork._soon

    def struck(self, function, *args):
        calls.append(threading.current_thread().name.endswith("feeder"))
        if calls[-1] and sum(calls) == at:
            raise Bolt
        inner(self, function, *args)

    monkeypatch.setattr(AsyncWork, "_soon", struck)

    async def same(item):
        return item

    engine = Pipeline(range(COUNT)).transport(same).backend(str).engine()
    with pytest.raises(StageError, match="Bolt"):
        engine.start()
    report = engine.report()
    assert residual(report) == 0
    assert report.delivered <= at
