"""``m3 shell``: real processes, with a terminal and without, beside services that run."""

import os
import pty
import re
import select
import signal
import socket
import termios
import time

import pytest
from click.testing import CliRunner

from m3.cli.commands import commands

pytestmark = pytest.mark.once

SERVICES = """
import threading
from m3.services import UserId, event_handler, rpc

class Stock:
    name = "stock"
    user = UserId()
    may_end = threading.Event()

    @rpc
    def take(self, thing, count=1):
        if count > 100:
            raise ValueError(f"so many {thing}\\x1b[2J")
        return f"{count} {thing}"

    @rpc
    def who(self):
        return self.user

    @rpc
    def hold(self):
        print("holding", flush=True)
        self.may_end.wait()

    @event_handler("mill", "ground")
    def note(self, payload):
        print("ground", payload, self.user, flush=True)

    @rpc
    def release(self):
        self.may_end.set()
"""

ON_A_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from m3.cli import main
main()
"""

PATIENCE = 40.0


class Terminal:
    """A shell on a terminal, and what it has shown."""

    def __init__(self, command, *arguments, **environment):
        self.descriptor, end = pty.openpty()
        termios.tcsetwinsize(end, (50, 200))
        self.process = command.start(
            *("shell", "--interface", "plain", *arguments),
            program=ON_A_TERMINAL,
            environment={
                "TERM": "dumb",
                "XDG_STATE_HOME": str(command.folder / "state"),
                **environment,
            },
            start_new_session=True,
            **dict.fromkeys(("stdin", "stdout", "stderr"), end),
        )
        os.close(end)
        self.shown = ""

    def type(self, text):
        os.write(self.descriptor, text.encode())

    def read_until(self, text):
        """Return what is shown until *text* has come."""
        until = time.monotonic() + PATIENCE
        while text not in self.shown:
            left = until - time.monotonic()
            ready = select.select([self.descriptor], [], [], max(left, 0))[0]
            assert ready, f"{text!r} did not come; there was {self.shown!r}"
            self.shown += os.read(self.descriptor, 65536).decode()
        before, _, self.shown = self.shown.partition(text)
        return before.replace("\r", "")

    def ask(self, line):
        """Type a line at the prompt that has just come, and return what is shown until the next."""
        self.type(line + "\n")
        self.read_until("\n")
        return self.read_until(">>> ")

    def leave(self):
        """Type Ctrl-D, and return the exit code."""
        self.type("\x04")
        return self.process.wait(PATIENCE)

    def close(self):
        os.close(self.descriptor)


@pytest.fixture
def shop(command):
    """The command in a folder with services."""
    (command.folder / "app" / "shop.py").write_text(SERVICES)
    return command


@pytest.fixture
def url(tmp_path):
    """The URL of a bus for several processes."""
    return f"sqlite:///{tmp_path}/bus.db"


def serve(shop, url):
    """Run the service until the test ends; return its process when it answers calls."""
    process = shop.start("serve", "shop:Stock", "--broker", url)
    for line in process.stderr:
        if b"serving stock" in line:
            return process
    raise AssertionError("the service has not started")


@pytest.fixture
def serving(shop, url):
    """The service, in a process."""
    return serve(shop, url)


@pytest.fixture(scope="module")
def served(command_of_module):
    """The URL of a bus on which the service runs."""
    folder = command_of_module.folder
    (folder / "app" / "shop.py").write_text(SERVICES)
    serve(command_of_module, f"sqlite:///{folder}/bus.db")
    return f"sqlite:///{folder}/bus.db"


@pytest.fixture
def terminal(shop):
    """Start a shell on a terminal."""
    started = []

    def start(*arguments, **environment):
        started.append(Terminal(shop, *arguments, **environment))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def mute():
    """The socket of a broker that says nothing, and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        yield server, f"amqp://me:topsecret@127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed():
    """The URL of a broker that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"amqp://me:topsecret@127.0.0.1:{port}"


# -- programs


def test_a_program_on_stdin_is_run(shop, served):
    """It has m3, and n for those who come from nameko, and is __main__; the exit code is 0."""
    program = (
        'print(m3.rpc.stock.take("tea"), m3.rpc["stock"]["take"]("tea", count=2))\n'
        "print(n is m3, __name__, __import__('__main__').m3 is m3)\n"
        "reply = m3.rpc.stock.take.call_async('nuts')\n"
        "print(reply.result(), m3.config['AMQP_URI'])\n"
    )
    done = shop.run("shell", "--broker", served, stdin=program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["1 tea 2 tea", "True __main__ True", f"1 nuts {served}"]


def test_a_program_may_be_an_option(shop, served):
    """-c takes the program, and leaves stdin to it."""
    program = "print(m3.rpc.stock.take(input()))"
    done = shop.run("shell", "--broker", served, "-c", program, stdin="milk\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 milk\n", "")


def test_an_error_of_a_service_is_told(shop, served):
    """Exit code 1; the lines of the program, and the traceback in the service, and no more."""
    program = 'def f():\n    return m3.rpc.stock.take("tea", 101)\nprint("before")\nf()\n'
    done = shop.run("shell", "--broker", served, stdin=program)
    assert (done.returncode, done.stdout) == (1, "before\n")
    begin, _, rest = done.stderr.partition("where it was raised, in the service:\n")
    assert begin.startswith("Traceback (most recent call last):\n")
    assert re.findall(r'File "(.*)", line (\d+)', begin) == [("<stdin>", "4"), ("<stdin>", "2")]
    assert 'return m3.rpc.stock.take("tea", 101)' in begin
    assert begin.endswith("RemoteError: ValueError so many tea\\x1b[2J\n")
    assert "shop.py" in rest
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("m3.rpc.stok.take('tea')", "UnknownService: nobody listens for calls of a service 'stok'"),
        ("m3.rpc.stock.tak('tea')", "MethodNotFound: stock has no method 'tak' to be called; it"),
        ("m3.rpc.stock.take()", "IncorrectSignature: stock.take(thing, count=1): missing a requir"),
        ("m3.rpc.stock.take({1})", "UnserializableValueError: the arguments of stock.take cannot"),
        ("m3.rpc.stock", ""),
        ("1 +", "SyntaxError"),
        ("raise BrokenPipeError", "BrokenPipeError"),
    ],
)
def test_each_mistake_has_its_error(shop, served, program, text):
    """It is the only one that is told, with the line of the program."""
    done = shop.run("shell", "--broker", served, "-c", program)
    assert done.returncode == (1 if text else 0)
    assert text in done.stderr
    assert done.stderr.count("Traceback") <= 1
    assert 'File "/' not in done.stderr.partition("where it was raised")[0]


@pytest.mark.parametrize(
    ("program", "code", "told"),
    [
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit('enough')", 1, "enough\n"),
        ("raise KeyboardInterrupt", -signal.SIGINT, ""),
        ("", 0, ""),
    ],
)
def test_a_program_ends_as_any_of_python(shop, program, code, told):
    """Its exit code is that of the command; Ctrl-C ends it by the signal."""
    done = shop.run("shell", stdin=program)
    assert (done.returncode, done.stderr) == (code, told)


def test_ctrl_c_ends_a_program_well(shop, serving, url, tmp_path):
    """Its own cleanup runs, the bus is left, and then the process ends by the signal."""
    program = "try: m3.rpc.stock.hold()\nfinally: print('cleaned up')"
    process = shop.start("shell", "--broker", url, "-c", program)
    assert serving.stdout.readline() == b"holding\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE) == (b"cleaned up\n", b"")
    assert process.returncode == -signal.SIGINT
    assert len(os.listdir(tmp_path / "bus.db-bus")) == 1


def test_nobody_reads_what_a_program_prints(shop):
    """It ends as other commands do then, without a word."""
    program = "import os, sys\nos.close(sys.stdin.fileno())\nwhile True: print('y' * 1000)"
    process = shop.start("shell", "-c", program)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(PATIENCE) == 141


def test_events_and_context(shop, serving, url):
    """An event reaches who handles it, and what --context says travels with it and with calls."""
    program = "m3.dispatch_event('mill', 'ground', {'kg': 3})\nprint(repr(m3.rpc.stock.who()))"
    done = shop.run("shell", "--broker", url, "--context", "user_id=7", "-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")
    assert serving.stdout.readline() == b"ground {'kg': 3} 7\n"


def test_nothing_is_connected_without_need(shop, closed):
    """A program that calls nobody needs no broker; what is shown of it has no password."""
    (shop.folder / "bus.toml").write_text('AMQP_URI = "amqp://me:${PW}@here"')
    shown = shop.run("shell", "--config", "bus.toml", "-c", "print(m3, m3.config)", PW="top secret")
    assert shown.stdout.count("amqp://me:***@here") == 2
    (shop.folder / "c.toml").write_text(
        'smtp_password = "topsecret"\n[db]\nurl = "x://u:topsecret@h"'
    )
    program = "print(m3, m3.rpc, m3.rpc.stock, m3.rpc.stock.take, m3.config, dir(m3.rpc))"
    done = shop.run("shell", "--config", "c.toml", "--broker", closed, "-c", program)
    assert (done.returncode, done.stderr) == (0, "")
    assert "topsecret" not in done.stdout
    assert "<m3 on amqp://me:***@127.0.0.1:" in done.stdout
    assert "not connected" in done.stdout
    assert "<method stock.take>" in done.stdout


@pytest.mark.parametrize("act", ["m3.rpc.stock.take('tea')", "m3.dispatch_event('a', 'b')"])
def test_a_broker_that_is_down(shop, closed, act):
    """Exit code 1 at once; it is told which broker, and why, and not the password."""
    begin = time.monotonic()
    done = shop.run("shell", "--broker", closed, "-c", act)
    assert time.monotonic() - begin < 20
    assert done.returncode == 1
    assert "BusError: no connection to RabbitMQ at 127.0.0.1:" in done.stderr
    assert "refused" in done.stderr
    assert "topsecret" not in done.stderr
    assert done.stderr.count("File ") == 1


def test_a_lost_connection_is_made_again(shop, serving, url):
    """After disconnect(), and after an error of the bus, the next call connects again."""
    program = (
        "stock = m3.rpc.stock\n"
        "print(stock.take('tea'))\n"
        "m3.disconnect(); m3.disconnect(); print('not connected' in repr(m3))\n"
        "print(stock.take('tea'))\n"
        "m3._connection.cluster()._caller._bus.shutdown()\n"
        "try: stock.take('tea')\n"
        "except Exception as error: print(type(error).__name__)\n"
        "m3.connect(); print('not connected' in repr(m3), stock.take('tea'))\n"
        "m3.dispatch_event('mill', 'ground', 1); m3.disconnect()\n"
        "m3.dispatch_event('mill', 'ground', 2)\n"
    )
    done = shop.run("shell", "--broker", url, stdin=program)
    assert (done.returncode, done.stderr) == (0, "")
    first, away, second, error, rest = done.stdout.splitlines()
    assert (first, away, second) == ("1 tea", "True", "1 tea")
    assert (error, rest) == ("BusError", "False 1 tea")
    assert [serving.stdout.readline() for _ in "12"] == [b"ground 1 None\n", b"ground 2 None\n"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--broker", "redis://me:topsecret@here"), "names no bus"),
        (("--config", "missing.toml"), "--config missing.toml: cannot be read"),
        (("--app-dir", "nowhere"), "--app-dir nowhere: there is no such folder"),
        (("--context", "user"), "'user' is not KEY=VALUE"),
        (("--interface", "emacs"), "'emacs' is not one of"),
    ],
)
def test_mistakes_are_told(arguments, text):
    """Exit code 2, and nothing is run."""
    done = CliRunner().invoke(commands, ["shell", *arguments], input="print('run')")
    assert done.exit_code == 2
    assert text in done.output
    assert "\nrun\n" not in done.output
    assert "topsecret" not in done.output


# -- on a terminal


def test_what_is_typed_is_run(terminal, served):
    """The banner says what there is; results are shown, and errors without m3's own part."""
    shell = terminal("--broker", served)
    banner = shell.read_until(">>> ")
    assert f"on {served}\n" in banner
    assert "m3.rpc.SERVICE.METHOD(...)" in banner
    assert shell.ask("m3.rpc.stock.take('tea')") == "'1 tea'\n"
    assert shell.ask("thing = 'nuts'") == ""
    assert shell.ask("m3.rpc.stock.take(thing, 2)") == "'2 nuts'\n"
    told = shell.ask("m3.rpc.stock.take('tea', 101)")
    assert "RemoteError: ValueError so many tea\\x1b[2J\n" in told
    assert re.findall('File "(.*?)"', told)[0] == "<console>"
    assert "services/proxies.py" not in told
    assert shell.ask("import sys; sys.last_value.exc_type") == "'ValueError'\n"
    assert "SyntaxError" in shell.ask("1 +")
    assert shell.leave() == 0


