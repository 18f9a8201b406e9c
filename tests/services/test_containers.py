"""The life of containers and runners: start, wait, stop, kill, and failures."""

import logging
import threading
from functools import partial

import pytest

from m3 import Backoff
from m3.errors import ComponentError, ConfigError, PipelineError, StageError
from m3.messaging import Queue
from m3.services import (
    AttributeDependency,
    ClusterRpcProxy,
    DecoratorDependency,
    ExtensionNotFound,
    Service,
    ServiceContainer,
    ServiceRunner,
    ServiceStateError,
    consume,
    event_handler,
    rpc,
    run_services,
)
from m3.stages import Item


class Echo:
    name = "echo"

    @rpc
    def echo(self, value):
        return value


class Held:
    """A service whose calls last until the test lets them end."""

    name = "held"
    begun = None

    @rpc
    def hold(self):
        self.begun.release()
        self.may_end.wait(20)
        return "held"


@pytest.fixture
def held():
    Held.begun, Held.may_end = threading.Semaphore(0), threading.Event()
    yield Held
    Held.may_end.set()


def threads():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("m3-")}


def test_a_service_is_a_pipeline(config):
    """Its entrypoints are frontends, the method call a transport, the answer a backend."""
    plan = ServiceContainer(Echo, {**config, "max_workers": 3}).plan()
    assert [spec.name for spec in plan] == ["direct", "rpc", "invoke", "settle"]
    assert [spec.kind for spec in plan] == ["frontend", "frontend", "transport", "backend"]
    assert plan.transports[0].workers == 3
    assert plan.name == "echo"


def test_stop_lets_calls_end(held, config, bus):
    """A stop takes no more calls, and answers those that have begun."""
    runner = ServiceRunner(config)
    runner.add_service(held)
    runner.start()
    with ClusterRpcProxy(config) as cluster:
        reply = cluster.held.hold.call_async()
        assert held.begun.acquire(timeout=20)
        runner.containers[0].request_stop()
        held.may_end.set()
        assert reply.result() == "held"
    runner.stop()
    runner.wait(20)


def test_what_was_not_called_goes_back(held, config, bus):
    """Calls that no worker had begun with are in the queue again after a kill."""
    container = ServiceContainer(held, {**config, "max_workers": 1})
    container.start()
    with ClusterRpcProxy(config) as cluster:
        for _ in range(4):
            cluster.held.hold.call_async()
        assert held.begun.acquire(timeout=20)
        container.abandon()
        held.may_end.set()
        container.kill()
        with bus.consumer(Queue("rpc-held", *_rpc_binding()), prefetch=10) as consumer:
            waiting = [consumer.receive(20) for _ in range(3)]
    assert all(waiting)


def _rpc_binding():
    from m3.services.calls import rpc_exchange

    return rpc_exchange({}), "held.*"


def test_a_call_that_does_not_end_is_left_behind(held, config, bus):
    """A stop returns by its deadline; the report says which call hangs, and where."""
    container = ServiceContainer(held, config)
    container.start()
    call = container.spawn_worker("hold")
    assert held.begun.acquire(timeout=20)
    report = container.stop(0.2)
    assert len(report.hung) == 1
    assert "self.may_end.wait(20)" in report.hung[0].stack
    held.may_end.set()
    with pytest.raises(Exception, match="ended before"):
        call.result(20)


def test_kill_does_not_wait_for_calls(held, config, bus):
    """It returns although a call goes on."""
    container = ServiceContainer(held, config)
    container.start()
    container.spawn_worker("hold")
    assert held.begun.acquire(timeout=20)
    container.kill()
    assert container.report().state == "failed"
    held.may_end.set()


class Fatal(DecoratorDependency):
    """An entrypoint whose input breaks."""

    may_fail = threading.Event()

    def produce(self):
        self.may_fail.wait(20)
        raise ConnectionError("the line is cut")
        yield


def test_a_failing_service_ends_its_peers(config, bus):
    """The runner stops the others, and says what has failed first."""

    class Broken:
        name = "broken"

        @Fatal.decorator
        def handle(self):
            """Never called."""

    Fatal.may_fail.clear()
    runner = ServiceRunner(config)
    for service in (Echo, Broken):
        runner.add_service(service)
    runner.start()
    with pytest.raises(TimeoutError):
        runner.wait(0.01)
    Fatal.may_fail.set()
    with pytest.raises(StageError, match="the line is cut") as caught:
        runner.wait(20)
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert runner.container("echo").report().state == "finished"


