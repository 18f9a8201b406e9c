"""Whatever a stage raises, wherever and whenever: the run tells it, accounts for all, and ends."""

import threading
from dataclasses import dataclass, field
from itertools import product

import pytest
from workbench import SOON, assert_accounted, failures_in, functions_in, meet

from m3 import Backend, Engine, Frontend, Pipeline, Transport
from m3.errors import CleanupError, SetupError, StageError

QUEUE_SIZE = 2

STAGES = ("frontend", "transport", "backend")
PHASES = ("setup", "work", "cleanup")
WORKERS = (1, 8)
QUEUES = ("empty", "full")
POLICIES = ("fail", "skip")


class Speechless(Exception):
    def __str__(self):
        raise ValueError("no words")


class Faceless:
    def __repr__(self):
        raise ValueError("no face")


def endless():
    return endless()


def too_much():
    return bytearray(1 << 62)


def raiser(error):
    def throw():
        raise error

    return throw


RAISES = {
    "Exception": (Exception, raiser(Exception("at work"))),
    "SystemExit": (SystemExit, raiser(SystemExit(3))),
    "KeyboardInterrupt": (KeyboardInterrupt, raiser(KeyboardInterrupt())),
    "MemoryError": (MemoryError, too_much),
    "RecursionError": (RecursionError, endless),
    "StopIteration": (StopIteration, raiser(StopIteration("value"))),
    "speechless error": (Speechless, raiser(Speechless())),
    "faceless item": (KeyError, raiser(KeyError("key"))),
}