def test_ctrl_c_interrupts_a_call_and_not_the_shell(terminal, serving, url):
    """The prompt comes back at once, and the next call works."""
    shell = terminal("--broker", url)
    shell.read_until(">>> ")
    shell.type("m3.rpc.stock.hold()\n")
    assert serving.stdout.readline() == b"holding\n"
    shell.type("\x03")
    assert "KeyboardInterrupt" in shell.read_until(">>> ")
    assert shell.ask("m3.rpc.stock.release()") == ""
    assert shell.ask("m3.rpc.stock.take('tea')") == "'1 tea'\n"
    assert shell.leave() == 0


def test_ctrl_c_interrupts_a_connection_that_hangs(terminal, mute, tmp_path):
    """Neither at the start nor in a call does it wait for the broker."""
    server, url = mute
    (tmp_path / "c.toml").write_text("bus_options = { connect_timeout = 3600 }\n")
    shell = terminal("--broker", url, "--config", "c.toml")
    with server.accept()[0]:  # so the shell is up, and waits
        shell.type("\x03")
        assert "not connected to amqp://me:***@127.0.0.1:" in shell.read_until(">>> ")
        shell.type("m3.rpc.stock.take('tea')\n")
        with server.accept()[0]:
            shell.type("\x03")
            assert "KeyboardInterrupt\n" in shell.read_until(">>> ")
            assert shell.leave() == 0


