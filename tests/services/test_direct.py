"""Direct calls and managed threads: each of them is answered, waited for, and told of, once."""

import logging
import threading
import uuid
from contextlib import suppress
from types import SimpleNamespace

import pytest
from echoes import Echo

from m3.errors import AbandonedError, ComponentError
from m3.services import (
    AttributeDependency,
    DependencyProvider,
    ServiceContainer,
    ServiceStateError,
    direct,
)
from m3.services import managed as managed_threads
from m3.services.managed import ManagedThreads

PATIENCE = 20.0


@pytest.fixture
def config():
    return {"AMQP_URI": f"memory://{uuid.uuid4().hex}", "stop_timeout": 5, "max_workers": 2}


@pytest.fixture
def failures():
    """Return the list of what managed threads have raised."""
    return []


@pytest.fixture
def threads(failures):
    return ManagedThreads(failures.append)


# -- managed threads -----------------------------------------------------------------


class Joined(threading.Thread):
    """A thread that knows when it is waited for."""

    def __init__(self, **options):
        super().__init__(**options)
        self.is_joined = threading.Event()

    def join(self, timeout=None):
        self.is_joined.set()
        super().join(timeout)


def await_join():
    """Wait until this thread is waited for."""
    assert threading.current_thread().is_joined.wait(PATIENCE)


def test_a_thread_that_is_spawned_during_a_join_is_waited_for(threads, monkeypatch):
    """A join returns when those have ended, too, that others have spawned meanwhile."""
    names = {**vars(threading), "Thread": Joined}
    monkeypatch.setattr(managed_threads, "threading", SimpleNamespace(**names))
    spawned, ended = [], []

    def first():
        await_join()
        spawned.append(threads.spawn(second, "second"))

    def second():
        await_join()
        ended.append("second")

    threads.spawn(first, "first")
    threads.join()
    was_waited_for = [*ended] == ["second"]
    spawned[0].join(PATIENCE)
    assert was_waited_for


def test_no_thread_begins_when_all_were_waited_for(threads):
    """Nobody would wait for it, or be told what it raises."""
    threads.spawn(lambda: None, "first")
    threads.join()
    with pytest.raises(ServiceStateError, match="begins no more threads"):
        threads.spawn(lambda: None, "second")


def test_threads_that_spawn_each_other_end(threads, monkeypatch):
    """When the time of a join is over, those at hand are the last."""
    monkeypatch.setattr(managed_threads, "PATIENCE", 0.01)
    ended = threading.Event()

    def again():
        try:
            threads.spawn(again, "again")
        except ServiceStateError:
            ended.set()
            raise

    again()
    threads.join()
    assert ended.wait(PATIENCE)


def test_a_thread_that_is_left_behind_is_named_once(threads, monkeypatch, caplog):
    """However often they are waited for."""
    monkeypatch.setattr(managed_threads, "PATIENCE", 0.01)
    may_end = threading.Event()
    stuck = threads.spawn(lambda: may_end.wait(PATIENCE), "stuck")
    with caplog.at_level(logging.WARNING):
        threads.join()
        threads.join()
    may_end.set()
    stuck.join(PATIENCE)
    assert caplog.text.count("thread stuck does not end") == 1


def test_a_start_that_fails_waits_for_threads(config):
    """A thread that a dependency has begun ends before the error is raised."""
    threads = []

    class Loop(DependencyProvider):
        def start(self):
            threads.append(self.container.spawn_managed_thread(self.run))

        def run(self):
            while True:
                self.container.spawn_worker("echo", ("again",)).result(PATIENCE)

    class Broken(AttributeDependency):
        loop: Loop

        def start(self, _):
            raise OSError("no database")

    service = type("Failing", (Echo,), {"loop": Loop(), "broken": Broken()})
    with pytest.raises(ComponentError, match="no database"):
        ServiceContainer(service, config).start()
    assert [thread.is_alive() for thread in threads] == [False]


# -- what they raise -----------------------------------------------------------------


class Contested(direct.DirectCalls):
    """A frontend of which two threads read what it keeps at the same time, if they can."""

    both = None

    def __getattribute__(self, name):
        value = super().__getattribute__(name)
        if name in ("_error", "_errors") and self.both is not None:
            with suppress(threading.BrokenBarrierError):
                self.both.wait(0.2)
        return value


def test_an_error_is_raised_once():
    """Of two that look for errors at once, one raises each."""
    calls, raised = Contested(), []

    def look():
        try:
            calls._raise()
        except OSError as error:
            raised.append(error)

    calls._fail(OSError("gone"))
    calls.both = threading.Barrier(2)
    looks = [threading.Thread(target=look) for _ in range(2)]
    for each in looks:
        each.start()
    for each in looks:
        each.join(PATIENCE)
    assert len(raised) == 1


def test_of_several_errors_all_are_raised():
    """What two threads raise at once comes as one group."""
    calls = direct.DirectCalls()
    errors = [OSError("first"), ValueError("second")]
    for error in errors:
        calls._fail(error)
    with pytest.raises(ExceptionGroup, match="2 threads") as raised:
        calls.cleanup()
    assert list(raised.value.exceptions) == errors


# -- calls ---------------------------------------------------------------------------


def test_a_handler_that_raises_leaves_nobody_waiting(config):
    """If the handler of a call that has failed raises, that is what the call has failed with."""

    def handle(call, result, exc_info):
        raise LookupError("the handler's own")

    with ServiceContainer(Echo, config) as container:
        call = container.spawn_worker("fail", handle_result=handle)
        with pytest.raises(LookupError, match="the handler's own") as raised:
            call.result(PATIENCE)
    assert isinstance(raised.value.__context__, ValueError)


def test_all_that_wait_are_answered_though_a_callback_raises():
    """At the end of a service each call is answered, and what callbacks raise is raised then."""
    ended = []

    class Position:
        class entrypoint:  # noqa: N801
            @staticmethod
            def handle_error(_, error):
                return error

        worker_ctx = None

        def __init__(self, number):
            self.number = number

        def end(self, error):
            ended.append((self.number, type(error)))
            if self.number == 0:
                raise OSError("nobody to tell")

    calls = direct.DirectCalls()
    for number in range(3):
        calls.submit(None, Position(number))
    with pytest.raises(OSError, match="nobody to tell"):
        calls.cleanup()
    assert ended == [(number, AbandonedError) for number in range(3)]
