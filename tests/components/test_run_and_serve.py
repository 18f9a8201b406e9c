"""``run`` and ``serve``: components around something that goes on, and what ends it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from m3 import Component, Conductor
from m3.components import ComponentError
from m3.errors import ComponentStateError


async def nothing():
    """Do nothing."""


def test_run_returns_what_the_awaitable_returns(journal):
    """In code without an event loop it blocks, in code with one it is awaited."""
    conductor = Conductor()
    conductor.add(journal.component("a"))

    async def work():
        journal.entries.append("work")
        return 42

    async def main():
        return await conductor.run(work())

    assert conductor.run(work()) == 42
    assert asyncio.run(main()) == 42
    assert journal.entries == ["+a", "work", "-a"] * 2


def test_run_shuts_down_when_the_awaitable_raises(journal):
    """Its error is raised as it is; that of a shutdown is noted on it."""
    conductor = Conductor()
    conductor.add(journal.component("a", fails="shutdown"))

    async def work():
        raise KeyError

    with pytest.raises(KeyError) as info:
        conductor.run(work())
    assert "a, in shutdown()" in info.value.__notes__[0]
    assert journal.entries == ["+a", "-a"]


def test_run_does_not_begin_when_a_setup_fails(journal):
    """The awaitable is closed, so nothing warns that nobody awaited it."""
    conductor = Conductor()
    conductor.add(journal.component("a", fails="setup"))
    with pytest.raises(ComponentError):
        conductor.run(nothing())


def test_shutdown_from_another_thread_ends_run(journal):
    """The awaitable is cancelled, and run says why."""
    conductor = Conductor()
    conductor.add(journal.component("a"))
    others = []

    async def work():
        others.append(threading.Thread(target=conductor.shutdown))
        others[0].start()
        await asyncio.Event().wait()

    with pytest.raises(ComponentStateError, match="shut down while it ran"):
        conductor.run(work())
    others[0].join()
    assert journal.entries == ["+a", "-a"]


@pytest.mark.parametrize("is_async", [False, True])
def test_stop_ends_serve_in_any_thread(journal, is_async):
    """Outside of the main thread, serve changes no signals, and stop() ends it."""
    is_up = threading.Event()

    class A(journal.component("a")):
        def setup(self):
            super().setup()
            is_up.set()

    conductor = Conductor()
    conductor.add(A)

    async def main():
        await conductor.serve()

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    serving = threading.Thread(target=asyncio.run if is_async else conductor.serve)
    if is_async:
        serving = threading.Thread(target=lambda: asyncio.run(main()))
    serving.start()
    assert is_up.wait(10)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    conductor.stop()
    serving.join()
    assert journal.entries == ["+a", "-a"]


def test_a_stop_that_comes_first_counts(journal):
    """serve() ends at once if stop() was called before; the one after that serves again."""
    conductor = Conductor()
    conductor.add(journal.component("a"))
    conductor.stop()
    conductor.serve()
    assert journal.entries == []
    serving = threading.Thread(target=conductor.serve)
    serving.start()
    conductor.stop()
    serving.join()


@pytest.mark.parametrize("ended", ["run", "setup", "with"])
def test_a_stop_counts_once(journal, ended):
    """What it was called during uses it up; the next serve() serves, until it is stopped, too."""

    class A(journal.component("a")):
        async def setup(self):
            super().setup()
            if ended == "setup":
                conductor.stop()

    class B(journal.component("b", a=A)):
        def setup(self):
            super().setup()
            is_up.set()

    async def work():
        conductor.stop()
        await asyncio.Event().wait()

    is_up = threading.Event()
    conductor = Conductor()
    conductor.add(A)
    with pytest.raises(ComponentStateError) if ended != "with" else conductor:
        if ended == "run":
            conductor.run(work())
        elif ended == "setup":
            conductor.setup()
        else:
            conductor.stop()
    assert journal.entries == ["+a", "-a"]
    ended = None
    conductor.add(B)
    serving = threading.Thread(target=conductor.serve)
    serving.start()
    assert is_up.wait(10)
    conductor.stop()
    serving.join()
    assert journal.entries == ["+a", "-a", "+a", "+b", "-b", "-a"]


def test_a_stop_before_a_run_is_meant_for_serve(journal):
    """What neither knew of nor ended it uses it up."""
    conductor = Conductor()
    conductor.add(journal.component("a"))
    conductor.stop()
    conductor.run(nothing())
    assert journal.entries == ["+a", "-a"]
    conductor.serve()
    assert journal.entries == ["+a", "-a"]


def test_serve_where_it_is_set_up_already(journal):
    """It is refused, and what is up stays up."""
    conductor = Conductor()
    conductor.add(journal.component("a"))
    with conductor:
        with pytest.raises(ComponentStateError, match="set up already"):
            conductor.serve()
        assert journal.entries == ["+a"]
    assert journal.entries == ["+a", "-a"]


def test_shutdown_during_a_start_of_serve(journal):
    """It ends serve() as it does later."""

    class A(journal.component("a")):
        async def setup(self):
            threading.Thread(target=conductor.shutdown).start()
            await asyncio.Event().wait()

    conductor = Conductor()
    conductor.add(journal.component("b", a=A))
    conductor.serve()
    assert journal.entries == []


def test_stop_during_a_start(journal):
    """What is being set up is let finish and shut down; serve returns as usual."""

    class A(journal.component("a")):
        def setup(self):
            conductor.stop()
            super().setup()

    conductor = Conductor()
    conductor.add(journal.component("b", a=A))
    conductor.serve()
    assert journal.entries == ["+a", "-a"]


@pytest.mark.parametrize("is_decorated", [False, True])
def test_stop_during_an_async_start(journal, is_decorated):
    """A coroutine that is being set up is cancelled, which is no failure of its component."""

    async def coroutine(self):
        if not is_decorated:
            conductor.stop()
        await asyncio.Event().wait()

    def plain(self):
        conductor.stop()
        return coroutine(self)

    class B(journal.component("b", a=journal.component("a"))):
        setup_timeout = None
        setup = plain if is_decorated else coroutine

    conductor = Conductor()
    conductor.add(journal.component("c", b=B))
    conductor.serve()
    assert journal.entries == ["+a", "-a"]
    states = {node.name: node.state for node in conductor.graph().nodes}
    assert states == {"a": "stopped", "B": "stopped", "c": "waiting"}


def test_stop_during_an_async_start_that_fails_then(journal):
    """What a coroutine raises when it is cancelled, other than that, is an error all the same."""

    class B(journal.component("b", a=journal.component("a"))):
        async def setup(self):
            conductor.stop()
            try:
                await asyncio.Event().wait()
            finally:
                raise OSError("half open")

    conductor = Conductor()
    conductor.add(B)
    with pytest.raises(ComponentError, match=r"B, in setup\(\): OSError: half open"):
        conductor.serve()
    assert journal.entries == ["+a", "-a"]


def test_serve_raises_what_ends_it(journal):
    """A component that fails for good ends the service."""

    class A(journal.component("a")):
        def setup(self):
            super().setup()
            self.fail(ValueError("lost"))

    told = []
    for on_failure in (None, told.append):
        conductor = Conductor(on_failure=on_failure)
        conductor.add(A)
        with pytest.raises(ComponentError, match="A, in use: ValueError: lost") as info:
            conductor.serve()
        assert journal.entries == ["+a", "-a"]
        journal.entries.clear()
    assert told == [info.value]


def test_run_raises_what_ends_it(journal):
    """A component that fails for good cancels the awaitable."""
    is_cancelled = []

    async def work(component):
        component.fail(ValueError("lost"))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled.append(True)
            raise

    for on_failure in (None, lambda _: None):
        conductor = Conductor(on_failure=on_failure)
        a = conductor.add(journal.component("a"))
        with pytest.raises(ComponentError, match="a, in use: ValueError: lost"):
            conductor.run(work(a))
    assert is_cancelled == [True, True]
    assert journal.entries == ["+a", "-a"] * 2


def test_tasks_left_by_components_are_cancelled():
    """Of a loop that m3 has made, nothing is left, not even executor threads."""
    forgotten = []

    class A(Component):
        async def setup(self):
            await asyncio.to_thread(int)
            forgotten.append(asyncio.ensure_future(asyncio.Event().wait()))

    for use in (lambda conductor: conductor.run(nothing()), lambda conductor: conductor.setup()):
        before = threading.enumerate()
        conductor = Conductor()
        conductor.add(A)
        use(conductor)
        conductor.shutdown()
        assert forgotten.pop().cancelled()
        assert threading.enumerate() == before


PROGRAM = """
import sys, threading, time
from m3 import Component, Conductor

