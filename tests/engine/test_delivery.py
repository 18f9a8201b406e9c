"""The delivery level of a plan, and what each stage has to do with it."""

import pytest
from sturdy import Appended, Lines, Numbers, Table

from m3 import Backend, Frontend, Pipeline
from m3.engine.delivery import LEVELS, level_line, levels, lowest
from m3.errors import ConfigError


class Told(Frontend):
    def produce(self):
        return []

    def ack(self, position): ...


class Whole(Lines):
    """A file that is put in its place at the end, unless the run keeps state."""

    keeps_at_end = True


class Overwriting(Backend):
    """Writes an item that comes again over itself, if its items have names."""

    is_idempotent = False

    def __init__(self, path):
        self.is_idempotent = path == "unused"

    def process(self, data): ...


def found(*stages, **options):
    """Return the levels of a pipeline of a frontend and backends, and that of the whole."""
    frontend, *backends = stages
    described = Pipeline(frontend, **options)
    for number, backend in enumerate(backends, 1):
        described.backend(backend, name=f"sink {number}", path="unused")
    each = levels(described.plan())
    return [level.level for level in each], lowest(each)


STATE = {"state": "unused"}


@pytest.mark.parametrize(
    ("frontend", "backend", "options", "level", "limit"),
    [
        ([], Lines, {}, "at_most_once", "frontend"),
        ([], Lines, STATE, "at_most_once", "frontend"),
        (Numbers(1), Lines, {}, "at_most_once", "frontend"),
        (Numbers(1), Lines, STATE, "effectively_once", None),
        (Numbers(1), Table, STATE, "effectively_once", None),
        (Numbers(1), Appended, STATE, "at_least_once", "backend"),
        (Told, Lines, {}, "at_least_once", "frontend"),
        (Told, Lines, STATE, "at_least_once", "frontend"),
        (Told, Whole, {}, "at_most_once", "backend"),
        (Told, Whole, STATE, "at_least_once", "frontend"),
        (Numbers(1), Whole, STATE, "effectively_once", None),
        (Numbers(1), Overwriting, STATE, "effectively_once", None),
        (Numbers(1), Overwriting, {}, "at_most_once", "frontend"),
        (Told, Overwriting, STATE, "at_least_once", "frontend"),
    ],
)
def test_the_level_is_that_of_the_weakest_stage(frontend, backend, options, level, limit):
    """A pipeline is as good as its weakest frontend or backend, which is named."""
    (of_frontend, of_backend), whole = found(frontend, backend, **options)
    assert whole.level == level
    weakest = {"frontend": of_frontend, "backend": of_backend, None: level}[limit]
    assert weakest == level
    line = level_line(whole)
    assert line.startswith(f"delivery: {level.replace('_', ' ')} (")
    assert ("limited by" in line) == (limit is not None)
    assert ("sink 1" in line) == (limit == "backend")


def test_state_is_refused_where_a_backend_keeps_nothing_before_the_end():
    """A checkpoint would pass over items that are lost; without state the level says it."""

    class Late(Whole):
        can_resume = False

    with pytest.raises(ConfigError, match="'sink 1' keeps what it got only when"):
        found(Numbers(1), Late, **STATE)
    assert found(Told, Late)[1].level == "at_most_once"


def test_transactions_of_two_backends_cannot_be_one():
    """Only one of several transactions can hold the checkpoint; a sink that goes back may join."""
    each, whole = found(Numbers(1), Table, Lines, Table, **STATE)
    assert each == [LEVELS[2], LEVELS[1], LEVELS[2], LEVELS[1]]
    assert whole.stage == "sink 1"
    assert "only one" in whole.reason


@pytest.mark.parametrize(
    ("transport_workers", "workers", "level"), [(2, 1, 2), (1, 2, 1), (2, 0, 1), (1, 0, 2)]
)
def test_transactions_of_two_workers_cannot_be_one(transport_workers, workers, level):
    """Each worker has a transaction of its own, also where it is that of the stage before."""

    class Clients(Table):
        max_workers = None

    described = Pipeline(Numbers(1), **STATE)
    described.transport(print, workers=transport_workers)
    described.backend(Clients, path="unused", workers=workers)
    assert lowest(levels(described.plan())).level == LEVELS[level]


@pytest.mark.parametrize(
    ("name", "options", "level"),
    [
        ("file", {"path": "out"}, 0),
        ("file", {"path": "out", "append": True}, 1),
        ("file", {"path": "/dev/null"}, 1),
        ("jsonl", {"path": "out"}, 0),
        ("jsonl", {"path": "{kind}.jsonl"}, 0),
        ("jsonl", {"path": "-"}, 1),
        ("csv", {"path": "out"}, 0),
        ("csv", {"path": "out", "append": True}, 1),
        ("csv", {"path": "-"}, 1),
        ("parquet", {"path": "out.parquet"}, 0),
        ("parquet", {"path": "out"}, 1),
    ],
)
def test_a_file_that_appears_at_the_end_loses_what_was_acknowledged(name, options, level):
    """What is acknowledged before it is in its place does not come again if the process dies."""
    if name == "parquet":
        pytest.importorskip("pyarrow")
    described = Pipeline(Told).backend(name, **options)
    assert lowest(levels(described.plan())).level == LEVELS[level]


class Path(Lines):
    """Can be cut off, unless it is a pipe; said by the instance."""

    can_resume = True

    def __init__(self, path):
        super().__init__(path)
        self.can_resume = self.path.suffix != ".fifo"


class Property(Lines):
    """The same, said by a property."""

    @property
    def can_resume(self):
        return self.path.suffix != ".fifo"


@pytest.mark.parametrize("kind", [Path, Property])
@pytest.mark.parametrize(("path", "level"), [("a.txt", 2), ("a.fifo", 1)])
def test_what_an_instance_says_of_itself_counts(kind, path, level):
    """A class whose instances differ is asked by an instance with the options of the stage."""
    described = Pipeline(Numbers(1), **STATE).backend(kind, path=path)
    assert lowest(levels(described.plan())).level == LEVELS[level]


def test_a_class_that_says_nothing_is_not_made():
    """The level is told before anything runs, so no stage of a user is made for it."""

    class Explosive(Backend):
        def __init__(self):
            raise AssertionError("made")

        def process(self, data): ...

    described = Pipeline(Numbers(1), **STATE).backend(Explosive)
    assert lowest(levels(described.plan())).level == "at_least_once"


@pytest.mark.parametrize("error", [OSError, ConfigError])
def test_a_class_that_cannot_be_made(error):
    """A mistake in the options comes out; anything else is for the run to tell."""

    class Broken(Path):
        def __init__(self, path):
            raise error("no")

    described = Pipeline(Numbers(1), **STATE).backend(Broken, path="a.txt")
    if error is ConfigError:
        with pytest.raises(ConfigError, match="no"):
            levels(described.plan())
    else:
        assert lowest(levels(described.plan())).level == "effectively_once"
