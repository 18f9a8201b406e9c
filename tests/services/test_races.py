"""Starts, stops and calls of services that come at the same time, or from within."""

import logging
import threading
import uuid

import pytest
from echoes import Echo

from m3.errors import AbandonedError, ComponentError, StageError
from m3.services import (
    AttributeDependency,
    ServiceContainer,
    ServiceRunner,
    ServiceStateError,
    rpc,
)

PATIENCE = 20.0


class Peer(Echo):
    name = "peer"


class Gate(AttributeDependency):
    """What does not start before the test lets it."""

    def __init__(self):
        self.is_reached, self.is_open = threading.Event(), threading.Event()
        self.error = None

    def start(self, _):
        self.is_reached.set()
        self.is_open.wait(PATIENCE)
        if self.error is not None:
            raise self.error


def gated():
    """Return a service that does not start before its gate is open, and the gate."""
    gate = Gate()
    return type("Gated", (Echo,), {"name": "gated", "gate": gate}), gate


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def config(url):
    return {"AMQP_URI": url, "stop_timeout": 5, "max_workers": 2}


@pytest.fixture
def beside():
    """Return a function that calls another in a thread; the test waits for it at its end."""
    begun = []

    def beside(function):
        thread = threading.Thread(target=function, daemon=True)
        thread.start()
        begun.append(thread)
        return thread

    yield beside
    for thread in begun:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_stop_ends_a_start(config, beside, end):
    """What was not started when the stop began is not started any more."""
    service, gate = gated()
    runner = ServiceRunner(config, stopping=gate.is_open.set)
    runner.add_service(service)
    runner.add_service(Echo)
    start = beside(runner.start)
    try:
        assert gate.is_reached.wait(PATIENCE)
        getattr(runner, end)()
        start.join(PATIENCE)
        assert not runner.container("echo").is_started()
        runner.wait(PATIENCE)
    finally:
        runner.kill()


def test_a_start_after_a_stop_starts_nothing(config):
    """A stop that was asked for early is heeded."""
    runner = ServiceRunner(config)
    runner.add_service(Echo)
    runner.stop()
    try:
        runner.start()
        assert not runner.container("echo").is_started()
        runner.wait(PATIENCE)
    finally:
        runner.kill()


class Overtaken(ServiceContainer):
    """A container that is about to start when a stop finds that it does not run."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.is_about_to_start, self.is_passed = threading.Event(), threading.Event()

    def start(self):
        self.is_about_to_start.set()
        self.is_passed.wait(PATIENCE)
        super().start()

    def stop(self, timeout=None):
        report = super().stop(timeout)
        self.is_passed.set()
        return report


def test_a_stop_does_not_miss_a_service_that_just_starts(config, beside):
    """It returns when that one has been stopped, too."""
    runner = ServiceRunner(config)
    container = runner.add_service(Echo, Overtaken)
    beside(runner.start)
    assert container.is_about_to_start.wait(PATIENCE)
    try:
        runner.stop(PATIENCE)
        assert container.report().state == "finished"
        runner.wait(PATIENCE)
    finally:
        container.kill()


def test_starts_and_stops_at_the_same_time(config, beside):
    """Whichever comes first, all services end, and whoever waits returns."""
    for _ in range(20):
        runner = ServiceRunner(config)
        runner.add_service(Echo)
        runner.add_service(Peer)
        barrier = threading.Barrier(3, timeout=PATIENCE)
        errors = []

        def act(does, barrier=barrier, errors=errors):
            barrier.wait()
            try:
                does()
            except Exception as error:
                errors.append(error)

        acts = (runner.start, runner.stop, runner.kill)
        for thread in [beside(lambda does=does, act=act: act(does)) for does in acts]:
            thread.join(PATIENCE)
        runner.wait(PATIENCE)
        assert errors == []
        assert all(
            not each.is_started() or each.report().state == "finished" for each in runner.containers
        )


@pytest.mark.parametrize("end", [None, "request_stop", "abandon"])
def test_calls_are_answered_though_the_start_is_not_completed(config, beside, caplog, end):
    """Those that came before its end get an error, and those after it are refused."""
    caplog.set_level(logging.INFO, "m3.services")
    service, _ = gated()
    container = ServiceContainer(service, config)
    gate, errors = container.dependencies["gate"], []

    def start():
        try:
            container.start()
        except ComponentError as error:
            errors.append(error)

    started = beside(start)
    assert gate.is_reached.wait(PATIENCE)
    call = container.spawn_worker("echo", (1,))
    if end is None:
        gate.error = OSError("no database")
    else:
        getattr(container, end)()
    gate.is_open.set()
    with pytest.raises(AbandonedError):
        call.result(PATIENCE)
    started.join(PATIENCE)
    with pytest.raises(ServiceStateError, match="takes no more calls"):
        container.spawn_worker("echo", (2,))
    assert len(errors) == (end is None)
    assert "is started" not in caplog.text


def test_a_callback_that_raises_does_not_keep_services_up(config, caplog):
    """What the callback for the stop raises is logged; all services end as without it."""

    def stopping():
        raise OSError("nobody to tell")

    runner = ServiceRunner(config, stopping=stopping)
    runner.add_service(Echo)
    runner.add_service(Peer)
    runner.start()
    try:
        runner.container(Echo).spawn_managed_thread(lambda: 1 / 0)
        with pytest.raises(StageError, match="division by zero"):
            runner.wait(PATIENCE)
        assert runner.container(Peer).report().state == "finished"
        assert "nobody to tell" in caplog.text
    finally:
        for container in runner.containers:
            container.kill()


@pytest.mark.parametrize("what", ["runner", "container"])
@pytest.mark.parametrize("where", ["worker", "thread"])
def test_a_service_may_stop_itself(config, caplog, what, where):
    """A stop that a service's own code asks for does not wait for that code to end."""
    stops = []

    class Quitter(Echo):
        name = "quitter"

        @rpc
        def quit(self):
            stops[0]()
            return "has quit"

    runner = ServiceRunner(config)
    container = runner.add_service(Quitter)
    stops.append(runner.stop if what == "runner" else container.stop)
    with runner:
        if where == "worker":
            assert container.spawn_worker("quit").result(PATIENCE) == "has quit"
        else:
            container.spawn_managed_thread(stops[0]).join(PATIENCE)
        runner.wait(PATIENCE)
    assert "left behind" not in caplog.text
    assert container.report().hung == ()


