"""
What AIOConductor's own tests ask for holds here too.

The differences are those of docs/migrating-from-aioconductor.md: ``on_setup`` and
``on_shutdown`` are ``setup`` and ``shutdown``, and no loop is passed on.
"""

import asyncio
import logging

import pytest

from m3 import Component, Conductor
from m3.components import (
    CircularDependencyError,
    ComponentLoggingPolicy,
    Config,
    ConfigPolicy,
    LoggingPolicy,
    ModuleLoggingPolicy,
    SimpleConfigPolicy,
    SimpleLoggingPolicy,
)
from m3.components.annotations import wants
from m3.components.policies import camelcase_to_underscore


class A(Component):
    pass


class B(Component):
    pass


def depends_on(cls):
    """Return the components that a class names, as ``__depends_on__`` was."""
    return {
        name: want.types[0]
        for name, want in wants(cls).items()
        if isinstance(want.types[0], type) and issubclass(want.types[0], Component)
    }


def test_depends_on():
    """Dependencies are inherited, and can be overridden."""

    class C(Component):
        pass

    class X(Component):
        component_1: A
        component_2: B
        foo: int

    class Y(X):
        component_2: C
        bar: int

    assert [depends_on(cls) for cls in (A, B, C)] == [{}, {}, {}]
    assert depends_on(X) == {"component_1": A, "component_2": B}
    assert depends_on(Y) == {"component_1": A, "component_2": C}


def test_repr():
    """A component shows its module and its class."""
    assert repr(A()) == f"<{__name__}.A()>"


def test_setup_and_shutdown():
    """A diamond is set up from the bottom and shut down from the top, on the caller's loop."""
    setup_log = []
    shutdown_log = []

    class Logged(Component):
        async def setup(self):
            setup_log.append(type(self).__name__.lower())

        async def shutdown(self):
            shutdown_log.append(type(self).__name__.lower())

    class A(Logged):
        pass

    class B(Logged):
        a: A

    class C(Logged):
        a: A

    class D(Logged):
        b: B
        c: C

    config = {}

    async def main():
        loop = asyncio.get_running_loop()
        conductor = Conductor(config)
        d = conductor.add(D)
        await conductor.setup()
        assert setup_log in (["a", "b", "c", "d"], ["a", "c", "b", "d"])

        a, b, c = (conductor.add(cls) for cls in (A, B, C))
        for component in (a, b, c, d):
            assert component.loop is loop
            assert component.config is config
        assert (b.a, c.a, d.b, d.c) == (a, a, b, c)
        assert {node.state for node in conductor.graph().nodes} == {"started"}

        await conductor.shutdown()
        assert shutdown_log in (["d", "b", "c", "a"], ["d", "c", "b", "a"])
        assert {node.state for node in conductor.graph().nodes} == {"stopped"}

    asyncio.run(main())


def test_circular_dependency_error():
    """The arguments are the whole chain, also through a patch."""

    class A(Component):
        pass

    class B(Component):
        a: A

    class C(Component):
        b: B

    class D(A):
        c: C

    class E(Component):
        c: C

    async def main():
        conductor = Conductor(config={})
        conductor.patch(A, D)
        conductor.add(E)
        with pytest.raises(CircularDependencyError) as info:
            await conductor.setup()
        assert info.value.args == tuple(map(conductor.add, (E, C, B, A, C)))

    asyncio.run(main())


def test_patch():
    """Two classes patched with the same one share its instance."""

    class Patch(Component):
        pass

    class C(Component):
        a: A
        b: B

    async def main():
        conductor = Conductor(config={})
        conductor.patch(A, Patch)
        conductor.patch(B, Patch)
        c = conductor.add(C)
        await conductor.setup()
        a, b = conductor.add(A), conductor.add(B)
        assert isinstance(a, Patch)
        assert c.a is a
        assert c.b is a is b
        await conductor.shutdown()

    asyncio.run(main())


def test_run():
    """Components are up while the awaitable runs."""
    log = []

    class A(Component):
        async def setup(self):
            log.append("setup")

        async def shutdown(self):
            log.append("shutdown")

        async def run(self):
            log.append("run")

    conductor = Conductor(config={})
    a = conductor.add(A)
    conductor.run(a.run())
    assert log == ["setup", "run", "shutdown"]


def test_serve():
    """A component's own task ends the service by stopping the loop."""
    setup_log = []
    shutdown_log = []
    run_log = []

    class A(Component):
        counter: int

        async def setup(self):
            setup_log.append("a")
            self.counter = 0

        async def shutdown(self):
            shutdown_log.append("a")

        async def request(self):
            run_log.append("a")
            self.counter += 1
            return self.counter

    class B(Component):
        a: A
        run_task: asyncio.Task

        async def setup(self):
            setup_log.append("b")
            self.run_task = self.loop.create_task(self.run())

        async def shutdown(self):
            self.run_task.cancel()
            shutdown_log.append("b")

        async def run(self):
            try:
                while await self.a.request() < 3:  # noqa: ASYNC110  # as it was
                    await asyncio.sleep(0.00001)
                self.loop.stop()
            except asyncio.CancelledError:
                pass

    conductor = Conductor(config={})
    b = conductor.add(B)
    conductor.serve()

    assert setup_log == ["a", "b"]
    assert run_log == ["a", "a", "a"]
    assert shutdown_log == ["b", "a"]
    assert b.run_task.done()


def test_simple_config_policy():
    """The same object for all; it is there as soon as they are added."""
    config: Config = {}
    conductor = Conductor(config_policy=SimpleConfigPolicy(config=config))
    assert conductor.add(A).config is config
    assert conductor.add(B).config is config


def test_config_policy():
    """A policy gets the class."""

    class ByName(ConfigPolicy):
        def __call__(self, component_class):
            return {"name": component_class.__name__}

    conductor = Conductor(config_policy=ByName())
    assert conductor.add(A).config == {"name": "A"}
    assert conductor.add(B).config == {"name": "B"}


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        (SimpleLoggingPolicy(logger=logging.getLogger("test")), ("test", "test")),
        (ModuleLoggingPolicy(), (__name__, __name__)),
        (ComponentLoggingPolicy(), (f"{__name__}.a", f"{__name__}.b")),
        (None, (__name__, __name__)),
    ],
)
def test_logging_policies(policy, names):
    """One logger for all, one for each module, or one for each class."""
    conductor = Conductor(logging_policy=policy)
    assert (conductor.add(A).logger.name, conductor.add(B).logger.name) == names


def test_logging_policy_of_the_users_own():
    """A policy gets the class."""

    class ByName(LoggingPolicy):
        def __call__(self, component_class):
            return logging.getLogger(component_class.__name__ * 2)

    assert Conductor(logging_policy=ByName()).add(A).logger.name == "AA"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DB", "db"),
        ("HTTPClient", "http_client"),
        ("CoolXMLParser", "cool_xml_parser"),
        ("MessageQueue", "message_queue"),
        ("RSA512Crypt", "rsa_512_crypt"),
    ],
)
def test_camelcase_to_underscore(name, expected):
    """Abbreviations and numbers are words."""
    assert camelcase_to_underscore(name) == expected