def test_a_shell_starts_without_its_broker(terminal, shop, closed):
    """The banner says why; calls try again, and say the same; nothing shows the password."""
    shell = terminal("--broker", closed)
    begin = time.monotonic()
    banner = shell.read_until(">>> ")
    told = shell.ask("m3.rpc.stock.take('tea')")
    config = shell.ask("m3.config")
    assert time.monotonic() - begin < 20
    assert "not connected to amqp://me:***@127.0.0.1:" in banner
    for text in (banner, told):
        assert "BusError: no connection to RabbitMQ at 127.0.0.1:" in text
    assert "topsecret" not in banner + told + config
    assert shell.leave() == 0


def test_calls_connect_when_the_bus_has_come(terminal, shop, tmp_path):
    """What could not be reached at the start is reached by a later call."""
    (tmp_path / "c.toml").write_text(f'AMQP_URI = "sqlite:///{tmp_path}/later/bus.db"\n')
    shell = terminal("--config", "c.toml")
    banner = shell.read_until(">>> ")
    assert "not connected to sqlite:///" in banner
    assert "is the configuration, of c.toml\n" in banner
    (tmp_path / "later").mkdir()
    serve(shop, f"sqlite:///{tmp_path}/later/bus.db")
    assert shell.ask("m3.rpc.stock.take('tea')") == "'1 tea'\n"
    assert shell.leave() == 0


