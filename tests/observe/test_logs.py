"""Logging to stderr."""

import json
import logging

import pytest

from m3.observe import logs
from m3.secret import Secret


@pytest.fixture(autouse=True)
def _restored():
    """Give the process its own logging back."""
    root, own = logging.getLogger(), logging.getLogger("m3")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], level, own_level = before
    root.setLevel(level)
    own.setLevel(own_level)


def test_json_has_one_object_per_line(capsys):
    """A record is one line of JSON, whatever stands in it; extra fields are fields."""
    logs.configure(log_format="json")
    logging.getLogger("a.b").warning("two\nlines: %s", "é", extra={"in_flight": 3, "what": {1}})
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert record["message"] == "two\nlines: é"
    assert (record["level"], record["logger"]) == ("warning", "a.b")
    assert (record["in_flight"], record["what"]) == (3, "{1}")
    assert record["time"].endswith("Z")


def test_json_keeps_the_traceback(capsys):
    """An exception is a field of its record."""
    logs.configure(log_format="json")
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("x").exception("failed")
    record = json.loads(capsys.readouterr().err)
    assert record["exception"].endswith("ValueError: bad")


def test_text(capsys):
    """As text, a record is time, level, logger and message."""
    logs.configure()
    logging.getLogger("x").info("hello")
    assert capsys.readouterr().err.endswith(" INFO    x: hello\n")


@pytest.mark.parametrize(
    ("verbosity", "shown"),
    [
        (-1, []),
        (0, ["m3.x info", "other info"]),
        (1, ["m3.x debug", "m3.x info", "other info"]),
        (2, ["m3.x debug", "m3.x info", "other debug", "other info"]),
        (5, ["m3.x debug", "m3.x info", "other debug", "other info"]),
    ],
)
def test_verbosity(capsys, verbosity, shown):
    """Quiet shows warnings, normal information, -v the details of m3, -vv those of all."""
    logs.configure(verbosity=verbosity)
    for name in ("m3.x", "other"):
        logging.getLogger(name).debug("%s debug", name)
        logging.getLogger(name).info("%s info", name)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in lines] == shown


def test_closed_stderr_is_survived(monkeypatch):
    """When nobody reads stderr, logging is silent and does not raise."""

    class Closed:
        def write(self, text):
            raise BrokenPipeError

    logs.configure()
    for stream in (Closed(), None):
        monkeypatch.setattr("sys.stderr", stream)
        logging.getLogger("x").error("lost")


def test_secrets_and_control_characters(capsys):
    """Neither format shows a secret, nor anything that a terminal obeys."""
    Secret("swordfish-in-a-log")
    for log_format in ("text", "json"):
        logs.configure(log_format=log_format)
        extra = {"what": ["x://u:pa55@h"], "it": ValueError("swordfish-in-a-log")}
        try:
            raise ValueError("no x://u:pa55@h\n12:00 forged \x9b2J\u202e")
        except ValueError:
            logging.getLogger("x").exception("swordfish-in-a-log \x1b", extra=extra)
        err = capsys.readouterr().err
        assert "swordfish" not in err
        assert "pa55" not in err
        assert all(c == "\n" or c.isprintable() for c in err)
        assert not any(line.startswith("12:00 forged") for line in err.splitlines())
        if log_format == "json":
            assert json.loads(err)["message"] == "*** \x1b"