def test_what_an_observer_raises_is_logged(config, caplog):
    """Calls are answered with what became of them, and the service goes on."""

    def observe(call):
        raise AssertionError(f"not {call.method_name}")

    with ServiceContainer(Echo, config) as container:
        container.observe(observe)
        assert container.spawn_worker("echo", (1,)).result(PATIENCE) == 1
        with pytest.raises(ValueError, match="the method's own"):
            container.spawn_worker("fail").result(PATIENCE)
        assert container.spawn_worker("echo", (2,)).result(PATIENCE) == 2
    container.wait(PATIENCE)
    assert "not echo" in caplog.text
    assert "not fail" in caplog.text


def test_a_container_is_started_by_one_thread(config, beside):
    """Of two that start it at once, one is told that it was started."""
    refused, both = [], threading.Event()

    class Contested(ServiceContainer):
        plans = 0

        def plan(self):
            self.plans += 1
            if self.plans == 1:
                others.append(beside(start))
                both.wait(0.5)
            else:
                both.set()
            return super().plan()

    def start():
        try:
            container.start()
        except ServiceStateError as error:
            refused.append(error)

    container, others = Contested(Echo, config), []
    start()
    others[0].join(PATIENCE)
    container.stop()
    assert (container.plans, len(refused)) == (1, 1)


def test_a_runner_is_started_by_one_thread(config, beside):
    """Of several that start it at once, all but one are told that it was started."""
    for _ in range(50):
        runner, refused = ServiceRunner(config), []
        barrier = threading.Barrier(3, timeout=PATIENCE)

        def start(runner=runner, refused=refused, barrier=barrier):
            barrier.wait()
            try:
                runner.start()
            except ServiceStateError as error:
                refused.append(error)

        for thread in [beside(start) for _ in range(3)]:
            thread.join(PATIENCE)
        assert len(refused) == 2


def test_a_start_that_is_interrupted_twice_leaves_nobody_waiting(config):
    """Ctrl-C again, while what was started is stopped, does not let a wait go on for ever."""

    class Interrupted(ServiceContainer):
        def start(self):
            raise KeyboardInterrupt

        def request_stop(self, timeout=None):
            raise KeyboardInterrupt

    runner = ServiceRunner(config)
    runner.add_service(Echo, Interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.start()
    runner.wait(0)
