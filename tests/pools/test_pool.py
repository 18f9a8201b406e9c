"""Backend pools as classes, as in Ramos, and their instances, which are resources."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from m3 import BackendPool, Conductor, configure
from m3.errors import ConfigError
from m3.pools import (
    DefaultBackendMixin,
    ImproperlyConfigured,
    InvalidBackendError,
    MissingSettingError,
    SingletonCreateMixin,
    ThreadSafeCreateMixin,
)


class Greetings(BackendPool):
    backend_type = "greeting"


class Greeting(ThreadSafeCreateMixin):
    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs


class Hi(Greeting):
    id = "hi"


class Bye(Greeting):
    id = "bye"


@pytest.fixture
def greetings():
    """Two backends are configured."""
    configure(pools={"greeting": (Hi, Bye)})


# -- as a class: what Ramos' own tests ask for --------------------------------------


def test_all_classes(greetings):
    """All classes, in the order of the configuration."""
    assert Greetings.all_classes() == [Hi, Bye]


def test_get_class(greetings):
    """A class by its id."""
    assert Greetings.get_class("bye") is Bye


def test_all(greetings):
    """An instance of each, in the order of the configuration."""
    assert [type(each) for each in Greetings.all()] == [Hi, Bye]


def test_get(greetings):
    """An instance by its id, also with the id as a keyword; a new one each time."""
    assert isinstance(Greetings.get("bye"), Bye)
    assert isinstance(Greetings.get(backend_id="bye"), Bye)
    assert Greetings.get("bye") is not Greetings.get("bye")


def test_iterator(greetings):
    """Instances, made as they are asked for."""
    backends = Greetings.iterator()
    assert isinstance(backends, Iterator)
    assert [type(each) for each in backends] == [Hi, Bye]


def test_classes_iterator(greetings, module):
    """Classes, imported as they are asked for."""
    module("m_broken", "raise OSError")
    configure(pools={"greeting": [Hi, "m_broken.Name"]})
    classes = Greetings.classes_iterator()
    assert isinstance(classes, Iterator)
    assert next(classes) is Hi
    with pytest.raises(ConfigError):
        next(classes)


def test_arguments_reach_create(greetings):
    """Of get, of all and of the iterator."""
    for backends in (
        [Greetings.get("hi", 1, 2, c=3)],
        Greetings.all(1, 2, c=3),
        Greetings.iterator(1, 2, c=3),
    ):
        assert all((each.args, each.kwargs) == ((1, 2), {"c": 3}) for each in backends)


def test_an_unknown_id(greetings):
    """Is an InvalidBackendError."""
    with pytest.raises(InvalidBackendError):
        Greetings.get("hello")


def test_a_type_without_configuration():
    """Is ImproperlyConfigured, as soon as anything is asked for."""
    for ask in (Greetings.all, Greetings.all_classes, Greetings.iterator):
        with pytest.raises(ImproperlyConfigured):
            ask()


@pytest.mark.parametrize("empty", [{}, [], ()])
def test_a_type_without_backends(empty):
    """Is an empty list."""
    configure(pools={"greeting": empty})
    assert Greetings.all() == []


def test_the_pool_itself_can_be_used():
    """Its type is None, which can be configured."""
    configure(pools={BackendPool.backend_type: [Hi]})
    assert BackendPool.all_classes() == [Hi]


def test_an_instance_has_the_methods_of_its_class(greetings):
    """As in Ramos' example, these make new backends each time."""
    pool = Greetings()
    assert [type(each) for each in pool.all()] == [Hi, Bye]
    assert pool.get("hi") is not pool.get("hi")
    assert pool["hi"] is not pool.get("hi")


# -- as a resource ------------------------------------------------------------------


@pytest.fixture
def told():
    """Return the list in which the backends below tell what happens to them."""
    return []


@pytest.fixture
def watched(told):
    """Configure backends that tell what happens to them, and return their pool."""

    class Watched(ThreadSafeCreateMixin):
        def __init__(self, name=""):
            told.append(f"create {self.id}{name}")

        def health(self):
            told.append(f"health {self.id}")

        def close(self):
            told.append(f"close {self.id}")

    names = ("one", "two", "three")
    configure(pools={"watched": [type(name, (Watched,), {"id": name}) for name in names]})

    class WatchedPool(BackendPool):
        backend_type = "watched"

    return WatchedPool


