"""A plan is data, and every mistake in it is told before anything runs."""

import threading

import pytest

from m3 import Backend, Batch, Component, Engine, Frontend, Pipeline, Transport
from m3.engine import Plan, StageSpec
from m3.engine.plan import grace_of
from m3.engine.validation import mistakes
from m3.errors import PlanError
from m3.policies import Backoff, Retry


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


class Misspelt(Frontend):
    def products(self):
        return [1]


class Renamed(Transport):
    def setup(self):
        pass

    def _helped(self):
        pass

    def transform(self, data):
        return data


class Foreign(Backend):
    def consume(self, data):
        pass


class Half(Foreign):
    is_new = True

    def process_batches(self, items):
        pass


class Plural(Backend):
    def another(self):
        pass

    def processes(self, data):
        pass


class Empty(Transport):
    pass


@pytest.mark.parametrize("given", ["class", "instance"])
@pytest.mark.parametrize(
    ("kind", "cls", "given_name", "meant"),
    [
        ("frontend", Misspelt, "products", "produce"),
        ("transport", Renamed, "transform", "transport"),
        ("backend", Foreign, "consume", "process"),
        ("backend", Half, "process_batches", "process_batch"),
        ("backend", Plural, "processes", "process"),
        ("transport", Empty, "", ""),
    ],
)
def test_a_stage_without_its_method(kind, cls, given_name, meant, given):
    """A class that does not say what is done with the items is refused; what is near is named."""
    missing = {
        "frontend": "no produce()",
        "transport": "no transport() and no process_batch()",
        "backend": "no process() and no process_batch()",
    }
    question = f"; should its {given_name}() be called {meant}()?" if meant else ""
    spec = StageSpec(kind, cls if given == "class" else cls(), name="t")
    source = () if kind == "frontend" else (StageSpec("frontend", [1], name="f"),)
    plan = Plan(**{"frontends": source, f"{kind}s": (spec,)})
    assert mistakes(plan) == (f"{kind} 't': {cls.__name__} has {missing[kind]}{question}",)


def test_a_method_that_an_instance_was_given():
    """A method may be set on the instance: it has it."""
    stage = Empty()
    stage.transport = str
    assert mistakes(Pipeline([1]).transport(stage).plan()) == ()


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


class Adds(Transport):
    def __init__(self, by, *, colour=None):
        self.by = by

    def transport(self, data):
        return data + self.by


class TakesAny(Adds):
    def __init__(self, by, **others):
        super().__init__(by)


CLASS_ONLY = "only a stage that is given as a class takes options of its own"


@pytest.mark.parametrize(
    ("target", "options", "found"),
    [
        (
            Adds,
            {"bye": 1},
            [
                "Adds() has no option 'bye'; did you mean 'by'?",
                "Adds(): missing a required argument: 'by'",
            ],
        ),
        (Adds, {"by": 1, "color": 2}, ["Adds() has no option 'color'; did you mean 'colour'?"]),
        (Adds, {"by": 1, "workrs": 2}, ["Adds() has no option 'workrs'; did you mean 'workers'?"]),
        (Adds, {"by": 1, "xyz": 2}, ["Adds() has no option 'xyz'"]),
        (
            Adds,
            {"by": 1, "state": "st"},
            ["Adds() has no option 'state'; did you mean the pipeline's 'state'?"],
        ),
        (TakesAny, {"bye": 1}, ["TakesAny(): missing a required argument: 'by'"]),
        (TakesAny, {"by": 1, "color": 2}, []),
        (str, {"workrs": 3}, [f"workrs: {CLASS_ONLY}; did you mean 'workers'?"]),
        (
            str,
            {"statee": 3, "b": 1},
            [f"b: {CLASS_ONLY}", f"statee: {CLASS_ONLY}; did you mean the pipeline's 'state'?"],
        ),
    ],
)
def test_options_that_nobody_takes(target, options, found):
    """Each option that is none is named, with what is near, also where another is missing."""
    wrong = mistakes(Pipeline([1]).transport(target, name="t", **options).plan())
    assert [*wrong] == [f"transport 't': {mistake}" for mistake in found]


class Dsn:
    pass


class Database(Component):
    pass


class Postgres(Database):
    dsn: Dsn


class Copies(Backend):
    db: Database
    count: int

    def process(self, data):
        pass


@pytest.mark.parametrize(
    ("resources", "near"),
    [
        ({"dbb": Database}, {"dbb": "db"}),
        ({"dbb": Postgres()}, {"dbb": "db"}),
        ({"counts": 3}, {"counts": "count"}),
        ({"db": Postgres, "dns": Dsn()}, {"dns": "dsn"}),
        ({"db": Postgres, "dsn": Dsn()}, {}),
        ({"db": Postgres, "dbb": Database}, {}),
        ({"counts": Database}, {}),
        ({"metrics": Database}, {}),
        ({Database: Postgres}, {}),
    ],
)
def test_resources_under_a_misspelt_name(resources, near):
    """A resource that nobody asks for is started by itself, unless its name is a near miss."""
    found = mistakes(Pipeline([1], resources=resources).backend(Copies).plan())
    assert found == tuple(
        f"resource {name!r}: no stage and no component asks for one of that name; did you mean "
        f"{other!r}?"
        for name, other in near.items()
    )