class A(Component):
    def setup(self):
        print("+a", flush=True)

    def shutdown(self):
        print("-a", flush=True)

class B(Component):
    a: A

    async def setup(self):
        print("+b", flush=True)

    async def shutdown(self):
        print("-b", flush=True)
        await self.linger()

    async def linger(self):
        pass

conductor = Conductor()
conductor.add(B)
"""


@pytest.fixture
def program():
    """Return a function that starts a program, to be used in a with statement."""

    def start(text):
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM + text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )

    return start


def lines_until(child, last):
    """Return the lines that a program prints until a certain one."""
    lines = []
    while not lines or lines[-1] != last:
        line = child.stdout.readline()
        assert line, child.stderr.read()
        lines.append(line.strip())
    return lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "awaited"])
def test_signals_end_serve(program, number, is_async):
    """SIGINT and SIGTERM end it in good order; the former handlers are back afterwards."""
    serve = "import asyncio\nasync def main(): await conductor.serve()\nasyncio.run(main())\n"
    if not is_async:
        serve = "conductor.serve()\n"
    text = f"""{serve}
import signal
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
print(threading.active_count())
"""
    with program(text) as child:
        assert lines_until(child, "+b") == ["+a", "+b"]
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out.split(), err) == (0, ["-b", "-a", "1"], "")


def test_a_signal_ends_an_async_start(program):
    """SIGTERM while a coroutine is being set up ends serve in good order, too."""
    text = """
