"""What the methods of a service find on ``self``."""

import threading

import pytest

from m3 import Component
from m3.errors import ComponentError, ConfigError, ResourceError
from m3.services import (
    AttributeDependency,
    AuthToken,
    Config,
    ContextDataProvider,
    DependencyProvider,
    RemoteError,
    RpcProxy,
    ServiceContainer,
    UserAgent,
    rpc,
)
from m3.testing import dummy, entrypoint_hook


class Told(AttributeDependency):
    """Notes what it is called with."""

    def __init__(self, notes, fails_in=None):
        self.notes = notes
        self.fails_in = fails_in

    def note(self, *what):
        self.notes.append(what)
        if what[0] == self.fails_in:
            raise OSError(f"in {what[0]}")

    def start(self, srv_ctx):
        self.note("start", srv_ctx.name)

    def stop(self, srv_ctx):
        self.note("stop", srv_ctx.name)

    def acquire_injection(self, worker_ctx):
        self.note("acquire", worker_ctx.method_name, worker_ctx.args)
        return self

    def release_injection(self, worker_ctx):
        self.note("release", worker_ctx.result, repr(worker_ctx.exception))


@pytest.fixture
def run(config, bus):
    """Return a function that runs a class's method once, in a container of its own."""

    def run(service_cls, method="work", *args, **options):
        with (
            ServiceContainer(service_cls, config, **options) as container,
            entrypoint_hook(container, method) as hook,
        ):
            return hook(*args)

    return run


def working(**attributes):
    """Return a service with such attributes."""

    def work(self, error=None):
        if error:
            raise error
        return 42

    return type("Working", (), {"work": rpc(work), **attributes})


def test_the_life_of_a_dependency(run):
    """Started before the first call, told of each and what came of it, stopped at the end."""
    notes = []
    assert run(working(told=Told(notes))) == 42
    assert notes == [
        ("start", "working"),
        ("acquire", "work", ()),
        ("release", 42, "None"),
        ("stop", "working"),
    ]


def test_the_exception_reaches_the_release(run):
    """A call that has raised is released with what it raised, which its caller gets."""
    notes = []
    with pytest.raises(ValueError, match="no"):
        run(working(told=Told(notes)), "work", ValueError("no"))
    assert notes[2] == ("release", None, "ValueError('no')")


def test_all_that_were_acquired_are_released(run):
    """If one cannot be acquired, the call is not made and those before it are released."""
    first, second, third = [], [], []
    with pytest.raises(OSError, match="in acquire"):
        run(working(a=Told(first), b=Told(second, "acquire"), c=Told(third)))
    assert [note[0] for note in first] == ["start", "acquire", "release", "stop"]
    assert [note[0] for note in second] == ["start", "acquire", "stop"]
    assert [note[0] for note in third] == ["start", "stop"]


def test_a_release_that_fails_fails_the_call(run):
    """The others are released all the same, the last that was acquired first."""
    notes = []
    with pytest.raises(OSError, match="in release"):
        run(working(a=Told(notes), b=Told(notes, "release"), c=Told(notes)))
    assert [note[0] for note in notes].count("release") == 3
    assert [note[2] for note in notes if note[0] == "release"] == [
        "None",
        "None",
        "OSError('in release')",
    ]


def test_a_dependency_that_cannot_start_keeps_the_service_from_starting(config, bus):
    """Those that were started are stopped; the error says which."""
    notes = []
    container = ServiceContainer(working(a=Told(notes), b=Told([], "start")), config)
    with pytest.raises(ComponentError, match="in start"):
        container.start()
    assert ("start", "working") not in notes or ("stop", "working") in notes


def test_each_container_has_a_copy(config, bus):
    """What a dependency keeps is of one container, though it was declared once."""
    declared = Told([])
    service = working(told=declared)
    one, other = ServiceContainer(service, config), ServiceContainer(service, config)
    assert len({id(one.dependencies["told"]), id(other.dependencies["told"]), id(declared)}) == 3
    with one, other:
        assert one.dependencies["told"].srv_ctx is not other.dependencies["told"].srv_ctx
    assert declared.srv_ctx is None


def test_every_call_has_an_instance_of_its_own(serve, cluster):
    """Nothing that a call leaves on ``self`` is seen by another."""

    class Forgetful:
        name = "forgetful"
        seen = None

        @rpc
        def look(self, what):
            before, self.seen = self.seen, what
            return before

    serve(Forgetful, max_workers=1)
    assert [cluster.forgetful.look(1), cluster.forgetful.look(2)] == [None, None]


class Counter(Component):
    def __init__(self):
        self.states = []

    def setup(self):
        self.states.append("up")

    def shutdown(self):
        self.states.append("down")


def test_resources_by_annotation(run):
    """What a service names by annotation is set up before it and shut down after it."""
    counter = Counter()

    class Service:
        counter: Counter
        label: str = "just a value"
        missing: Counter | None = None

        @rpc
        def work(self):
            return (self.counter, list(self.counter.states), self.label, self.missing)

    found = run(Service, resources={Counter: counter})
    assert found == (counter, ["up"], "just a value", None)
    assert counter.states == ["up", "down"]


