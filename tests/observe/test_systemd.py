"""What a service manager is told, through a real datagram socket."""

import logging
import os
import socket
import subprocess
import sys
import threading
import uuid

import pytest

from m3.observe.systemd import ServiceManager, Watchdog


class Manager:
    """The other end: what it has received."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(20)

    def next(self):
        return self.socket.recv(4096).decode()


@pytest.fixture(params=["path", "abstract"])
def listening(request):
    """The other end, and the value of NOTIFY_SOCKET; a path is a short one, as they have to be."""
    if request.param == "path":
        path = f"/tmp/m3-{uuid.uuid4().hex}.sock"
        manager, value = Manager(path), path
    else:
        name = f"m3-{uuid.uuid4().hex}"
        manager, value = Manager(f"\0{name}"), f"@{name}"
    yield manager, value
    manager.socket.close()
    if request.param == "path":
        os.unlink(value)


def test_what_is_told(listening):
    """Each message is one datagram, in the lines of the protocol; a status is one line."""
    other, value = listening
    manager = ServiceManager({"NOTIFY_SOCKET": value})
    manager.ready("serving\nSTOPPING=1")
    assert other.next() == "READY=1\nSTATUS=serving\\nSTOPPING=1"
    manager.stopping("ends")
    assert other.next() == "STOPPING=1\nSTATUS=ends"
    manager.status("getting on")
    assert other.next() == "STATUS=getting on"
    manager.alive()
    assert other.next() == "WATCHDOG=1"


def test_children_are_not_meant(listening):
    """What concerns the process alone is taken out of the environment, the rest stays."""
    environ = {
        "NOTIFY_SOCKET": listening[1],
        "WATCHDOG_USEC": "2000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    assert ServiceManager(environ).watchdog == 2
    assert environ == {"HOME": "/"}


def test_the_environment_of_the_process(listening):
    """By default that is the real one, and a child of the process does not see it either."""
    program = (
        "from m3.observe.systemd import ServiceManager; import subprocess, sys;"
        "manager = ServiceManager();"
        "subprocess.run([sys.executable, '-c', 'import os; print(*os.environ)'], check=True);"
        "manager.ready('up')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NOTIFY_SOCKET": listening[1], "WATCHDOG_USEC": "1"},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert "NOTIFY_SOCKET" not in done.stdout
    assert "WATCHDOG_USEC" not in done.stdout
    assert listening[0].next() == "READY=1\nSTATUS=up"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_whether_a_watchdog_looks(environ, seconds):
    """It looks if it names a time, and no other process."""
    assert ServiceManager({"NOTIFY_SOCKET": "@m3", **environ}).watchdog == seconds


@pytest.mark.parametrize("value", ["", "vsock:2:1", "relative", "/nowhere/at/all", "/" * 300])
def test_nobody_listens(value):
    """With no address, an unknown kind of one, or nobody there, nothing happens."""
    manager = ServiceManager({"NOTIFY_SOCKET": value, "WATCHDOG_USEC": "1000"})
    manager.ready("up")
    with Watchdog(manager, list):
        manager.stopping("down")


def test_a_manager_that_goes_away():
    """A run is not hurt when the socket vanishes, nor when nobody takes what was sent to it."""
    path = f"/tmp/m3-{uuid.uuid4().hex}.sock"
    other = Manager(path)
    manager = ServiceManager({"NOTIFY_SOCKET": path})
    manager.ready("up")
    assert other.next() == "READY=1\nSTATUS=up"
    os.unlink(path)
    manager.alive()
    other.socket.close()
    manager.alive()


def test_a_manager_that_takes_nothing(listening, monkeypatch):
    """When its queue is full, a message is given up after a moment."""
    monkeypatch.setattr("m3.observe.systemd.PATIENCE", 0.001)
    manager = ServiceManager({"NOTIFY_SOCKET": listening[1]})
    for _ in range(600):
        manager.alive()
    assert listening[0].next() == "WATCHDOG=1"


def test_the_watchdog_is_told_as_long_as_it_is_true(listening, caplog):
    """Alive: it is told again and again. Not alive: it is said why, and then nothing."""
    other, value = listening
    problems = []
    looks = threading.Semaphore(0)

    def why_not_live():
        looks.release()
        return list(problems)

    manager = ServiceManager({"NOTIFY_SOCKET": value, "WATCHDOG_USEC": "20000"})
    with caplog.at_level(logging.ERROR), Watchdog(manager, why_not_live):
        assert [other.next() for _ in range(3)] == ["WATCHDOG=1"] * 3
        problems.append("shop: all hang")
        while (said := other.next()) == "WATCHDOG=1":
            pass
        assert said == "STATUS=not alive: shop: all hang"
        while looks.acquire(blocking=False):
            pass
        for _ in range(3):
            assert looks.acquire(timeout=20)
        other.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.next()
        other.socket.settimeout(20)
        problems.clear()
        assert other.next() == "WATCHDOG=1"
    assert "the watchdog is left to bark: shop: all hang" in caplog.text
    assert not any(thread.name == "m3-watchdog" for thread in threading.enumerate())