@dataclass
class Scene:
    """
    A pipeline of three stages, one of which raises once, in one of its phases.

    ``empty``: the queue before the stage is empty when it raises.  ``full``:
    all queues are, and every producer waits.  (In a ``setup`` nothing can be
    queued.  For a ``cleanup`` the run is given up while all is full.)
    """

    stage: str
    phase: str
    raises: str
    workers: int
    queue: str
    policy: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    raised: threading.Event = field(default_factory=threading.Event)
    full: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)
    numbers: int = 0
    has_raised: bool = False
    set_up: list = field(default_factory=list)
    cleaned_up: list = field(default_factory=list)
    poison: object = None

    def __post_init__(self):
        self.poison = Faceless() if self.raises == "faceless item" else "poison"
        between = 2 if self.holds_at("backend") else 1
        capacity = between * (self.workers + QUEUE_SIZE)
        # That many numbers are taken when all queues are full and all hands too.
        self.full_at = capacity + self.workers - 1
        self.count = self.full_at + 20

    def holds_at(self, stage):
        """Say whether *stage* holds its items until the queues are full."""
        if self.queue == "empty" or self.phase == "setup":
            return False
        if self.phase == "cleanup" or self.stage == "frontend":
            return stage == "backend"
        return stage == self.stage

    def boom(self):
        with self.lock:
            if self.has_raised:
                return
            self.has_raised = True
        self.raised.set()
        self.gate.set()
        RAISES[self.raises][1]()

    def is_at(self, stage, phase):
        return self.stage == stage and self.phase == phase

    # -- what the stages do

    def begin(self, stage, instance):
        with self.lock:
            is_last = sum(kind == stage for kind, _ in self.set_up) == self.workers - 1
            if not (is_last and self.is_at(stage, "setup")):
                self.set_up.append((stage, instance))
                return
        self.boom()

    def finish(self, stage, instance):
        with self.lock:
            self.cleaned_up.append((stage, instance))
        if self.is_at(stage, "cleanup"):
            self.boom()

    def numbered(self):
        """Yield the items, of which the first is the poison."""
        while True:
            with self.lock:
                number, self.numbers = self.numbers, self.numbers + 1
            if number >= self.count:
                return
            self.prepare(number)
            yield number or self.poison

    def prepare(self, number):
        if self.queue == "full":
            if number == self.full_at:
                self.full.set()
                if self.is_at("frontend", "work"):
                    self.boom()
        elif self.is_at("frontend", "work"):
            self.boom()
        elif self.phase == "work" and number:
            meet(self.raised)

    def handle(self, stage, item):
        if self.holds_at(stage):
            meet(self.full if self.is_at(stage, "work") else self.gate)
        if item is self.poison and self.is_at(stage, "work"):
            self.boom()
        return item

    def engine(self) -> Engine:
        scene = self

        class Source(Frontend):
            def setup(self):
                scene.begin("frontend", self)

            def produce(self):
                yield from scene.numbered()

            def cleanup(self):
                scene.finish("frontend", self)

        class Middle(Transport):
            def setup(self):
                scene.begin("transport", self)

            def transport(self, data):
                return scene.handle("transport", data)

            def cleanup(self):
                scene.finish("transport", self)

        class Sink(Backend):
            def setup(self):
                scene.begin("backend", self)

            def process(self, data):
                scene.handle("backend", data)

            def cleanup(self):
                scene.finish("backend", self)

        options = {"workers": self.workers, "queue_size": QUEUE_SIZE, "on_error": self.policy}
        pipeline = Pipeline(Source, stop_timeout=SOON, **options)
        pipeline.transport(Middle, name="transport", **options)
        pipeline.backend(Sink, name="backend", **options)
        return pipeline.engine()

    # -- what must come of it

    @property
    def survives(self):
        is_of_item = self.phase == "work" and self.stage != "frontend"
        return self.policy == "skip" and is_of_item and issubclass(self.kind, Exception)

    @property
    def kind(self):
        """The type of the exception that is the cause of the failure."""
        kind = RAISES[self.raises][0]
        in_generator = self.is_at("frontend", "work")
        return RuntimeError if in_generator and kind is StopIteration else kind

    def run(self, engine):
        """Run it; return the failures."""
        try:
            engine.start(block=False)
            if self.phase == "cleanup" and self.queue == "full":
                meet(self.full)
                engine.abandon()
                self.gate.set()
            engine.wait()
        except (StageError, ExceptionGroup) as error:
            return failures_in(error)
        return []

    def check_failure(self, failure):
        expected = {"setup": SetupError, "work": StageError, "cleanup": CleanupError}
        assert type(failure) is expected[self.phase]
        assert failure.phase == self.phase
        assert failure.worker in range(self.workers)
        assert isinstance(failure.__cause__, self.kind)
        # A generator turns a StopIteration into the cause of a RuntimeError.
        origin = failure.__cause__.__cause__ or failure.__cause__
        assert isinstance(origin, RAISES[self.raises][0])
        assert "boom" in functions_in(origin)
        assert str(failure)
        if self.phase == "work" and self.stage != "frontend":
            assert failure.item is self.poison

    def check_report(self, report):
        assert_accounted(report)
        assert report.ok is False
        assert report.failed == (self.phase == "work" and self.stage != "frontend")
        given_up = report.failed and not self.survives
        if self.phase == "setup":
            assert report.produced == 0
        elif self.is_at("frontend", "work"):
            assert report.delivered == report.produced
        elif not given_up and not (self.phase == "cleanup" and self.queue == "full"):
            assert report.produced == self.count
            assert report.delivered == self.count - report.failed


CELLS = [Scene(*cell) for cell in product(STAGES, PHASES, RAISES, WORKERS, QUEUES, POLICIES)]


def name_of(scene):
    where, width = f"{scene.stage}-{scene.phase}", f"{scene.workers}w-{scene.queue}"
    return f"{where}-{scene.raises}-{width}-{scene.policy}"


def test_the_matrix_is_whole():
    """There are 576 cells: 3 stages, 3 phases, 8 ways to raise, 2 widths, 2 queues, 2 policies."""
    assert len(CELLS) == 3 * 3 * 8 * 2 * 2 * 2 == 576


@pytest.mark.timeout(20)
@pytest.mark.parametrize("scene", CELLS, ids=name_of)
def test_cell(scene):
    """
    What a stage raises comes out with its traceback, and every item is accounted for.

    Only an Exception about an item, under "skip", is survived.  Whatever was
    set up was cleaned up, once.
    """
    engine = scene.engine()
    failures = scene.run(engine)
    report = engine.report()
    assert scene.has_raised
    if scene.survives:
        assert failures == []
        assert (report.state, len(report.item_errors)) == ("finished", 1)
        scene.check_failure(report.item_errors[0])
    else:
        assert report.state == "failed"
        assert len(failures) == 1
        scene.check_failure(failures[0])
    scene.check_report(report)
    assert {id(one) for _, one in scene.set_up} == {id(one) for _, one in scene.cleaned_up}
    assert len(scene.set_up) == len(scene.cleaned_up)
