"""What the tests of several connectors need."""

import gc
import os
import secrets
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from m3.stages import Backend, Frontend

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items):
    """Mark the tests that need a server, so that they can be left out."""
    for item in items:
        if "[postgresql" in item.name or "[mariadb" in item.name:
            item.add_marker(pytest.mark.services)


def read_all(frontend: Frontend) -> list:
    """Return all that *frontend* produces, with setup and cleanup around it."""
    frontend.setup()
    try:
        return list(frontend.produce())
    finally:
        frontend.cleanup()


def write_all(backend: Backend, *batches: list, failed: bool = False) -> None:
    """Give *batches* to *backend*, with setup and cleanup around them."""
    backend.setup()
    try:
        for batch in batches:
            backend.process_batch(batch)
        backend.failed = failed
    except BaseException:
        backend.failed = True
        raise
    finally:
        backend.cleanup()


class Reader:
    """A frontend that is read in a thread of its own, which notes what it gets."""

    def __init__(self, frontend: Frontend) -> None:
        self.frontend = frontend
        self.items: list = []
        self.error: BaseException | None = None
        self._one_more = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._read)
        frontend.setup()
        self._thread.start()

    def _read(self) -> None:
        try:
            for item in self.frontend.produce():
                self.items.append(item)
                self._one_more.release()
        except BaseException as error:
            self.error = error

    def wait_for_items(self, count: int = 1) -> None:
        """Wait until *count* more items have come."""
        for _ in range(count):
            assert self._one_more.acquire(timeout=20)

    def join(self) -> list:
        """Wait for the end; return the items."""
        self._thread.join(timeout=20)
        assert not self._thread.is_alive(), "the frontend did not end"
        self.frontend.cleanup()
        if self.error is not None:
            raise self.error
        return self.items

    def stop(self) -> list:
        """Stop the frontend and wait for the end; return the items."""
        self.frontend.stop()
        return self.join()


@pytest.fixture(name="read_all")
def _read_all() -> Callable[[Frontend], list]:
    """Read a frontend to its end, in this thread."""
    return read_all


@pytest.fixture(name="write_all")
def _write_all() -> Callable[..., None]:
    """Give batches to a backend, in this thread."""
    return write_all


@pytest.fixture
def descriptors() -> Callable[[], list[str]]:
    """Return what lists the open descriptors of this process."""
    return lambda: sorted(path.name for path in Path("/dev/fd").iterdir())


@pytest.fixture
def reading() -> Iterator[Callable[[Frontend], Reader]]:
    """Start reading a frontend in a thread, which is ended after the test."""
    readers: list[Reader] = []

    def start(frontend: Frontend) -> Reader:
        readers.append(Reader(frontend))
        return readers[-1]

    yield start
    for reader in readers:
        reader.frontend.stop()
        reader._thread.join(timeout=20)


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start Python programs, which are killed after the test."""
    started: list[subprocess.Popen] = []

    def start(program: str, *arguments: object, **options: object) -> subprocess.Popen:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        started.append(subprocess.Popen(command, cwd=ROOT, **options))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


SERVERS = {
    "postgresql": "postgresql+pg8000://postgres@127.0.0.1:5432/test",
    "mariadb": "mariadb+pymysql://root@127.0.0.1:3306/test",
}
"""Servers of the machine; a test makes a database of its own there, and drops it."""


def missing(reason: str) -> None:
    """Skip the test; or fail it, where M3_REQUIRE_SERVICES is set."""
    (pytest.fail if os.environ.get("M3_REQUIRE_SERVICES") else pytest.skip)(reason)


@contextmanager
def temporary_database(server: str) -> Iterator[str]:
    """Make a database on a server of SERVERS, and drop it at the end."""
    try:
        import sqlalchemy as sa

        engine = sa.create_engine(SERVERS[server], isolation_level="AUTOCOMMIT")
        connection = engine.connect()
    except Exception as error:
        reason = f"{server} cannot be used: {error}"
    else:
        reason = ""
    if reason:
        with warnings.catch_warnings(action="ignore"):
            gc.collect()  # a driver may leave its socket
        missing(reason)
    name = f"m3_{secrets.token_hex(6)}"
    with connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
        yield engine.url.set(database=name).render_as_string(hide_password=False)
        force = " WITH (FORCE)" if server == "postgresql" else ""
        connection.exec_driver_sql(f"DROP DATABASE {name}{force}")
    engine.dispose()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Return the URL of a database of a PostgreSQL server, all tests' own."""
    with temporary_database("postgresql") as url:
        yield url


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    """Return the URL of a database of a MariaDB server, all tests' own."""
    with temporary_database("mariadb") as url:
        yield url
