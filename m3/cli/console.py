"""What the command line itself says on stderr."""

import logging
from typing import Any

from m3._shown import indented, safe
from m3.observe.logs import LogFormat, formatter_for, write_line

__all__ = ("Console",)


class Console:
    """
    Writes to stderr: plain lines, or JSON lines like those of the logs.

    Secrets are masked and control characters escaped.  All lines of a message
    but its first are indented, so that none of them can pass for another one.

    When nobody reads stderr any more, what is said is lost without a word.

    Args:
        quiet: leave out what is neither a warning nor an error.
        log_format: ``"text"`` or ``"json"``.
    """

    def __init__(self, *, quiet: bool = False, log_format: LogFormat = "text") -> None:
        self._quiet = quiet
        self._formatter = formatter_for("json") if log_format == "json" else None

    def say(self, text: str, **fields: Any) -> None:
        """Write *text*, unless quiet; *fields* appear in JSON only."""
        if not self._quiet:
            self._write(logging.INFO, text, fields)

    def warn(self, text: str, **fields: Any) -> None:
        """Write a warning."""
        self._write(logging.WARNING, text, fields)

    def error(self, text: str, **fields: Any) -> None:
        """Write an error."""
        self._write(logging.ERROR, text, fields)

    def _write(self, level: int, text: str, fields: dict[str, Any]) -> None:
        if self._formatter:
            named = {"name": "m3.cli", "levelno": level, "levelname": logging.getLevelName(level)}
            line = self._formatter.format(logging.makeLogRecord({"msg": text} | fields | named))
        else:
            begin = "m3: warning: " if level == logging.WARNING else "m3: "
            line = begin + indented(safe(text))
        write_line(line)