def test_several_failures_come_together(config, bus):
    """None of them hides another."""
    barrier = threading.Barrier(2, timeout=20)

    class Breaks(DecoratorDependency):
        def produce(self):
            barrier.wait()
            raise ConnectionError(self.method_name)
            yield

    def breaking(service_name):
        class Breaking:
            name = service_name

            @Breaks.decorator
            def handle(self):
                """Never called."""

        return Breaking

    runner = ServiceRunner(config)
    runner.add_service(breaking("one"))
    runner.add_service(breaking("other"))
    runner.start()
    with pytest.raises((PipelineError, StageError), match=r"2 services failed|handle"):
        runner.wait(20)


def test_if_one_cannot_start_none_runs(config, bus):
    """Those that were started before are stopped, and the error is raised; also by ``wait``."""

    class Unable(DecoratorDependency):
        def setup(self):
            raise OSError("no port")

        def produce(self):
            yield from ()

    class Broken:
        name = "broken"

        @Unable.decorator
        def handle(self):
            """Never called."""

    before = threads()
    runner = ServiceRunner(config)
    runner.add_service(Echo)
    runner.add_service(Broken)
    with pytest.raises(StageError, match="no port"):
        runner.start()
    assert threads() <= before
    with pytest.raises(StageError, match="no port"):
        runner.wait(20)


def test_run_services_stops_them_however_the_block_ends(config, bus):
    """nameko's leaks the services if the body raises."""
    before = threads()
    with pytest.raises(ZeroDivisionError), run_services(config, Echo):
        raise ZeroDivisionError
    assert threads() <= before


def test_run_services_can_kill(held, config, bus):
    """``kill_on_exit`` does not wait for calls."""
    with run_services(config, held, kill_on_exit=True) as runner:
        runner.containers[0].spawn_worker("hold")
        assert held.begun.acquire(timeout=20)
    held.may_end.set()


def test_nothing_is_left_of_many_services(config, bus):
    """Started, called and stopped a hundred times: no thread more than before."""
    before = threads()
    for _ in range(25):
        with run_services(config, *[_echo(number) for number in range(4)]) as runner:
            for container in runner.containers:
                assert container.spawn_worker("echo", (1,)).result(20) == 1
    assert threads() <= before


def _echo(number):
    return type(f"Echo{number}", (Echo,), {"name": f"echo{number}"})


def test_services_stop_after_those_that_call_them(held, config, bus):
    """A call at hand can still call the others; services that call each other stop, too."""
    states = []

    class Caller:
        name = "caller"
        held, echo = Service("held"), Service("echo")

        @rpc
        def work(self):
            held.begun.release()
            held.may_end.wait(20)
            return self.echo.echo("still here")

    class Circle:
        name = "circle"
        caller, circle = Service("caller"), Service("circle")

        @rpc
        def work(self):
            """Never called."""

    runner = ServiceRunner(config)
    for service in (Circle, Caller, Echo, held):
        runner.add_service(service)
    runner.start()
    call = runner.container(Caller).spawn_worker("work")
    runner.container(Echo).observe(
        lambda call: states.append(runner.container(Caller).report().state)
    )
    assert held.begun.acquire(timeout=20)
    stopping = threading.Thread(target=runner.stop)
    stopping.start()
    while runner.container(Caller).report().state == "running":
        pass
    held.may_end.set()
    assert call.result(20) == "still here"
    stopping.join()
    assert states == ["stopping"]


def test_one_method_with_several_entrypoints(config, bus):
    """Each of them calls it; their frontends have names of their own."""

    class Both:
        name = "both"

        @event_handler("a", "x")
        @event_handler("b", "x")
        @rpc
        @rpc(expected_exceptions=KeyError)
        def handle(self, payload):
            return payload

    names = [spec.name for spec in ServiceContainer(Both, config).plan().frontends]
    assert names == ["direct", "rpc", "eventhandler-handle", "eventhandler-handle-2"]


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("AMQP_SSL", True, "amqps://"),
        ("HEARTBEAT", 30, "'heartbeat' in 'bus_options'"),
        ("TRANSPORT_OPTIONS", {"max_retries": 3}, "bus_options"),
        ("serializer", "pickle", "JSON"),
        ("ACCEPT", ["json", "pickle"], "JSON"),
    ],
)
def test_keys_of_nameko_are_not_passed_over(key, value, advice):
    """What would silently not be done is refused, with what to write instead."""

    class Service:
        @rpc
        def work(self):
            """Nothing."""

    for make in (
        partial(ServiceContainer, Service),
        lambda config: ClusterRpcProxy(config).start(),
    ):
        with pytest.raises(ConfigError, match=advice):
            make({key: value})
    ServiceContainer(Service, {"serializer": "json", "ACCEPT": ["json"], "AMQP_SSL": False})


