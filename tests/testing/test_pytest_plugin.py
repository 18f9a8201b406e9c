"""The plugin of pytest: what users' tests of services get, and what becomes of it."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import m3.pytest_plugin
import m3.services
import m3.testing._running  # so that runs within this process share the modules
from m3.messaging import connect
from m3.testing._own_bus import own_url

PAGE = Path(__file__).parents[2] / "docs" / "services.md"

SERVICES = """
import threading

import pytest
from m3 import StageError
from m3.services import DecoratorDependency, event_dispatcher, event_handler, rpc, timer
from m3.testing import entrypoint_hook, entrypoint_waiter


class Hello:
    name = "hello"

    @rpc
    def greet(self, name):
        return f"hello, {name}"

    @event_handler("door", "opened")
    def welcome(self, payload):
        return payload


class Breaking(DecoratorDependency):
    may_break = threading.Event()

    def produce(self):
        self.may_break.wait(20)
        raise OSError("the wire is cut")


class Fragile:
    name = "fragile"

    @rpc
    def greet(self): ...

    @Breaking.decorator
    def handle(self): ...
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Return a function that runs tests with the plugin, and no other, and returns the result."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)

    def run(tests, *arguments):
        pytester.makepyfile(SERVICES + dedent(tests))
        options = ("-W", "error", "-p", "no:cacheprovider", *arguments)
        return pytester.runpytest_inprocess(*options, plugins=[m3.pytest_plugin])

    return run


@pytest.fixture(params=["memory", "sqlite", pytest.param("amqp", marks=pytest.mark.services)])
def bus_option(request):
    """Return the option that names a bus, of each kind in turn."""
    is_amqp = request.param == "amqp"
    return f"--m3-bus={request.getfixturevalue('own_rabbitmq') if is_amqp else request.param}" + (
        "" if is_amqp else "://"
    )


def test_services_run_on_the_bus_that_was_chosen(run, bus_option):
    """The same tests pass on each bus: calls, events, and a service started for the second time."""
    tests = """
    def test_call(container_factory, m3_rpc):
        container_factory(Hello).start()
        assert m3_rpc.hello.greet("you") == "hello, you"

    def test_event(runner_factory, m3_config):
        runner = runner_factory(m3_config, Hello)
        runner.start()
        with entrypoint_waiter(runner.container(Hello), "welcome") as result:
            event_dispatcher(m3_config)("door", "opened", "guest")
        assert result.get() == "guest"

    def test_again(container_factory, m3_config):
        container_factory(Hello).start()
        container_factory(Hello, {"max_workers": 1}).start()

    def test_what_waits(container_factory, m3_config):
        with container_factory(Hello):
            pass
        event_dispatcher(m3_config)("door", "opened", "guest")
        container = container_factory(Hello)
        with entrypoint_waiter(container, "welcome") as result:
            container.start()
        assert result.get() == "guest"
    """
    run(tests, bus_option).assert_outcomes(passed=4)


