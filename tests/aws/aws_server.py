"""
A plugin of pytest: moto's server, which plays AWS to the tests.

It is a process of its own.  Where this Python has no moto (the free-threaded
build has no cryptography, which moto needs), the variable ``M3_MOTO_PYTHON`` names
one that has it.
"""

import importlib.util
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

PROGRAM = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""So that no test finds, or even uses, the credentials of whoever runs it."""


def python_with_moto() -> str | None:
    """Return the path of a Python that can run moto's server."""
    if all(importlib.util.find_spec(name) for name in ("moto", "cryptography", "flask")):
        return sys.executable
    return os.environ.get("M3_MOTO_PYTHON")


@pytest.fixture
def aws_environment(monkeypatch) -> None:
    """Have boto3 find credentials, and none but those of the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def aws_server() -> Iterator[str]:
    """Start moto's server; return its URL."""
    python = python_with_moto()
    if python is None:
        reason = "moto is not installed here, and M3_MOTO_PYTHON names no Python that has it"
        (pytest.fail if os.environ.get("M3_REQUIRE_SERVICES") else pytest.skip)(reason)
    command = [python, "-c", PROGRAM]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as process:
        url = process.stdout.readline().strip()
        assert url, "moto's server did not start"
        yield url
        process.kill()


@pytest.fixture
def aws(aws_server, aws_environment) -> str:
    """Return the URL of moto's server, emptied, for ``endpoint_url=``."""
    reset = urllib.request.Request(f"{aws_server}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset, timeout=20).close()
    return aws_server
