"""Resources: what a stage names by annotation is started, given to it and closed again."""

import asyncio
import functools
import threading

import pytest
from workbench import SOON, join_threads

from m3 import Backend, Component, Frontend, Pipeline, Transport, create
from m3.errors import (
    CircularDependencyError,
    ComponentError,
    ComponentTimeoutError,
    EngineStateError,
    PipelineError,
    ResourceError,
    SetupError,
)

LOG: list[str] = []


@pytest.fixture(autouse=True)
def log():
    """Return what the components and stages of these tests have done, in order."""
    LOG.clear()
    return LOG


class Logged(Component):
    """A component that logs its life."""

    def setup(self):
        LOG.append(f"setup {type(self).__name__}")

    def shutdown(self):
        LOG.append(f"shutdown {type(self).__name__}")


class Files(Logged):
    pass


class Database(Logged):
    files: Files


class AsyncCache(Component):
    async def setup(self):
        await asyncio.sleep(0)
        LOG.append("setup AsyncCache")

    async def shutdown(self):
        await asyncio.sleep(0)
        LOG.append("shutdown AsyncCache")


class Store(Backend):
    db: Database

    def setup(self):
        LOG.append(f"stage {type(self.db).__name__}")

    def process(self, data):
        LOG.append(f"process {data}")

    def cleanup(self):
        LOG.append("cleanup")


class Broken(Component):
    def setup(self):
        raise OSError("no route")


class Fake(Logged):
    pass


def test_order_of_life():
    """A resource is set up before any stage, after what it needs, and shut down after all."""
    Pipeline([1]).backend(Store).run()
    assert LOG == [
        "setup Files",
        "setup Database",
        "stage Database",
        "process 1",
        "cleanup",
        "shutdown Database",
        "shutdown Files",
    ]


def test_one_for_all():
    """All workers of all stages are given the same instance of a class."""
    seen = []

    class Look(Transport):
        db: Database

        def setup(self):
            seen.append(self.db)

        def transport(self, data):
            return data

    Pipeline([1]).transport(Look, workers=4).transport(Look, workers=0).backend(Store).run()
    assert len(seen) == 4 + 4
    assert len(set(map(id, seen))) == 1


def test_frontends_too():
    """A frontend is given its resources before it produces."""

    class Rows(Frontend):
        db: Database

        def produce(self):
            yield type(self.db).__name__

    with Pipeline(Rows).results() as results:
        assert list(results) == ["Database"]


def test_given_by_class():
    """What is given for a class takes its place, and what that class needs is not started."""
    fake = Fake()
    Pipeline([1], resources={Database: fake}).backend(Store).run()
    assert [entry for entry in LOG if entry.startswith("setup")] == ["setup Fake"]


class Postgres(Database):
    pass


@pytest.mark.parametrize("given", [{Postgres: Postgres}, {"pg": Postgres}])
def test_given_for_a_class_below(given):
    """The only one of what is given that is of the class is meant, however it is given."""
    Pipeline([1], resources=given).backend(Store).run()
    assert "stage Postgres" in LOG


def test_several_given_for_classes_below():
    """Where several are of the class, it does not say which is meant."""

    class Sqlite(Database):
        pass

    given = {Postgres: Postgres(), Sqlite: Sqlite()}
    with pytest.raises(ResourceError, match=r"several resources are one: .*Postgres.*Sqlite"):
        Pipeline([1], resources=given).backend(Store).run()


def test_given_as_a_class():
    """A class that is given for another is made an instance of."""
    Pipeline([1], resources={Database: Fake}).backend(Store).run()
    assert "stage Fake" in LOG


def test_given_by_name():
    """Two instances of one class are told apart by the name of the attribute."""
    seen = {}

    class Copy(Backend):
        source: Database
        target: Database

        def process(self, data):
            seen.update(source=self.source, target=self.target)

    old, new = Database(), Database()
    Pipeline([1], resources={"source": old, "target": new}).backend(Copy).run()
    assert seen == {"source": old, "target": new}


def test_plain_objects():
    """An object that is no component is given as it is, for its class."""
    seen = []

    class Clock:
        pass

    class Look(Backend):
        clock: Clock

        def process(self, data):
            seen.append(self.clock)

    clock = Clock()
    Pipeline([1], resources={Clock: clock}).backend(Look).run()
    assert seen == [clock]


def test_an_attribute_that_is_there():
    """An instance of a stage that was made with its resource keeps it."""
    mine = Database()

    class Given(Store):
        def __init__(self, db):
            self.db = db

        def process(self, data):
            assert self.db is mine

    Pipeline([1]).backend(Given(mine)).run()
    Pipeline([1]).backend(Given, db=mine).run()
    assert "setup Database" not in LOG