def test_the_example_of_the_documentation(run, pytester, bus_option, monkeypatch):
    """A reader who copies it has tests that pass."""
    monkeypatch.syspath_prepend(pytester.path)
    block = re.compile(r"^<!-- file: (\w+).py -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    files = dict(block.findall(PAGE.read_text("utf-8")))
    pytester.makepyfile(**files)
    run("", bus_option, *(f"{name}.py" for name in files)).assert_outcomes(passed=2)


def test_no_test_sees_messages_of_another(run, bus_option):
    """What waits in a queue at the end of a test is gone, whatever the bus."""
    tests = """
    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_one(container_factory, m3_config, number):
        seen = []

        class Guests:
            name = "guests"

            @event_handler("door", "opened")
            def welcome(self, payload):
                seen.append(payload)

        with container_factory(Guests):
            pass
        container = container_factory(Guests)
        dispatch = event_dispatcher(m3_config)
        dispatch("door", "opened", number)
        with entrypoint_waiter(container, "welcome"):
            container.start()
        container.stop()
        dispatch("door", "opened", number)
        assert seen == [number]
    """
    run(tests, bus_option).assert_outcomes(passed=3)


@pytest.mark.services
def test_rabbitmq_is_as_it_was(run, own_rabbitmq, virtual_hosts):
    """What the tests have declared is deleted, dead letters and messages put off included."""
    tests = """
    def test_one(container_factory, m3_config, m3_rpc):
        class Failing:
            name = "failing"

            @event_handler("door", "opened", requeue_on_error=True)
            def welcome(self, payload):
                raise ValueError("no")

            @rpc
            def ping(self): ...

        container = container_factory(Failing)
        container.start()
        m3_rpc.failing.ping()
        with entrypoint_waiter(container, "welcome"):
            event_dispatcher(m3_config)("door", "opened", 1)
    """
    run(tests, f"--m3-bus={own_rabbitmq}").assert_outcomes(passed=1)
    assert virtual_hosts.what_is_in(own_rabbitmq) == []


@pytest.mark.services
def test_a_vhost_that_everybody_uses_is_refused(run, rabbitmq):
    """Deleting what tests declare might hit somebody there."""
    result = run("def test_one(m3_bus): ...", f"--m3-bus={rabbitmq}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*need a vhost of their own*"])


def test_everything_stops_at_the_end_of_a_test(run):
    """Whether it passed or failed."""
    tests = """
    def test_starts(runner_factory, container_factory):
        runner_factory(Hello).start()
        container_factory(Hello).start()
        assert "m3-watch-hello" in {thread.name for thread in threading.enumerate()}

    def test_fails(container_factory):
        container_factory(Hello).start()
        raise ZeroDivisionError

    def test_ends():
        assert [one.name for one in threading.enumerate() if one.name.startswith("m3-")] == []
    """
    run(tests).assert_outcomes(passed=2, failed=1)