def test_a_dependency_has_resources_too_and_shares_them(run):
    """Dependencies that name the same class get the same instance, set up before them."""

    class Uses(AttributeDependency):
        counter: Counter

        def start(self, srv_ctx):
            assert self.counter.states == ["up"]

        def acquire_injection(self, worker_ctx):
            return self.counter

    class Service:
        one, other = Uses(), Uses()
        third: Counter

        @rpc
        def work(self):
            return self.one is self.other is self.third

    assert run(Service)


def test_an_annotation_that_nothing_fits_is_told(config, bus):
    """Never silence: the service's class and attribute are named."""

    class Service:
        counter: "Countr"  # noqa: F821

        @rpc
        def work(self):
            """Never called."""

    with pytest.raises(ResourceError, match=r"Service\.counter.*Countr"):
        ServiceContainer(Service, config).start()


@pytest.mark.parametrize("name", ["setup", "cleanup", "transport"])
def test_names_that_a_dependency_cannot_have(config, name):
    """The stage that calls the methods has these itself."""
    with pytest.raises(ConfigError, match=name):
        ServiceContainer(working(**{name: Told([])}), config).start()


def test_config_and_context(config, bus):
    """The configuration is there, and what travels with the call."""

    class Service:
        config = Config()
        token = ContextDataProvider("token")

        @rpc
        def work(self):
            return self.config["max_workers"], self.token

    with (
        ServiceContainer(Service, {**config, "max_workers": 3}) as container,
        entrypoint_hook(container, "work", {"token": "abc"}) as work,
    ):
        assert work() == (3, "abc")


class Tenant(ContextDataProvider):
    """A value that travels with calls, as a class of one's own."""

    context_key = "tenant"


def test_context_data_has_classes(config, bus):
    """Each gives its own value; a subclass says its key, and without one it is a mistake."""

    class Service:
        values = (AuthToken(), UserAgent(), Tenant(), Tenant("other"))
        token, agent, tenant, other = values

        @dummy
        def work(self):
            return self.token, self.agent, self.tenant, self.other

    context = {"auth_token": "t", "user_agent": "m3", "tenant": "us", "other": "them"}
    with (
        ServiceContainer(Service, config) as container,
        entrypoint_hook(container, "work", context) as work,
    ):
        assert work() == ("t", "m3", "us", "them")
    with pytest.raises(ConfigError, match="needs the key"):
        ContextDataProvider()


def test_a_dependency_knows_its_container(config, bus):
    """As does an entrypoint: it is where both find what else the service has."""

    class Names(AttributeDependency):
        def acquire_injection(self, _):
            return [self.container.service_name, *self.container.dependencies]

    class Service:
        names = Names()

        @dummy
        def work(self):
            return self.names

    container = ServiceContainer(Service, config)
    assert container.entrypoint("work").container is container
    with container, entrypoint_hook(container, "work") as work:
        assert work() == ["service", "names"]


def test_a_provider_with_the_methods_of_nameko_2(run):
    """``get_dependency``, ``worker_setup``, ``worker_result``, ``worker_teardown`` are called."""
    notes = []

    class Provider(DependencyProvider):
        def get_dependency(self, worker_ctx):
            return notes.append

        def worker_setup(self, worker_ctx):
            notes.append("setup")

        def worker_result(self, worker_ctx, result=None, exc_info=None):
            notes.append((result, exc_info and exc_info[0]))

        def worker_teardown(self, worker_ctx):
            notes.append("teardown")

    assert run(working(provider=Provider())) == 42
    with pytest.raises(ValueError):
        run(working(provider=Provider()), "work", ValueError())
    assert notes == ["setup", (42, None), "teardown", "setup", (None, ValueError), "teardown"]


def test_a_service_inherits_what_its_bases_declare(run):
    """Entrypoints and dependencies of a base class are those of the service, too."""
    notes = []

    class Derived(working(told=Told(notes))):
        pass

    assert run(Derived) == 42
    assert ("acquire", "work", ()) in notes


def test_a_remote_caller_is_told_what_a_dependency_raised(serve, cluster):
    """It is an error of the call like any other."""
    serve(working(told=Told([], "acquire"), name="working"))
    with pytest.raises(RemoteError, match="OSError in acquire"):
        cluster.working.work()


def test_dependencies_start_beside_each_other(run):
    """Those that do not need each other wait for no other."""
    barrier = threading.Barrier(2, timeout=20)

    class Meets(AttributeDependency):
        def start(self, srv_ctx):
            barrier.wait()

        def acquire_injection(self, worker_ctx):
            return None

    assert run(working(one=Meets(), other=Meets())) == 42


def test_the_names_of_dependencies_mean_nothing_elsewhere(serve, cluster):
    """Attributes may be called as what m3's own dependencies and components ask for."""

    class Service:
        name = "service"
        bus = Told([])
        replies = Told([])
        config = Config()
        logger = Told([])
        other = RpcProxy("service")

        @rpc
        def work(self):
            return self.other.look()

        @rpc
        def look(self):
            return [type(self.bus).__name__, type(self.logger).__name__]

    serve(Service)
    assert cluster.service.work() == ["Told", "Told"]
