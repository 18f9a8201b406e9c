"""A plan is data, and every mistake in it is told before anything runs."""

import threading

import pytest

from m3 import Backend, Batch, Engine, Frontend, Pipeline, Transport
from m3.engine import Plan, StageSpec
from m3.engine.plan import grace_of
from m3.engine.validation import mistakes
from m3.errors import PlanError
from m3.policies import Retry


class Source(Frontend):
    def __init__(self, path):
        self.path = path

    def produce(self):
        yield self.path


class Middle(Transport):
    def transport(self, data):
        return data


class Sink(Backend):
    max_workers = 1

    def process(self, data):
        pass


def test_a_plan_is_plain_data():
    """Plans compare by value and iterate over their stages in the direction of the items."""
    pipeline = Pipeline(Source, path="x").transport(Middle, workers=2).backend(Sink)
    plan = pipeline.plan()
    assert plan == pipeline.plan()
    assert [(spec.name, spec.kind, spec.workers) for spec in plan] == [
        ("Source", "frontend", 1),
        ("Middle", "transport", 2),
        ("Sink", "backend", 1),
    ]
    assert plan.frontends[0].options == {"path": "x"}


def test_making_an_engine_starts_nothing():
    """Plans and engines are made without a thread and without calling the stages."""
    before = threading.active_count()
    for _ in range(10):
        Pipeline(Source, path="x").transport(Middle, workers=50).engine()
    assert threading.active_count() == before


def bad(**options):
    """Return a transport's specification with a mistake in it."""
    return StageSpec("transport", Middle, name="t", **options)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (bad(workers=-1), "at least 0"),
        (bad(workers=True), "number of threads"),
        (bad(workers="4"), "number of threads"),
        (bad(queue_size=0), "queue_size is 0"),
        (bad(concurrency=0), "concurrency is 0"),
        (bad(ordering="key"), "'completion' or 'input'"),
        (bad(on_error="retry"), "'fail', 'skip', 'dead_letter', a callable or a Retry"),
        (bad(on_error="dead_letter"), "give the pipeline dead_letters=FILE, or state=DIR"),
        (bad(on_error=Retry(then="dead_letter")), "give the pipeline dead_letters=FILE, or"),
        (bad(on_error=Retry(), ordering="input", workers=0), "it needs a worker of its own"),
        (bad(timeout=0), "timeout is 0; it is a time in seconds, more than 0"),
        (bad(timeout=float("nan")), "timeout is nan"),
        (bad(timeout=float("inf")), "timeout is inf"),
        (bad(timeout=True), "timeout is True"),
        (bad(timeout="3"), "timeout is '3'"),
        (bad(timeout=3, workers=0), "needs a worker of its own, and workers is 0"),
        (bad(queue_bytes=0), "queue_bytes is 0; it is a number of bytes"),
        (bad(queue_bytes="64MB"), "queue_bytes is '64MB'"),
        (bad(sizeof="len"), "sizeof is 'len'; it is a callable"),
        (StageSpec("frontend", [1], name="t", on_error=Retry()), "cannot be read again"),
        (StageSpec("frontend", [1], name="t", timeout=3), "a frontend has no timeout"),
        (bad(batch=Batch()), "needs a stage with process_batch"),
        (bad(options={"colour": 1}), "colour"),
        (StageSpec("transport", 7, name="t"), "7 is no transport"),
        (StageSpec("transport", Sink, name="t"), "Sink is a backend, not a transport"),
        (StageSpec("backend", Middle, name="t"), "Middle is a transport, not a backend"),
        (StageSpec("backend", Source, name="t"), "Source is a frontend, not a backend"),
        (StageSpec("frontend", 7, name="t"), "7 is no frontend"),
        (StageSpec("frontend", Sink, name="t"), "Sink is a backend, not a frontend"),
        (StageSpec("frontend", [1], name="t", workers=2), "read by one worker"),
        (StageSpec("backend", Sink, name="t", workers=2), "can have 1 worker, not 2"),
        (StageSpec("transport", str, name="t", options={"a": 1}), "only a stage that is given"),
    ],
)
def test_each_mistake_is_told(spec, message):
    """A mistake names the stage and says what is wrong."""
    plan = Plan(
        frontends=(spec,) if spec.kind == "frontend" else (StageSpec("frontend", [1], name="f"),),
        **{f"{spec.kind}s": (spec,)} if spec.kind != "frontend" else {},
    )
    with pytest.raises(PlanError) as caught:
        Engine(plan)
    assert message in str(caught.value)
    assert repr(spec.name) in str(caught.value)