def test_memory_is_of_little_use(terminal):
    """Where no bus is named, the banner says that there is nobody to be called."""
    shell = terminal()
    assert "on memory://, which is in this process alone" in shell.read_until(">>> ")
    assert shell.leave() == 0


def test_names_are_completed_and_lines_remembered(terminal, tmp_path):
    """Tab completes; the history of one shell is there in the next one, and in no other place."""
    pytest.importorskip("readline")
    shell = terminal()
    shell.read_until(">>> ")
    shell.type("m3.disc\t")
    shell.read_until("m3.disconnect(")
    shell.type("\x15")
    assert shell.ask("'re' + 'membered'") == "'remembered'\n"
    assert shell.leave() == 0
    history = tmp_path / "state" / "m3" / "shell_history"
    assert "'re' + 'membered'\n" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
    again = terminal()
    again.read_until(">>> ")
    again.type("\x10\n")
    assert "'remembered'\n" in again.read_until(">>> ")
    assert again.leave() == 0


def test_a_history_that_cannot_be_kept_is_no_error(terminal, tmp_path):
    """The shell works, and ends well."""
    (tmp_path / "state").write_text("no folder")
    shell = terminal()
    shell.read_until(">>> ")
    assert shell.ask("1 + 1") == "2\n"
    assert shell.leave() == 0


def test_exit_ends_with_a_code(terminal):
    """exit() leaves the shell as Ctrl-D does, with the code that is given."""
    shell = terminal()
    shell.read_until(">>> ")
    shell.type("exit(3)\n")
    assert shell.process.wait(PATIENCE) == 3


def test_the_startup_file_of_python_is_run(terminal, tmp_path):
    """PYTHONSTARTUP counts, and what is wrong with it is told."""
    (tmp_path / "startup.py").write_text("import math\nanswer = 6 * 7\nmath.no\n")
    shell = terminal(PYTHONSTARTUP=str(tmp_path / "startup.py"))
    assert "AttributeError" in shell.read_until(">>> ")
    assert shell.ask("answer") == "42\n"
    assert shell.leave() == 0
