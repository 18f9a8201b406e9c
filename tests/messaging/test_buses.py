"""The buses of m3 keep the promises of all buses."""

from tempfile import TemporaryDirectory

import pytest

from m3.messaging import connect
from m3.testing import BusBattery


class TestMemory(BusBattery):
    outlives_its_buses = False

    def connect(self):
        return connect(f"memory://{self.token}")


@pytest.mark.usefixtures("hurried")
class TestMemoryRestless(TestMemory):
    pass


class TestSqlite(BusBattery):
    def setup_method(self):
        self.folder = TemporaryDirectory()
        super().setup_method()

    def teardown_method(self):
        super().teardown_method()
        self.folder.cleanup()

    def connect(self):
        return connect(f"sqlite:///{self.folder.name}/bus.db")


@pytest.mark.usefixtures("hurried")
class TestSqliteRestless(TestSqlite):
    pass
