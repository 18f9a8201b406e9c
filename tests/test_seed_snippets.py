"""
Every snippet of os-m3-engine's page, with ``m3`` for ``os_m3_engine``, is run.

Each is executed as it stands there, in a module of its own, in a new process;
what surrounds it gives it input and looks at what it did.
"""

import subprocess
import sys
from textwrap import dedent

import pytest

CREATE_DEFAULT = """
from m3.launcher import create

engine = create()
"""

CREATE_TRANSPORT = """
from m3.launcher import create

engine = create(transport_cls='transport_class_path_or_class')
"""

CREATE_CONFIGURED = """
from m3.launcher import create

config = WhateverOjbectYouWant
config.thread_num = 10
engine = create(transport_cls='your_transport_cls', engine_transport_config=config)
"""

START = """
engine.start()
"""

STOP = """
import signal
from m3.launcher import create

engine = create()

def stop(signum, frame):
    engine.stop()

signal.signal(signal.SIGINT, stop)

engine.start()
"""

FRONTEND = """
from m3.core.frontend import Frontend

class CustomFrontend(Frontend):
    def produce(self):
        yield 'Hello world!'
"""

TRANSPORT = """
from m3.core.transport import Transport

class CustomTransport(Transport):
    def transport(self, data):
        return data
"""

BACKEND = """
from m3.core.backend import Backend

class CustomBackend(Backend):
    def process(self, data):
        print(data)
"""

PARAMETERS = """
from m3.launcher import create

config = WhateverOjbectYouWant
engine = create(app_config=config)
"""

SETUP = """
from m3.core.backend import Backend

class CustomBackend(Backend):

    def setup(self):
        print('Setup')

    def cleanup(self):
        print('Cleanup')

    def process(self, data):
        print(data)
"""

LINES = "".join(f"line {number}\n" for number in range(100))


@pytest.fixture
def run(run_program, tmp_path):
    """Return a function that runs a program and returns what it printed, and what it logged."""

    def run(program, stdin=""):
        (tmp_path / "program.py").write_text(dedent(program))
        done = run_program(sys.executable, "program.py", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return run


LOGGED = (
    "import logging\nlogging.basicConfig(level=logging.INFO, format='%(threadName)s %(message)s')\n"
)


def test_create_default_engine_and_start(run):
    """The default engine reads stdin, and logs every line in its transport and its backend."""
    out, err = run(LOGGED + CREATE_DEFAULT + START, stdin=LINES)
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 200
    for number in (0, 99):
        assert sum(f"line {number}'" in line for line in lines) == 2


def test_create_with_a_custom_stage(run, tmp_path):
    """A stage may be given by the path of its class."""
    (tmp_path / "mine.py").write_text(TRANSPORT)
    snippet = CREATE_TRANSPORT.replace("transport_class_path_or_class", "mine.CustomTransport")
    _, err = run(LOGGED + snippet + START, stdin=LINES)
    assert len(err.splitlines()) == 100


def test_create_with_an_engine_config(run, tmp_path):
    """Any object configures the engine's side of a stage: here ten threads."""
    (tmp_path / "mine.py").write_text(TRANSPORT)
    snippet = CREATE_CONFIGURED.replace("your_transport_cls", "mine.CustomTransport")
    out, _ = run(
        "class WhateverOjbectYouWant: pass\n"
        + snippet
        + "print([spec.workers for spec in engine.plan])"
        + START,
        stdin=LINES,
    )
    assert out == "[1, 10, 1]\n"


def test_start_blocks_until_all_threads_have_stopped(run):
    """After start() no thread but the main one is there."""
    out, _ = run(
        CREATE_DEFAULT + START + "import threading\nprint(threading.active_count())", stdin=LINES
    )
    assert out == "1\n"


def test_stopping_from_a_signal_handler(tmp_path):
    """The regular practice: the handler stops the engine while it waits for more on stdin."""
    program = "import logging\nlogging.basicConfig(level=logging.INFO)\n" + STOP + "print('ended')"
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    with child:
        child.stdin.write(b"hello\n")
        child.stdin.flush()
        logged = [child.stderr.readline(), child.stderr.readline()]
        child.send_signal(2)
        out, err = child.communicate(timeout=30)
    assert all(b"hello" in line for line in logged)
    assert (child.returncode, out, err) == (0, b"ended\n", b"")


def test_custom_stages(run):
    """The three custom classes make an engine that prints what the frontend yields."""
    out, _ = run(
        FRONTEND
        + TRANSPORT
        + BACKEND
        + CREATE_DEFAULT.replace(
            "create()", "create(CustomFrontend, CustomTransport, CustomBackend)"
        )
        + START
    )
    assert out == "Hello world!\n"


def test_passing_parameters(run):
    """The object given as app_config is self.config in every stage."""
    out, _ = run(
        """
        class WhateverOjbectYouWant:
            greeting = "Hello"

        from m3.core.frontend import Frontend

        class Greets(Frontend):
            def produce(self):
                yield self.config.greeting
        """
        + dedent(BACKEND).replace("\n", "\n        ")
        + PARAMETERS.replace(
            "app_config=config", "Greets, None, CustomBackend, app_config=config"
        ).replace("\n", "\n        ")
        + "\n        engine.start()\n"
    )
    assert out == "Hello\n"


def test_custom_setup_and_cleanup(run):
    """Both are called at the start and the stop of each thread."""
    out, _ = run(
        "class Two:\n    thread_num = 2\n"
        + FRONTEND
        + SETUP
        + CREATE_DEFAULT.replace(
            "create()", "create(CustomFrontend, None, CustomBackend, engine_backend_config=Two)"
        )
        + START
    )
    # Two threads print: what they write is whole, but their line ends may come later.
    words = out.replace("Setup", " Setup ").replace("Cleanup", " Cleanup ").split()
    assert sorted(words) == ["Cleanup", "Cleanup", "Hello", "Setup", "Setup", "world!"]
    assert words[:2] == ["Setup", "Setup"]


@pytest.mark.parametrize("missing", ["transport_cls", "backend_cls"])
def test_a_transport_or_a_backend_can_be_omitted(run, missing):
    """A two-stage job: what is left out is None."""
    out, err = run(
        LOGGED + CREATE_DEFAULT.replace("create()", f"create({missing}=None)") + START, stdin=LINES
    )
    assert out == ""
    assert len(err.splitlines()) == 100


def test_each_stage_can_be_multi_threaded(run):
    """Frontends, transports and backends run in as many threads as they are given."""
    out, _ = run(
        """
        import threading
        from m3 import Backend, Frontend, Transport, create

        meeting = {name: threading.Barrier(3) for name in ("front", "middle", "back")}

        class Three:
            thread_num = 3

        class Front(Frontend):
            def produce(self):
                meeting["front"].wait(10)
                yield 1

        class Middle(Transport):
            def transport(self, data):
                meeting["middle"].wait(10)
                return data

        class Back(Backend):
            def process(self, data):
                meeting["back"].wait(10)

        engine = create(Front, Middle, Back, None, None, Three, Three, Three)
        print(engine.start().delivered)
        """
    )
    assert out == "3\n"


def test_start_twice_and_stop_before_start(run):
    """Both are RuntimeErrors, as they were."""
    out, _ = run(
        CREATE_DEFAULT
        + dedent(
            """
            for call in (engine.stop, engine.start, engine.start):
                try:
                    call()
                except RuntimeError as error:
                    print(error)
            """
        ),
        stdin=LINES,
    )
    assert out.splitlines() == [
        "the engine was not started",
        "an engine runs once; make another to run the plan again",
    ]