def test_names(config):
    """A service has the name that its class gives, or that of the class; each once."""

    class Unnamed:
        echo = Echo.echo

    runner = ServiceRunner(config)
    runner.add_service(Echo)
    runner.add_service(Unnamed)
    assert runner.service_names == ["echo", "unnamed"]
    assert runner.container(Echo) is runner.container("echo")
    with pytest.raises(ConfigError, match="'echo' already"):
        runner.add_service(Echo)
    with pytest.raises(ConfigError, match="name is 3"):
        runner.add_service(type("Numbered", (Echo,), {"name": 3}))


def test_calls_at_the_wrong_time(config, bus):
    """Containers and runners run once, and say so."""
    container = ServiceContainer(Echo, config)
    with pytest.raises(ServiceStateError, match="was not started"):
        container.spawn_worker("echo")
    assert container.stop() is None
    with container:
        with pytest.raises(ExtensionNotFound, match="no entrypoint 'ecco'; it has echo"):
            container.spawn_worker("ecco")
        with pytest.raises(ServiceStateError, match="was started before"):
            container.start()
    with pytest.raises(ServiceStateError, match="takes no more calls"):
        container.spawn_worker("echo")
    runner = ServiceRunner(config)
    with pytest.raises(ServiceStateError, match="not started"):
        runner.wait()
    with runner, pytest.raises(ServiceStateError, match="started before"):
        runner.start()


def test_an_entrypoint_of_ones_own(config, bus):
    """A subclass yields calls, and is told what became of those with a position."""
    told, done = [], threading.Event()

    class Words(DecoratorDependency):
        def __init__(self, *words, **options):
            super().__init__(**options)
            self.words = words

        def produce(self):
            for number, word in enumerate(self.words):
                yield Item(self.call(word), number)

        def ack(self, position):
            told.append(position)

        def nack(self, position, error):
            told.append((position, str(error)))
            done.set()

    words = Words.decorator

    class Reader:
        @words("a", "b", expected_exceptions=KeyError)
        def read(self, word):
            if word == "b":
                raise KeyError(word)

    with ServiceContainer(Reader, {**config, "max_workers": 1}):
        assert done.wait(20)
    assert told == [0, (1, "'b'")]


class Login:
    name = "login"

    @rpc(sensitive_arguments=("password", "user.cards[0].number"), expected_exceptions=LookupError)
    def login(self, user, password, *, error=ValueError):
        raise error("no")


USER = {"name": "ann", "cards": [{"number": "4711-0815-4711", "kind": "gold"}]}


@pytest.fixture
def logged(config, bus, caplog):
    """Return a function that makes a call that fails, and returns what was logged."""

    def logged(*args, **kwargs):
        caplog.set_level(logging.INFO, "m3.services")
        with ServiceContainer(Login, config) as container:
            call = container.spawn_worker("login", args, kwargs)
            with pytest.raises((LookupError, TypeError, ValueError)):
                call.result(20)
            return repr(container.report()) + caplog.text, caplog.records[-1]

    return logged


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((USER, "secret"), {}), ((), {"user": USER, "password": "secret"})],
)
def test_sensitive_arguments_are_not_shown(logged, args, kwargs):
    """Neither in logs nor in reports; what is beside them is."""
    text, _ = logged(*args, **kwargs)
    assert "secret" not in text
    assert "4711-0815" not in text
    assert "gold" in text
    assert USER["cards"][0]["number"] == "4711-0815-4711"


def test_nothing_is_shown_of_arguments_that_do_not_fit(logged):
    """If it is not known which argument is which, all are sensitive."""
    text, _ = logged("ann", "secret", 1, 2)
    assert "secret" not in text
    assert "ann" not in text


