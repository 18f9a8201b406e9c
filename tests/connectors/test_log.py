"""The connector ``log``: each item is logged, and passed on or consumed."""

import logging

import pytest

from m3.connectors.log import LogBackend, LogTransport


@pytest.fixture
def messages(caplog):
    caplog.set_level(logging.INFO, logger="m3.log")
    return lambda: [(entry.name, entry.levelname, entry.getMessage()) for entry in caplog.records]


def test_the_transport_logs_and_passes_on(messages):
    """The item itself goes on."""
    item = {"a": 1}
    assert LogTransport().transport(item) is item
    assert messages() == [("m3.log", "INFO", "{'a': 1}")]


def test_the_backend_logs(messages):
    """The item is logged as the transport would."""
    LogBackend().process(b"a")
    assert messages() == [("m3.log", "INFO", "b'a'")]


def test_nothing_in_an_item_can_forge_a_line(messages):
    """Control characters are escaped, and a long item is cut."""
    LogBackend().process("a\nb\x1b[2Jc\u2028")
    LogBackend().process(b"x" * 1000)
    (_, _, first), (_, _, second) = messages()
    assert first == r"'a\nb\x1b[2Jc\u2028'"
    assert len(second) < 250


def test_an_item_that_cannot_be_shown_is_no_error(messages):
    """An item whose ``repr`` raises is logged by its type."""

    class Hostile:
        def __repr__(self):
            raise RuntimeError

    LogBackend().process(Hostile())
    assert "Hostile" in messages()[0][2]


def test_nothing_is_formatted_when_nobody_listens(caplog):
    """With the level above INFO, ``repr`` is not even called."""
    caplog.set_level(logging.WARNING, logger="m3.log")

    class Forbidden:
        def __repr__(self):
            pytest.fail("shown")

    LogTransport().transport(Forbidden())
