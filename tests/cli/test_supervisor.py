"""Signals to a real process."""

import os
import random
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

# Before the first line of any program, Python itself may lose a signal or die of it otherwise.
STARTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
print("started", flush=True)
sys.argv[1:] = {}
from m3.cli import main
main()
"""

INPUT = b"".join(b"%d\n" % number for number in range(100))


def read_until(stream, *texts):
    """Read lines until each of *texts* has come, and return all of them."""
    lines = b""
    for line in stream:
        lines += line
        if all(text in lines for text in texts):
            return lines
    raise AssertionError(f"{texts!r} did not come; there was {lines!r}")


@pytest.fixture
def idle(command):
    """A pipeline that has delivered an item and waits for more."""
    process = command.start("run", "--frontend", "stdin")
    process.stdin.write(b"first\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"first\n"
    return process


@pytest.fixture
def held(command):
    """A pipeline with 100 items at a gate, and the function that opens it."""
    gate = command.gate()
    process = command.start(
        *("run", "--frontend", "stdin", "--transport", "stages_of_test:Watch"),
        *("--set", "transport.1.workers=0", "--transport", "stages_of_test:Gate"),
    )
    process.stdin.write(INPUT)
    process.stdin.close()
    process.stdin = None
    read_until(process.stderr, b"at the gate", b"the last item")

    def open_gate():
        gate.write_text("open")

    return process, open_gate


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_wakes_an_idle_pipeline(idle, number):
    """A pipeline that waits for input ends at once, and by that signal."""
    idle.send_signal(number)
    err = read_until(idle.stderr, b"produced")
    assert idle.wait() == -number
    assert idle.stdout.read() == b""
    assert f"{number.name}: stopping; ".encode() in err
    assert b"1 produced, 1 delivered" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains(held, number):
    """What was read before the signal is delivered after it."""
    process, open_gate = held
    process.send_signal(number)
    err = read_until(process.stderr, b"stopping; 100 items in flight")
    assert b"Ctrl-C again to abandon" in err
    open_gate()
    out, err = process.communicate()
    assert (process.returncode, out) == (-number, INPUT)
    assert b"100 produced, 100 delivered, 0 dropped, 0 failed, 0 abandoned" in err


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_second_interrupt_abandons_the_queues(held, first):
    """After the second Ctrl-C, only the item in hand is finished."""
    process, open_gate = held
    process.send_signal(first)
    read_until(process.stderr, b"stopping")
    process.send_signal(signal.SIGINT)
    read_until(process.stderr, b"abandoning the queues, 100 items in flight")
    open_gate()
    _, err = process.communicate()
    assert process.returncode == -first
    assert b"100 produced, 0 delivered" in err or b"100 produced, 1 delivered" in err
    assert b"100 abandoned" in err or b"99 abandoned" in err


def test_the_third_interrupt_ends_at_once(held):
    """The third Ctrl-C ends a process whose user code never returns."""
    process, _ = held
    for expected in (b"stopping", b"abandoning"):
        process.send_signal(signal.SIGINT)
        read_until(process.stderr, expected)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")


def test_the_second_sigterm_changes_nothing(held):
    """Who repeats SIGTERM does not lose what is being finished."""
    process, open_gate = held
    process.send_signal(signal.SIGTERM)
    read_until(process.stderr, b"stopping")
    process.send_signal(signal.SIGTERM)
    open_gate()
    out, err = process.communicate()
    assert (process.returncode, out) == (-signal.SIGTERM, INPUT)
    assert b"abandoning" not in err


def test_a_hung_worker_is_named_at_the_deadline(command):
    """Past the deadline the process ends, and says which worker hangs and where."""
    command.gate()
    process = command.start(
        *("run", "--frontend", "stdin", "--transport", "stages_of_test:Gate"),
        *("--stop-timeout", "0.2", "--report", "report.json"),
    )
    process.stdin.write(INPUT)
    process.stdin.flush()
    read_until(process.stderr, b"at the gate")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 1
    assert b"stage 'stages_of_test:Gate', worker 0 did not end by the deadline" in err
    assert b"open(self.path).read()" in err
    assert b'"hung": [' in (command.folder / "report.json").read_bytes()


def test_a_signal_during_setup(command):
    """A setup that takes long can be interrupted; what hangs in it is named."""
    command.gate()
    process = command.start(
        *("run", "--frontend", "stdin", "--transport", "stages_of_test:GateInSetup"),
        *("--stop-timeout", "0.2"),
    )
    read_until(process.stderr, b"at the gate")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode in (1, -signal.SIGINT)
    assert b"open(self.path).read()" in err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_shell_sees_the_signal(command, number, status):
    """A shell shows 128 + the number of the signal, also of a job in the background."""
    source, sink = os.pipe()
    job = f"'{sys.executable}' -m m3 run --frontend stdin </dev/fd/{source} &"
    shell = subprocess.Popen(
        ["sh", "-c", f"{job} read go; kill -{number:d} $!; wait $!; echo $?"],
        cwd=command.folder,
        env=command.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[source],
    )
    command.processes.append(shell)
    os.write(sink, b"first\n")
    assert shell.stdout.readline() == b"first\n"
    out, _ = shell.communicate(b"go\n")
    os.close(source)
    os.close(sink)
    assert out == b"%d\n" % status


def test_ctrl_c_on_a_terminal(command):
    """The key Ctrl-C reaches the pipeline as SIGINT."""
    pty = pytest.importorskip("pty")
    terminal, end = pty.openpty()
    process = command.start(
        *("run", "--frontend", "stdin", "--no-progress"),
        stdin=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(end)
    os.write(terminal, b"first\n")
    assert process.stdout.readline() == b"first\n"
    os.write(terminal, b"\x03")
    assert process.wait() == -signal.SIGINT
    os.close(terminal)


def storm(command, rounds):
    """Send SIGINT at random moments of the first 400 ms; return how the processes ended."""
    codes = []
    for seed in range(rounds):
        arguments = ["run", "--frontend", "stages_of_test:Endless", "--backend", "null"]
        process = command.start(program=STARTED.format(arguments))
        assert process.stdout.readline() == b"started\n"
        select.select([], [], [], random.Random(seed).uniform(0, 0.4))
        process.send_signal(signal.SIGINT)
        process.communicate()
        codes.append(process.returncode)
    return codes


def test_a_signal_at_any_moment(command):
    """Whenever Ctrl-C comes, the process ends by it."""
    assert storm(command, 10) == [-signal.SIGINT] * 10


@pytest.mark.stress
@pytest.mark.timeout(120)
def test_a_signal_at_any_moment_often(command):
    """The same, 100 times."""
    assert storm(command, 100) == [-signal.SIGINT] * 100


def cpu_seconds(pid):
    """Return the CPU time that all threads of a process have used."""
    statistics = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in statistics) / 1e9


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="needs Linux's schedstat")
def test_an_idle_pipeline_burns_no_cpu(idle):
    """With stdin open and silent, the process uses less than 1 % of a core."""
    before, begin = cpu_seconds(idle.pid), time.monotonic()
    readable, _, _ = select.select([idle.stdout], [], [], 1.5)
    used = cpu_seconds(idle.pid) - before
    assert readable == []
    assert used / (time.monotonic() - begin) < 0.01
