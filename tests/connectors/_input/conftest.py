"""What the tests of inputs share: a wakeup, open as while a frontend reads."""

import pytest

from m3.connectors._input.wakeup import Wakeup


@pytest.fixture
def wakeup():
    wakeup = Wakeup()
    wakeup.open()
    yield wakeup
    wakeup.close()
