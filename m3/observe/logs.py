"""Logging to stderr, as text or as one JSON object in each line."""

import contextlib
import json
import logging
import sys
import time
from typing import Any, Literal

from m3._shown import all_masked, escaped_json, indented, masked, safe

__all__ = (
    "JsonFormatter",
    "LogFormat",
    "TextFormatter",
    "configure",
    "formatter_for",
    "write_line",
)

LogFormat = Literal["text", "json"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """
    One JSON object per record.

    ``time`` (UTC), ``level``, ``logger``, ``message``, ``thread``, the
    ``extra`` fields of the call, and ``exception`` if there is one.  Secrets and
    passwords in URLs are masked.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as a line of JSON."""
        fields: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "thread": record.threadName,
        }
        fields |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return escaped_json(json.dumps(all_masked(fields), default=_repr, ensure_ascii=False))


def _repr(value: object) -> str:
    return masked(repr(value))


class TextFormatter(logging.Formatter):
    """
    ``12:00:00.000 INFO    m3.engine: message``, in local time.

    All lines of a message but its first are indented, so that none of them
    can pass for a message of its own.
    """

    default_time_format = "%H:%M:%S"
    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as one line or, where it has more, as several."""
        return indented(safe(super().format(record)))


class StderrHandler(logging.Handler):
    """
    Writes to what :data:`sys.stderr` is at the time.

    A progress display puts another stream there while it is shown.  When
    nobody reads stderr any more, records are lost without a word: there is no
    place left to say so, and logging must not end a run.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record* as a line."""
        try:
            write_line(self.format(record))
        except Exception:
            self.handleError(record)


def write_line(line: str) -> None:
    """Write *line* to stderr at once, if anybody reads it."""
    with contextlib.suppress(OSError, AttributeError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def configure(*, log_format: LogFormat = "text", verbosity: int = 0) -> None:
    """
    Send all logging of the process to stderr; replaces what was set up before.

    Args:
        log_format: ``"text"`` or ``"json"``.
        verbosity: -1 shows warnings, 0 information, 1 what m3 itself does in
            detail, 2 what every library does in detail.
    """
    handler = StderrHandler()
    handler.setFormatter(formatter_for(log_format))
    levels = {-1: logging.WARNING, 0: logging.INFO, 1: logging.INFO, 2: logging.DEBUG}
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(levels[max(-1, min(verbosity, 2))])
    logging.getLogger("m3").setLevel(logging.DEBUG if verbosity == 1 else logging.NOTSET)


def formatter_for(log_format: LogFormat) -> logging.Formatter:
    """Return the formatter of that name."""
    return JsonFormatter() if log_format == "json" else TextFormatter()


def _utc(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