def test_a_shared_instance_runs_again():
    """A stage that is given as an instance has its resources only while a run lasts."""
    store = Store()
    pipeline = Pipeline([1]).backend(store, workers=2)
    pipeline.run()
    assert "db" not in vars(store)
    pipeline.run()
    assert LOG.count("setup Database") == 2


def test_functions():
    """A function is given what its keyword-only parameters name."""

    def store(data, *, db: Database):
        LOG.append(f"{data} to {type(db).__name__}")

    Pipeline([1]).backend(store).run()
    assert "1 to Database" in LOG
    assert "shutdown Database" in LOG


def named(data, *, db: Database):
    LOG.append(f"{data} to {type(db).__name__}")


class Methods:
    def named(self, data, *, db: Database):
        named(data, db=db)


@functools.wraps(named)
def wrapped(*args, **kwargs):
    return named(*args, **kwargs)


@functools.wraps(named)
def giving(data):
    return named(data, db=Postgres())


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (functools.partial(named), "Database"),
        (Methods().named, "Database"),
        (wrapped, "Database"),
        (functools.partial(wrapped), "Database"),
        (functools.partial(named, db=Postgres()), "Postgres"),
        (giving, "Postgres"),
    ],
)
def test_functions_in_other_clothes(function, given):
    """Partial, bound and wrapped ones are given what they have not got from elsewhere."""
    Pipeline([1]).backend(function).run()
    assert f"1 to {given}" in LOG
    assert ("setup Database" in LOG) is (given == "Database")


def test_annotations_of_functions_as_text():
    """They are read where the function is made, also by workers, and in every run."""

    class Local(Logged):
        pass

    def keep(data, *, local: "Local"):
        LOG.append(type(local).__name__)

    pipeline = Pipeline([1]).backend(keep, workers=2)
    pipeline.run()
    pipeline.run()
    assert LOG.count("setup Local") == LOG.count("Local") == 2


def test_patch_by_name():
    """patch() replaces what a name has, by whatever takes its place, and nothing else."""
    seen = {}

    class Copy(Backend):
        source: Database
        target: Database

        def process(self, data):
            seen.update(source=type(self.source), target=type(self.target))

    given = {"source": Database(), "target": Database()}
    engine = Pipeline([1], resources=given).backend(Copy).engine()
    engine.patch("target", Fake())
    engine.start()
    assert seen == {"source": Database, "target": Fake}


def test_patch():
    """patch() replaces a class before the run, and not after it has begun."""
    engine = Pipeline([1]).backend(Store).engine()
    engine.patch(Database, Fake)
    engine.start()
    assert "stage Fake" in LOG
    with pytest.raises(EngineStateError):
        engine.patch(Database, Database)


def test_async_components():
    """A component whose methods are async is one like the others."""

    class Look(Backend):
        cache: AsyncCache

        def process(self, data):
            LOG.append("process")

    Pipeline([1]).backend(Look).run()
    assert LOG == ["setup AsyncCache", "process", "shutdown AsyncCache"]


def test_failing_start():
    """A resource that cannot start ends the run before any stage is set up, with its cause."""

    class Look(Backend):
        db: Database
        broken: Broken

        def setup(self):
            LOG.append("stage")

        def process(self, data):
            pass

    engine = Pipeline([1]).backend(Look).engine()
    with pytest.raises(ComponentError, match=r"Broken.*no route") as caught:
        engine.start()
    assert isinstance(caught.value.__cause__, OSError)
    assert "stage" not in LOG
    assert LOG.count("setup Database") == LOG.count("shutdown Database")
    assert caught.value in engine.report().errors


def test_failing_stage():
    """Where a stage cannot be set up, its resources are shut down all the same."""

    class Bad(Store):
        def setup(self):
            raise ValueError("bad")

    with pytest.raises(SetupError):
        Pipeline([1]).backend(Bad).run()
    assert LOG[-2:] == ["shutdown Database", "shutdown Files"]


def test_failing_shutdown():
    """A resource that cannot be shut down fails the run; the others are shut down."""

    class Bad(Database):
        def shutdown(self):
            raise OSError("stuck")

    with pytest.raises(ComponentError, match="stuck"):
        Pipeline([1], resources={Database: Bad}).backend(Store).run()
    assert LOG[-1] == "shutdown Files"


def test_failing_run():
    """A run that fails shuts its resources down; the error is that of the stage."""

    class Bad(Store):
        def process(self, data):
            raise ValueError("bad item")

    with pytest.raises(Exception, match="bad item"):
        Pipeline([1]).backend(Bad).run()
    assert LOG[-3:] == ["cleanup", "shutdown Database", "shutdown Files"]