def test_a_misspelt_option_of_the_pipeline():
    """What Pipeline() does not know goes to its frontend; a near name of its own is told."""
    (mistake,) = mistakes(Pipeline(range(3), statee="x").plan())
    assert mistake == (
        f"frontend 'range': statee: {CLASS_ONLY}; did you mean the pipeline's 'state'?"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "Batch(count=0): it is a number of items, at least 1"),
        ({"count": -5, "period": 3}, "Batch(count=-5)"),
        ({"count": "3"}, "Batch(count='3'): it is a number of items, at least 1"),
        ({"count": True}, "Batch(count=True)"),
        ({"count": 2.5}, "Batch(count=2.5)"),
        ({"bytes": 0}, "Batch(bytes=0): it is a number of bytes, at least 1"),
        ({"bytes": "1 MB"}, "Batch(bytes='1 MB')"),
        ({"period": -1}, "Batch(period=-1): it is a time in seconds, at least 0"),
        ({"period": "3"}, "Batch(period='3')"),
        ({"period": float("nan")}, "Batch(period=nan)"),
    ],
)
def test_batches_that_cannot_be(options, message):
    """A batch has at least an item and a byte, its time is not negative, and all are numbers."""
    with pytest.raises(PlanError) as caught:
        Batch(**options)
    assert str(caught.value).startswith(message)


class Gathers(Backend):
    def process_batch(self, items):
        pass


class GathersFive(Gathers):
    batch = 5


class OfNobody:
    batch = 5

    def process_batch(self, items):
        pass


@pytest.mark.parametrize(
    ("target", "options", "batch"),
    [
        (Gathers, {"batch": 5}, Batch(5)),
        (Gathers(), {"batch": 5}, Batch(5)),
        (GathersFive, {}, Batch(5)),
        (GathersFive, {"batch": 7}, Batch(7)),
        (GathersFive, {"batch": Batch(period=1)}, Batch(period=1)),
        (OfNobody, {}, Batch(5)),
        (Gathers, {}, None),
    ],
)
def test_a_number_is_a_batch_of_so_many(target, options, batch):
    """A number says how many items a batch has at most, as a keyword and in a class."""
    plan = Pipeline([1]).backend(target, **options).plan()
    assert (plan.backends[0].batch, mistakes(plan)) == (batch, ())


def test_an_attribute_of_another_meaning():
    """The batch of a stage that takes no batches is its own."""

    class Own(Transport):
        batch = 5

        def transport(self, data):
            return self.batch

    pipeline = Pipeline([1]).transport(Own)
    assert pipeline.plan().transports[0].batch is None
    with pipeline.results() as results:
        assert list(results) == [5]


@pytest.mark.parametrize("batch", ["3", 0, True, [5], 2.5])
def test_batches_that_are_none(batch):
    """Anything else is refused before it runs, as a keyword and in a class."""

    class Wrong(Gathers):
        pass

    words = f"{batch!r}; it is a Batch, or a number of items, at least 1"
    (mistake,) = mistakes(Pipeline([1]).backend(Gathers, batch=batch).plan())
    assert mistake == f"backend 'Gathers': batch is {words}"
    Wrong.batch = batch
    (mistake,) = mistakes(Pipeline([1]).backend(Wrong).plan())
    assert mistake == f"backend 'Wrong': batch of the class is {words}"


def test_a_batch_that_each_instance_has():
    """A property says nothing of the class: it is asked in each instance."""

    class Varied(Gathers):
        @property
        def batch(self):
            return Batch(2)

    assert mistakes(Pipeline([1]).backend(Varied).plan()) == ()


@pytest.mark.parametrize("seconds", ["3", -1, True, float("nan"), None])
def test_the_time_for_a_stop(seconds):
    """A stop takes some time, or none."""
    (mistake,) = mistakes(Pipeline([1], stop_timeout=seconds).plan())
    assert mistake == f"stop_timeout is {seconds!r}; it is a time in seconds, at least 0"


@pytest.mark.parametrize(
    "options",
    [
        {"initial": "3"},
        {"maximum": -1},
        {"max_elapsed": "3"},
        {"initial": True},
        {"maximum": float("nan")},
        {"initial": None},
    ],
)
def test_times_that_cannot_be(options):
    """The times of a Backoff are numbers, at least 0."""
    ((name, value),) = options.items()
    with pytest.raises(PlanError) as caught:
        Backoff(**options)
    assert str(caught.value) == f"Backoff({name}={value!r}): it is a time in seconds, at least 0"


@pytest.mark.parametrize("factor", ["2", 0.5, True, None])
def test_factors_that_cannot_be(factor):
    """Each time of a Backoff is at least as long as the one before."""
    with pytest.raises(PlanError, match="it is a number, at least 1"):
        Backoff(factor=factor)


@pytest.mark.parametrize(
    ("on", "kept"),
    [
        ([OSError, KeyError], (OSError, KeyError)),
        ((OSError,), (OSError,)),
        (OSError, (OSError,)),
        ((), ()),
    ],
)
def test_what_is_worth_another_attempt(on, kept):
    """Exceptions are given as a tuple or a list, or one by itself."""
    assert Retry(on=on).on == kept


@pytest.mark.parametrize(
    "on", ["OSError", (3,), ("OSError",), [OSError()], {OSError}, None, int, (KeyboardInterrupt,)]
)
def test_what_is_no_exception(on):
    """Anything else is refused at once, not at the first failure, whose error it would hide."""
    with pytest.raises(PlanError) as caught:
        Retry(on=on)
    assert str(caught.value) == (
        f"Retry(on={on!r}): it is a tuple of classes of exceptions, as (OSError, ValueError)"
    )


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