def test_a_misspelt_sensitive_argument_is_refused():
    """It would hide nothing."""
    with pytest.raises(ConfigError, match=r"login: .*'pasword'.*did you mean 'password'"):

        @rpc(sensitive_arguments="pasword")
        def login(self, user, password):
            raise AssertionError


def test_expected_exceptions_are_logged_without_a_traceback(logged):
    """They are the caller's affair; others are errors, with their traceback."""
    _, record = logged("ann", "secret", error=KeyError)
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    _, record = logged("ann", "secret")
    assert record.levelname == "ERROR"
    assert record.exc_info[0] is ValueError


def test_options_of_the_bus_are_a_table():
    """Anything else is refused by name."""
    with pytest.raises(ConfigError, match="bus_options is 3"):
        ServiceContainer(Echo, {"bus_options": 3})


NO_NUMBERS = [0, -1, "x", None, True, float("nan"), "", [1]]


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, 2.5, float("inf")])
def test_a_service_has_a_number_of_workers(wrong):
    """A number that is none, or with which nothing would be answered, is refused by name."""
    with pytest.raises(ConfigError, match=r"^max_workers is .*; it is a whole number of at least"):
        ServiceContainer(Echo, {"max_workers": wrong})


@pytest.mark.parametrize("wrong", NO_NUMBERS)
@pytest.mark.parametrize("made", [partial(ServiceContainer, Echo), ClusterRpcProxy])
def test_calls_have_a_time(made, wrong):
    """Who calls, and who might, is told by name what is no time."""
    with pytest.raises(ConfigError, match=r"^rpc_timeout is .*; it is a number of seconds above 0"):
        made({"rpc_timeout": wrong})


@pytest.mark.parametrize("wrong", ["abc", -1, None, True])
def test_the_time_of_a_stop(wrong):
    """It is a number of seconds, which is known before the service starts."""
    with pytest.raises(ConfigError, match=r"^stop_timeout is .*; it is a number of seconds of at"):
        ServiceRunner({"stop_timeout": wrong}).add_service(Echo)
    with pytest.raises(ConfigError, match=r"^parent_calls_tracked is "):
        ServiceContainer(Echo, {"parent_calls_tracked": "x"})


def test_numbers_may_be_text():
    """What a variable of the environment stands for in a configuration is text."""
    config = {"max_workers": "3", "rpc_timeout": "1.5", "stop_timeout": "0", "hung_after": "9"}
    assert ServiceContainer(Echo, config).max_workers == 3


class Unwell(AttributeDependency):
    """What cannot start."""

    def start(self, _):
        raise ValueError("no luck")


def test_who_cannot_start_is_named(config):
    """Of several services, and several dependencies of one class, it is known which it was."""

    class Hopeless:
        name = "hopeless"
        the_one = Unwell()

        @rpc
        def work(self):
            """Do nothing."""

    with pytest.raises(ComponentError) as caught, run_services(config, Echo, Hopeless):
        pass
    assert str(caught.value) == (
        "service 'hopeless', dependency 'the_one': component Unwell, in setup(): "
        "ValueError: no luck"
    )
    assert isinstance(caught.value.error, ValueError)


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
@pytest.mark.parametrize("outside", [rpc, rpc(sensitive_arguments="x"), event_handler("a", "b")])
def test_what_is_called_takes_self(kind, outside):
    """A static method, or one of the class, is refused by name, on either side of the decorator."""

    def method(x):
        """Take no self."""

    with pytest.raises(ConfigError, match=rf"method is a {kind.__name__}.* take self"):
        outside(kind(method))
    declared = type("Declared", (), {"method": kind(outside(method))})
    with pytest.raises(ConfigError, match=rf"method is a {kind.__name__}.* take self"):
        ServiceContainer(declared)


@pytest.mark.parametrize("wrong", [3, None, "yes", Backoff()])
def test_how_a_call_is_tried_again(wrong):
    """What is neither true nor false nor a policy is refused where it is written."""
    for declare in (partial(event_handler, "ship", "arrived"), partial(consume, Queue("inbox"))):
        with pytest.raises(ConfigError, match=r"^requeue_on_error is .* a Retry"):
            declare(requeue_on_error=wrong)


@pytest.mark.parametrize("wrong", ["inbox", None, 7])
def test_what_is_consumed_is_a_queue(wrong):
    """Its name alone is refused where it is written."""
    with pytest.raises(ConfigError, match=r"^consume\(.*\): it needs a Queue"):
        consume(wrong)