def test_backends_are_created_when_they_are_first_asked_for(watched, told):
    """Each once for the whole life of the pool; the default at its start."""
    pool = watched(default="two")
    pool.setup()
    assert told == ["create two"]
    assert pool.default is pool["two"]
    assert pool["one"] is pool["one"]
    assert [each.id for each in pool] == ["one", "two", "three"]
    assert list(pool) == list(pool)
    assert told == ["create two", "create one", "create three"]


def test_backends_are_checked_and_closed_with_the_pool(watched, told):
    """Those that were created, the last one first; after that the pool begins anew."""
    pool = watched(default="two")
    pool.setup()
    first = pool["one"]
    del told[:]
    pool.health()
    assert told == ["health two", "health one"]
    pool.shutdown()
    assert told[2:] == ["close one", "close two"]
    pool.shutdown()
    assert len(told) == 4
    pool.setup()
    assert pool["one"] is not first


def test_options_are_the_keywords_of_create(watched, told):
    """For each backend its own."""
    pool = watched(options={"one": {"name": "!"}})
    pool.setup()
    assert told == []
    assert (pool["one"], pool["two"]) == (pool["one"], pool["two"])
    assert told == ["create one!", "create two"]


@pytest.mark.parametrize("wrong", [{"default": "tow"}, {"options": {"tow": {}}}])
def test_an_id_that_is_not_there_is_found_at_the_start(watched, told, wrong):
    """Before anybody uses the pool."""
    with pytest.raises(InvalidBackendError, match="did you mean 'two'"):
        watched(**wrong).setup()
    assert told == []


def test_a_type_that_is_not_configured_is_found_at_the_start():
    """Even if nothing is asked for."""
    with pytest.raises(ImproperlyConfigured, match="'greeting'"):
        Greetings().setup()


def test_at_the_start_nothing_is_imported_but_what_is_named(module, greetings):
    """A broken backend that nobody uses does not matter."""
    module("m_broken", "raise OSError")
    configure(pools={"greeting": {"broken": "m_broken.Name", "hi": Hi}})
    pool = Greetings(default="hi")
    pool.setup()
    assert isinstance(pool.default, Hi)


def test_a_pool_without_a_default_says_how_to_name_one(greetings):
    """It starts all the same."""
    pool = Greetings()
    pool.setup()
    with pytest.raises(ImproperlyConfigured, match=r"Greetings\(default="):
        _ = pool.default


@pytest.mark.parametrize(
    "order", [(DefaultBackendMixin, Greetings), (Greetings, DefaultBackendMixin)]
)
def test_the_default_of_the_mixin(greetings, order):
    """The setting counts, in whichever order the bases are; the option counts more."""
    pool = type("Defaulted", order, {"SETTINGS_KEY": "GREETING"})
    with pytest.raises(MissingSettingError, match="'GREETING'"):
        pool().setup()
    configure(pools={"greeting": [Hi, Bye]}, settings={"GREETING": "bye"})
    assert isinstance(pool().default, Bye)
    assert isinstance(pool(default="hi").default, Hi)


def test_shutdown_is_preferred_to_close():
    """One of them is called; a backend with neither is left alone."""
    called = []

    class Both(Hi):
        def shutdown(self):
            called.append("shutdown")

        def close(self):
            called.append("close")

    configure(pools={"greeting": [Both, Bye]})
    pool = Greetings()
    assert len(list(pool)) == 2
    pool.health()
    pool.shutdown()
    assert called == ["shutdown"]


def test_a_backend_that_cannot_be_closed_stops_nobody_elses_end(told):
    """All are closed, and all causes raised, each with the backend that it came from."""

    class Fails(Greeting):
        def close(self):
            told.append(self.id)
            raise OSError(f"{self.id} is gone")

        health = close

    class Closes(Greeting):
        id = "closes"

        def close(self):
            told.append(self.id)

    a, b = (type(name, (Fails,), {"id": name}) for name in "ab")
    configure(pools={"greeting": [a, Closes, b]})
    pool = Greetings()
    list(pool)
    with pytest.raises(ExceptionGroup, match="health of Greetings") as failed:
        pool.health()
    assert len(failed.value.exceptions) == 2
    del told[:]
    with pytest.raises(ExceptionGroup, match="shutdown of Greetings") as failed:
        pool.shutdown()
    assert told == ["b", "closes", "a"]
    assert [str(error) for error in failed.value.exceptions] == ["b is gone", "a is gone"]
    assert failed.value.exceptions[0].__notes__ == ["backend 'b' of Greetings"]
    assert "'b': OSError: b is gone; 'a': OSError: a is gone" in str(failed.value)