def test_unhealthy_in_use():
    """A component that fails in use ends the run with its cause."""
    began = threading.Event()

    class Sick(Database):
        health_interval = 0.01

        def health(self):
            if began.is_set():
                raise OSError("gone")

    def endless():
        began.set()
        while True:
            yield 1

    with pytest.raises((ComponentError, PipelineError), match="gone"):
        Pipeline(endless, resources={Database: Sick}).backend(Store).run()


def test_circles():
    """Components that need each other are refused before anything starts, with the chain."""
    engine = Pipeline([1]).backend(NeedsCircle).engine()
    with pytest.raises(CircularDependencyError, match=r"First.*Second.*First"):
        engine.start()


def raised_by(function):
    """Return the exception that a call raises."""
    try:
        function()
    except Exception as error:
        return error


def test_stop_while_starting():
    """A stop while resources start ends them, and returns by its deadline."""
    entered, release = threading.Event(), threading.Event()

    class Slow(Component):
        def setup(self):
            entered.set()
            release.wait(SOON)

    class Look(Backend):
        slow: Slow

        def process(self, data):
            pass

    engine = Pipeline([1]).backend(Look).engine()
    failed = []
    starter = threading.Thread(target=lambda: failed.append(raised_by(engine.start)))
    starter.start()
    assert entered.wait(SOON)
    engine.stop(0.2)
    assert engine.stopped()
    starter.join(SOON)
    assert not starter.is_alive()
    assert "in setup()" in str(failed[0])
    assert "release.wait" in str(failed[0])
    release.set()
    join_threads()


def test_a_stop_that_ends_the_start():
    """A stop that comes before all resources are up ends the run, which has not failed."""
    entered = threading.Event()

    class Slow(Component):
        async def setup(self):
            entered.set()
            await asyncio.Event().wait()

    class Look(Backend):
        db: Database
        slow: Slow

        def process(self, data):
            pass

    engine = Pipeline([1]).backend(Look).engine()
    starter = threading.Thread(target=engine.start)
    starter.start()
    assert entered.wait(SOON)
    report = engine.stop()
    starter.join(SOON)
    assert (report.state, report.errors, report.produced) == ("finished", (), 0)
    assert LOG[-1] == "shutdown Files"


def test_stop_while_stopping():
    """A resource that hangs in its shutdown keeps nobody beyond the deadline, and is named."""
    release = threading.Event()

    class Stuck(Component):
        def shutdown(self):
            release.wait(SOON)

    class Look(Backend):
        stuck: Stuck

        def process(self, data):
            pass

    engine = Pipeline([1]).backend(Look).engine()
    engine.start(block=False)
    engine.stop(0.2)
    with pytest.raises(ComponentTimeoutError, match=r"Stuck, in shutdown[\s\S]*release\.wait"):
        engine.wait()
    release.set()
    join_threads()


def test_a_coroutine_that_hangs_is_told_where():
    """If the shutdown that hangs at the deadline is a coroutine, the error has its stack, too."""
    stuck = []

    class Stuck(Component):
        async def shutdown(self):
            self.release = asyncio.Event()
            stuck.append(self)
            await self.release.wait()

    class Look(Backend):
        stuck: Stuck

        def process(self, data):
            pass

    engine = Pipeline([1]).backend(Look).engine()
    engine.start(block=False)
    engine.stop(0.2)
    with pytest.raises(ComponentTimeoutError, match=r"shutdown[\s\S]*await self\.release\.wait"):
        engine.wait()
    stuck[0].loop.call_soon_threadsafe(stuck[0].release.set)
    join_threads()


def test_threads_of_its_users():
    """A component knows how many threads may use it, those of what stands between included."""
    seen = []

    class Counting(Component):
        def setup(self):
            seen.append(self.threads)

    class Between(Component):
        counting: Counting

    class Direct(Transport):
        counting: Counting

        def transport(self, data):
            return data

    class Last(Backend):
        between: Between

        async def process(self, data):
            pass

    Pipeline([1]).transport(Direct, workers=3).backend(Last, workers=2, concurrency=5).run()
    assert seen == [3 + 2 * 5]


def test_again():
    """A pipeline runs again with the same resources."""
    pipeline = Pipeline([1], resources={Database: Database()}).backend(Store)
    pipeline.run()
    pipeline.run()
    assert LOG.count("shutdown Database") == LOG.count("setup Database") == 2


class First(Component):
    second: "Second"


class Second(Component):
    first: First


class NeedsCircle(Backend):
    first: First

    def process(self, data):
        pass


def test_create():
    """create() takes resources, too."""

    class Two:
        def produce(self):
            return iter([1, 2])

    create(Two, None, Store, resources={Database: Fake}).start()
    assert "stage Fake" in LOG