@pytest.mark.parametrize("make", ["container_factory", "runner_factory"])
def test_a_service_that_failed_fails_its_test(run, make):
    """It does so though the test itself has seen nothing of it."""
    tests = f"""
    def test_one({make}):
        {make}(Fragile).start()
        Breaking.may_break.set()
    """
    result = run(tests)
    result.assert_outcomes(passed=1, errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*OSError: the wire is cut*"])


@pytest.mark.parametrize("make", ["container_factory", "runner_factory"])
def test_a_test_that_expects_the_failure_passes(run, make):
    """``wait()`` has told it, or ``start()``."""
    tests = f"""
    def test_wait({make}):
        one = {make}(Fragile)
        one.start()
        Breaking.may_break.set()
        with pytest.raises(StageError, match="the wire is cut"):
            one.wait(20)

    def test_start({make}):
        class Unable(DecoratorDependency):
            def setup(self):
                raise OSError("no wire")

            def produce(self):
                raise AssertionError

        class Broken:
            @Unable.decorator
            def handle(self): ...

        with pytest.raises(StageError, match="no wire"):
            {make}(Broken).start()
    """
    run(tests).assert_outcomes(passed=2)


def test_a_call_that_does_not_end_fails_its_test(run):
    """The stop gives up by its deadline, and says where the call is."""
    tests = """
    has_begun, may_end = threading.Event(), threading.Event()

    class Stuck:
        name = "stuck"

        @rpc
        def hold(self):
            has_begun.set()
            may_end.wait(20)

    def test_one(container_factory):
        container = container_factory(Stuck, {"stop_timeout": 0.2})
        container.start()
        container.spawn_worker("hold")
        assert has_begun.wait(20)

    def test_two():
        may_end.set()
    """
    result = run(tests)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*HungWorkerError*", "*may_end.wait(20)*"])


def test_timers_go_by_the_clock_of_the_test(run):
    """A test that asks for the clock moves it for all its services."""
    tests = """
    class Clockwork:
        name = "clockwork"

        @timer(interval=3600)
        def tick(self): ...

    @pytest.mark.parametrize("make", ["container_factory", "runner_factory"])
    def test_an_hour(request, m3_clock, make):
        one = request.getfixturevalue(make)(Clockwork)
        one.start()
        container = one if make == "container_factory" else one.container(Clockwork)
        m3_clock.await_sleepers()
        with entrypoint_waiter(container, "tick"):
            m3_clock.advance(3600)
    """
    run(tests).assert_outcomes(passed=2)


def test_fixtures_of_the_user_come_first(run):
    """The plain names are theirs, if they like; and a bus of their own is used."""
    tests = """
    @pytest.fixture
    def container_factory():
        return "a factory for containers"

    @pytest.fixture
    def rabbit_config():
        return {"AMQP_URI": "amqp://nowhere"}

    @pytest.fixture
    def m3_bus_url():
        return "memory://mine"

    @pytest.fixture
    def m3_config(m3_config):
        return {**m3_config, "max_workers": 3}

    def test_one(container_factory, runner_factory, m3_rpc):
        assert container_factory == "a factory for containers"
        runner = runner_factory(Hello, config={"colour": "blue"})
        runner.start()
        assert m3_rpc.hello.greet("you") == "hello, you"
        container = runner.container(Hello)
        assert container.max_workers == 3
        assert container.config["AMQP_URI"] == "memory://mine"
        assert container.config["colour"] == "blue"
    """
    run(tests).assert_outcomes(passed=1)


def test_the_bus_can_be_chosen_in_the_configuration(run, pytester):
    """The command line comes first."""
    pytester.makeini("[pytest]\nm3_bus = sqlite://")
    tests = """
    def test_one(m3_config, rabbit_config):
        assert m3_config["AMQP_URI"].startswith("sqlite:///")
        assert rabbit_config == m3_config
    """
    run(tests).assert_outcomes(passed=1)
    run(tests, "--m3-bus=memory://").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("chosen", "workers", "complaint"),
    [
        ("http://h", "1", "it is memory://, sqlite://"),
        ("sqlite:///bus.db", "1", "each test has a file of its own"),
        ("amqp://u:swordfish@h/tests", "2", "take each other's messages"),
    ],
)
def test_a_bus_that_tests_cannot_have(monkeypatch, tmp_path, chosen, workers, complaint):
    """What is wrong with it is said, without the password."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", workers)
    with pytest.raises(m3.errors.ConfigError, match=complaint) as caught:
        own_url(chosen, lambda: tmp_path)
    assert "swordfish" not in str(caught.value)


def test_each_worker_of_xdist_has_its_vhost(monkeypatch, tmp_path):
    """The name of the worker stands in the name of the vhost."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "4")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw3")
    assert own_url("amqp://h/m3-{worker}", lambda: tmp_path) == "amqp://h/m3-gw3"


def test_the_plugin_costs_others_nothing():
    """Nothing of m3 is imported by a run of pytest that uses none of its fixtures."""
    program = (
        "import sys, pytest; before = set(sys.modules); import m3.pytest_plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["m3", "m3.pytest_plugin"], "")


def test_every_fixture_is_documented(run):
    """``pytest --fixtures`` says what each is."""
    result = run("", "--fixtures", "-q")
    shown = result.stdout.str()
    fixtures = [name for name in m3.pytest_plugin.__all__ if not name.startswith("pytest_")]
    assert [name for name in fixtures if name not in shown] == []
    result.stdout.no_fnmatch_line("*no docstring available*")


def test_the_buses_of_tests_are_all_different(pytester, tmp_path):
    """No two tests have the same, so neither has messages of the other."""
    urls = {own_url("memory://", lambda: tmp_path) for _ in range(10)}
    assert len(urls) == 10
    for url in urls:
        with connect(url):
            pass
