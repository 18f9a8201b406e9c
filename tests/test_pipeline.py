"""Pipeline: all the ways to say what a stage is, and the engine that comes of it."""

import itertools
from functools import partial
from types import SimpleNamespace

import pytest

import m3
from m3 import Backend, Batch, Engine, Frontend, Pipeline, Transport
from m3.errors import ConfigError, PlanError, UnknownNameError
from m3.pipeline import make_spec


class Source(Frontend):
    def __init__(self, count=3):
        self.count = count

    def produce(self):
        yield from range(self.count)


class Add(Transport):
    workers = 2

    def __init__(self, number=1):
        self.number = number

    def transport(self, data):
        return data + self.number


def run(*stages):
    """Return what a pipeline of these stages makes, sorted."""
    first, *others = stages
    pipeline = Pipeline(first)
    for target in others:
        pipeline.transport(target)
    with pipeline.results() as results:
        return sorted(results)


@pytest.mark.parametrize(
    "source",
    [
        Source,
        Source(3),
        [0, 1, 2],
        range(3),
        iter([0, 1, 2]),
        (number for number in range(3)),
        lambda: [0, 1, 2],
        lambda: iter(range(3)),
        partial(range, 3),
        {0: "a", 1: "b", 2: "c"},
        itertools.chain([0], [1, 2]),
        f"{__name__}:Source",
        f"{__name__}.Source",
    ],
)
def test_what_a_frontend_may_be(source):
    """A class, an instance, an iterable, a function that returns one, or a path."""
    assert run(source) == [0, 1, 2]


def plus_one(item):
    return item + 1


class Callable:
    def __call__(self, item):
        return item + 1


class Many:
    def __call__(self, item):
        yield item + 1


@pytest.mark.parametrize(
    "target",
    [
        Add,
        Add(1),
        plus_one,
        lambda item: item + 1,
        partial(plus_one),
        (1).__add__,
        Callable(),
        Many(),
        Add(1).transport,
        f"{__name__}:plus_one",
        f"{__name__}:Add",
    ],
)
def test_what_a_transport_may_be(target):
    """A class, an instance, anything callable, a generator function, or a path."""
    assert run(range(3), target) == [1, 2, 3]


def test_a_class_that_is_no_stage_is_a_callable():
    """A class without transport() is called with the item, as any function is."""
    assert run(range(3), str) == ["0", "1", "2"]
    assert run(["1", "2"], int) == [1, 2]


def test_what_a_backend_may_be():
    """A class, an instance, a callable, a bound method of a list."""
    kept = []

    class Keep(Backend):
        def process(self, data):
            kept.append(data)

    for target in (Keep, Keep(), kept.append, partial(kept.append)):
        kept.clear()
        Pipeline(range(3)).backend(target).run()
        assert kept == [0, 1, 2]


def test_registered_names(tmp_path):
    """A ready-made stage is given by its name; its options are keywords."""
    path = tmp_path / "lines.txt"
    path.write_bytes(b"a\nb\n")
    with Pipeline("file", path=str(path)).transport(bytes.upper).results() as results:
        assert list(results) == [b"A", b"B"]


def test_options_of_the_engine_and_of_the_stage():
    """The engine's keywords are the engine's, all others go to the class."""
    pipeline = Pipeline(Source, count=5).transport(Add, number=7, workers=3, queue_size=9)
    source, transport = pipeline.plan()
    assert source.options == {"count": 5}
    assert transport.options == {"number": 7}
    assert (transport.workers, transport.queue_size) == (3, 9)
    with pipeline.results() as results:
        assert sorted(results) == [7, 8, 9, 10, 11]


def test_the_default_number_of_workers_is_the_classes():
    """A class attribute says how many workers a stage has when nobody else does."""
    assert Pipeline([1]).transport(Add).plan().transports[0].workers == 2


def test_config_of_one_stage():
    """`config` becomes self.config of that stage."""

    class Reads(Transport):
        def transport(self, data):
            return self.config.number

    pipeline = Pipeline([0]).transport(Reads, config=SimpleNamespace(number=42))
    with pipeline.results() as results:
        assert list(results) == [42]


def test_names():
    """A stage has the name of its target, or its own; the second of a name gets a number."""
    pipeline = Pipeline([1]).transport(str).transport(str).transport(lambda item: item)
    pipeline.transport(str, name="third")
    assert [spec.name for spec in pipeline.plan()] == ["list", "str", "str-2", "transport", "third"]
    assert repr(pipeline) == "<Pipeline 'pipeline': list -> str -> str-2 -> transport -> third>"
    with pytest.raises(PlanError, match="two stages are called 'third'"):
        pipeline.transport(str, name="third")


def test_a_pipeline_runs_any_number_of_times():
    """It is a description: each run makes an engine of its own."""
    kept = []
    pipeline = Pipeline([1, 2]).backend(kept.append)
    assert pipeline.run().delivered == 2
    assert pipeline.run().delivered == 2
    assert kept == [1, 2, 1, 2]
    assert isinstance(pipeline.engine(), Engine)
    assert pipeline.engine() is not pipeline.engine()


def test_a_pipeline_without_backend_runs_for_its_effects():
    """What the last transport returns is discarded, and counts as delivered."""
    kept = []
    report = Pipeline([1, 2]).transport(kept.append).run()
    assert kept == [1, 2]
    assert report.delivered == 2


def test_none_is_an_item():
    """None goes on like anything else; only DROP does not."""
    with Pipeline([1, 2]).transport(lambda item: None).results() as results:
        assert list(results) == [None, None]
    with Pipeline([1, 2]).transport(lambda item: m3.DROP).results() as results:
        assert list(results) == []


def test_start_returns_a_running_engine():
    """Pipeline.start() is for embedding: the engine can be waited for and stopped."""
    engine = Pipeline([1, 2]).transport(str).start()
    assert engine.started()
    assert engine.wait().delivered == 2


def test_unknown_names_and_paths():
    """They are told when the stage is added, with what is near."""
    with pytest.raises(UnknownNameError, match="did you mean 'stdin'"):
        Pipeline("stdni")
    with pytest.raises(UnknownNameError, match=r"'stdin' is a frontend"):
        Pipeline([1]).backend("stdin")
    with pytest.raises(ConfigError, match="no module"):
        Pipeline([1]).transport("no_such_thing:x")


def test_make_spec_is_what_pipeline_uses():
    """The same description can be made without a pipeline, as the configuration file does."""
    spec = make_spec(
        "backend", print, name=None, taken={"print"}, options={"workers": 2, "batch": Batch()}
    )
    assert (spec.name, spec.workers, spec.batch) == ("print-2", 2, Batch())


def test_the_readme_of_the_class_runs():
    """The example in the documentation of Pipeline works."""
    kept = []
    assert Pipeline([1, 2, 3]).transport(str).backend(kept.append).run().delivered == 3
    assert kept == ["1", "2", "3"]