@pytest.mark.parametrize("policy", ["dead_letter", Retry(then="dead_letter")])
@pytest.mark.parametrize("place", [{"dead_letters": "d.jsonl"}, {"state": "st"}])
def test_dead_letters_have_a_place(policy, place):
    """A stage may make dead letters where the pipeline has a file for them, or a state."""
    pipeline = Pipeline([1], on_error="dead_letter", **place).transport(str, on_error=policy)
    assert mistakes(pipeline.plan()) == ()


@pytest.mark.parametrize("option", ["state", "dead_letters"])
@pytest.mark.parametrize("path", ["", 3, b"x"])
def test_paths(option, path):
    """A path is a string or a Path, and says something: "" would be the current folder."""
    (mistake,) = mistakes(Pipeline([1], **{option: path}).plan())
    assert mistake == f"{option} is {path!r}; it is a path"


@pytest.mark.parametrize("seconds", [0, -1, "1", True, float("inf")])
def test_the_time_between_checkpoints(seconds):
    """Between two checkpoints there is some time, and not for ever."""
    (mistake,) = mistakes(Pipeline([1], checkpoint_interval=seconds).plan())
    assert mistake.startswith(f"checkpoint_interval is {seconds!r}; it is a time")


def test_nothing_runs_in_threads_that_are_given_up():
    """A stage chained behind one with a timeout would be given up with it."""
    pipeline = Pipeline([1]).transport(str, name="slow", timeout=3).transport(str, workers=0)
    (mistake,) = mistakes(pipeline.plan())
    assert "runs in the threads of 'slow'" in mistake
    assert mistake.endswith("give it a worker")


def test_a_frontend_that_waits_leaves_nobody_to_commit():
    """With a state, no backend runs in the thread of a frontend."""
    pipeline = Pipeline([1], name="x").backend(Sink, workers=0)
    assert mistakes(pipeline.plan()) == ()
    pipeline = Pipeline([1], state="st").transport(str, workers=0).backend(Sink, workers=0)
    (mistake,) = mistakes(pipeline.plan())
    assert "nothing could commit it while the frontend waits for input" in mistake


def test_all_mistakes_are_told_at_once():
    """One error has them all, a line each."""
    plan = Plan(
        frontends=(),
        transports=(bad(workers=-1), bad(queue_size=0)),
        stop_timeout=-1,
    )
    found = mistakes(plan)
    assert len(found) == 5
    with pytest.raises(PlanError) as caught:
        Engine(plan)
    assert str(caught.value).splitlines() == list(found)


def test_a_backend_that_yields_is_refused():
    """A process() or process_batch() that is a generator would do nothing when it is called."""

    class Yields(Backend):
        def process(self, data):
            yield data

    class YieldsBatch(Backend):
        def process_batch(self, items):
            yield items

    for target, method in ((Yields, "process"), (YieldsBatch, "process_batch")):
        with pytest.raises(PlanError, match=rf"{method}\(\) contains a yield"):
            Pipeline([1]).backend(target).engine()


def test_a_missing_argument_of_a_class_is_told_before_the_start():
    """The constructor's signature is checked against the options."""
    with pytest.raises(PlanError, match="'path'"):
        Pipeline(Source).engine()


@pytest.mark.parametrize(
    "options", [{"count": 0}, {"bytes": 0}, {"period": -1}, {"count": -5, "period": 3}]
)
def test_batches_that_cannot_be(options):
    """A batch has at least an item and a byte, and its time is not negative."""
    with pytest.raises(PlanError):
        Batch(**options)


def test_a_chained_stage_has_as_many_workers_as_its_thread_pool():
    """max_workers bounds the instances of a stage also where it runs in another's threads."""
    pipeline = Pipeline(Source, path="x").transport(Middle, workers=2).backend(Sink, workers=0)
    assert mistakes(pipeline.plan()) == (
        (
            "backend 'Sink' can have 1 worker, and with workers=0 it would run in 2 threads, "
            "those of 'Middle'"
        ),
    )


@pytest.mark.parametrize(
    ("seconds", "grace"), [(0, 0), (0.5, 0.25), (1, 0.5), (4, 0.5), (10, 1), (30, 2), (1000, 2)]
)
def test_the_time_kept_for_the_end_of_a_stop(seconds, grace):
    """Of a stop's time a tenth, at most 2 s, is kept; of a short one up to half."""
    assert grace_of(seconds) == grace
