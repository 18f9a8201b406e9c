"""
A plugin of pytest: a RabbitMQ of the tests' own, which they may stop, start and kill.

It is a node beside those of the machine, with its data in a temporary folder.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import pytest

SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""Where Debian has the programs themselves; those on PATH become another user first."""

PATIENCE = 120


def script(name: str) -> str | None:
    """Return the path of a program of RabbitMQ's."""
    return shutil.which(name, path=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


class RabbitNode:
    """A node of RabbitMQ, with its data in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.name = f"m3{uuid4().hex[:8]}@localhost"
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self._log = (folder / "output").open("wb")
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it; return when it takes connections."""
        self._process = subprocess.Popen(
            [script("rabbitmq-server")],
            env=self._environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.control("wait", self._environment["RABBITMQ_PID_FILE"])

    def control(self, *arguments: str) -> None:
        """Have rabbitmqctl do something."""
        command = [script("rabbitmqctl"), "-n", self.name, *arguments]
        subprocess.run(
            command, env=self._environment, stdout=self._log, stderr=self._log, timeout=PATIENCE
        ).check_returncode()

    def kill(self) -> None:
        """Let it be gone without any warning."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        self.kill()
        self._log.close()


@pytest.fixture
def rabbit_node(tmp_path) -> Iterator[RabbitNode]:
    """Return a RabbitMQ that is up; skip, or fail where it is required, without one."""
    if script("rabbitmq-server") is None:
        reason = "there is no rabbitmq-server to start a node of"
        (pytest.fail if os.environ.get("M3_REQUIRE_SERVICES") else pytest.skip)(reason)
    node = RabbitNode(tmp_path)
    try:
        node.start()
        yield node
    finally:
        node.close()