def test_what_a_pool_reports_has_the_cause():
    """Whoever is told in one line reads which backend it was, and why; without secrets."""

    class Sick(Hi):
        def health(self):
            raise OSError("no answer from https://user:secret@example.org")

    configure(pools={"greeting": [Sick]})
    conductor = Conductor()
    conductor.add(Greetings(default="hi"))
    with conductor:
        failure = conductor.health()["Greetings"]
    told = "health of Greetings: backend 'hi': OSError: no answer from https://user:***@example.org"
    assert told in str(failure)


def test_an_async_close_is_told():
    """A pool has no event loop: what it cannot call is an error, and not left out silently."""

    class Async(Hi):
        async def close(self):
            raise AssertionError

    configure(pools={"greeting": [Async]})
    pool = Greetings(default="hi")
    pool.setup()
    with pytest.raises(ExceptionGroup) as failed:
        pool.shutdown()
    assert "Async.close is async" in str(failed.value.exceptions[0])


def test_a_close_that_would_not_run_is_told():
    """A generator does nothing when it is called, and a coroutine nothing that is not awaited."""

    async def coroutine():
        raise AssertionError

    class Yields(Hi):
        def close(self):
            yield

        def health(self):
            return coroutine()

    configure(pools={"greeting": [Yields]})
    pool = Greetings(default="hi")
    pool.setup()
    for call in (pool.health, pool.shutdown):
        with pytest.raises(ExceptionGroup) as failed:
            call()
        assert "a pool calls it from a plain thread" in str(failed.value.exceptions[0])


@pytest.mark.parametrize("kind", ["coroutine", "generator", "asynchronous generator"])
def test_a_create_that_would_not_run_is_told(kind):
    """What it returns is no backend; only who calls the class method itself can await that."""

    async def coroutine(cls):
        return cls()

    def generator(cls):
        yield cls()

    async def asynchronous(cls):
        yield cls()

    creates = {"coroutine": coroutine, "generator": generator}
    create = classmethod(creates.get(kind, asynchronous))
    configure(pools={"greeting": [type("Async", (Hi,), {"create": create})]})
    pool = Greetings(default="hi")
    with pytest.raises(ImproperlyConfigured, match=r"Async\.create\(\) .* plain method"):
        pool.setup()
    with pytest.raises(ImproperlyConfigured):
        list(pool)
    if kind == "coroutine":
        assert isinstance(asyncio.run(Greetings.get("hi")), Hi)


def test_a_singleton_is_made_anew_after_it_was_closed_with_a_pool():
    """The next run does not get what the one before has closed."""

    class Single(SingletonCreateMixin):
        id = "single"
        closed = False

        def close(self):
            self.closed = True

    configure(pools={"greeting": [Single]})
    pool = Greetings(default="single")
    pool.setup()
    first = pool.default
    assert first is Single.create()
    pool.shutdown()
    assert first.closed
    pool.setup()
    assert pool.default is not first
    assert pool.default is Single.create()
    Single.clear_instances()


def test_a_create_that_raises_is_raised_and_tried_again(greetings):
    """An error of one call is not that of the next."""
    fails = [True, False]

    class Fails(Greeting):
        id = "fails"

        def __init__(self):
            if fails.pop(0):
                raise OSError("down")

    configure(pools={"greeting": [Fails]})
    pool = Greetings(default="fails")
    with pytest.raises(OSError, match="down"):
        pool.setup()
    pool.setup()
    assert isinstance(pool.default, Fails)


def test_workers_share_the_backends(race, told):
    """Threads that ask at once get the same one."""
    made = []

    class Made(Greeting):
        id = "made"

        def __init__(self):
            time.sleep(0.001)  # others may run now
            made.append(self)

    configure(pools={"greeting": [Made, Hi]})
    pool = Greetings()
    backends = race(*[lambda: pool["made"]] * 50)
    assert [set(backends), made] == [{made[0]}, [made[0]]]


def test_backends_do_not_wait_for_each_other():
    """While one is being created, another one can be used."""
    started, go_on = threading.Event(), threading.Event()

    class Slow(Greeting):
        id = "slow"

        def __init__(self):
            started.set()
            go_on.wait(30)

    configure(pools={"greeting": [Slow, Hi]})
    pool = Greetings()
    slow = threading.Thread(target=lambda: pool["slow"])
    slow.start()
    assert started.wait(30)
    assert isinstance(pool["hi"], Hi)
    go_on.set()
    slow.join()