import asyncio

class C(Component):
    b: B

    async def setup(self):
        print("starting", flush=True)
        await asyncio.Event().wait()

conductor.add(C)
conductor.serve()
print("ended")
"""
    with program(text) as child:
        lines_until(child, "starting")
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out.split(), err) == (0, ["-b", "-a", "ended"], "")


def test_a_second_signal_is_handled_as_ever(program):
    """A second Ctrl-C breaks off a shutdown that hangs."""
    text = """
import asyncio
B.linger = lambda self: asyncio.Event().wait()
try:
    conductor.serve()
except KeyboardInterrupt:
    print("interrupted")
"""
    with program(text) as child:
        lines_until(child, "+b")
        child.send_signal(signal.SIGINT)
        lines_until(child, "-b")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert out.splitlines()[-1] == "interrupted", err


def test_ctrl_c_ends_run(program):
    """The awaitable is cancelled, all is shut down, and KeyboardInterrupt is raised."""
    text = """
import asyncio

async def work():
    print("at work", flush=True)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise

try:
    conductor.run(work())
except KeyboardInterrupt:
    print("interrupted", threading.active_count())
"""
    with program(text) as child:
        lines_until(child, "at work")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (out.splitlines(), err) == (["cancelled", "-b", "-a", "interrupted 1"], "")


def test_ctrl_c_during_setup_rolls_back(program):
    """A plain setup in progress is let finish; what was set up is shut down; then it is raised."""
    text = """
class C(Component):
    b: B

    def setup(self):
        print("+c\\n", end="", flush=True)
        sys.stdin.readline()

    def shutdown(self):
        print("-c", flush=True)

class D(Component):
    b: B

    async def setup(self):
        import asyncio
        print("+d\\n", end="", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            print("d is cancelled", flush=True)

conductor.add(C)
conductor.add(D)
try:
    conductor.setup()
except KeyboardInterrupt:
    print("interrupted", threading.active_count())
"""
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        lines = [child.stdout.readline().strip() for _ in range(4)]
        assert set(lines[2:]) == {"+c", "+d"}
        child.send_signal(signal.SIGINT)
        lines_until(child, "d is cancelled")
        out, err = child.communicate("\n", timeout=30)
    assert (out.splitlines(), err) == (["-c", "-b", "-a", "interrupted 1"], "")


def test_ctrl_c_during_shutdown(program):
    """It is raised at once; the shutdown goes on in its thread."""
    text = """
import asyncio
may_end = threading.Event()
async def linger(self):
    while not may_end.is_set():
        await asyncio.sleep(0.001)
B.linger = linger
conductor.setup()
try:
    conductor.shutdown()
except KeyboardInterrupt:
    print("interrupted", flush=True)
    may_end.set()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
    print({node.state for node in conductor.graph().nodes})
"""
    with program(text) as child:
        lines_until(child, "-b")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (out.splitlines(), err) == (["interrupted", "-a", "{'stopped'}"], "")
