"""File, environment and flags, each read into a :class:`~m3.config.merging.Layer`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from m3.config.lines import key_lines
from m3.config.merging import KINDS, TABLES, Assignment, Layer, Setting
from m3.config.origins import KeyPath, Origin, Problem, dotted, hint
from m3.config.values import all_expanded, parse_value
from m3.errors import ConfigError, abridged
from m3.registry import Kind

__all__ = ("VARIABLES", "Flags", "from_environment", "from_file", "from_flags", "unknown_variables")

VARIABLES = {
    "M3_NAME": "name",
    "M3_WORKERS": "workers",
    "M3_QUEUE_SIZE": "queue_size",
    "M3_STOP_TIMEOUT": "stop_timeout",
    "M3_MAX_FAILURES": "max_failures",
    "M3_STATE": "state",
    "M3_DEAD_LETTERS": "dead_letters",
    "M3_CHECKPOINT_INTERVAL": "checkpoint_interval",
    "M3_CRASH_GUARD": "crash_guard",
    "M3_APP_DIR": "app_dir",
    "M3_LOG_FORMAT": "log_format",
    "M3_PROGRESS": "progress",
    "M3_REPORT": "report",
    "M3_HEALTH": "health",
}
"""The environment variables that are options of the pipeline."""

NUMBERS = (
    *("workers", "queue_size", "stop_timeout"),
    *("max_failures", "checkpoint_interval", "crash_guard"),
)
"""Those of them whose values are written as in TOML."""

SET_VARIABLE = "M3_SET"
FOREIGN_VARIABLES = ("M3_DEBUG", "M3_SANITIZE", "M3_TEST_", "M3_BENCH_")
"""Beginnings of variables that mean something to m3's build, tests and benchmarks."""

_ASSIGNMENT = re.compile(
    r"(?:(?P<kind>frontend|transport|backend)\.(?:(?P<number>\d+)\.)?)?"
    r"(?P<option>[A-Za-z_][A-Za-z0-9_-]*)(?P<inner>(?(kind)(?:\.[A-Za-z0-9_-]+)*))=(?P<value>.*)",
    re.DOTALL,
)
_ENTRY = re.compile(
    r"(?P<path>(?:resources|pools)(?:\.[A-Za-z0-9_-]+)+)=(?P<value>.*)",
    re.DOTALL,
)
_WORDS = {"1": True, "yes": True, "on": True, "0": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What stood on the command line; :data:`None` and ``()`` mean that it did not."""

    frontend: tuple[str, ...] = ()
    transport: tuple[str, ...] = ()
    backend: tuple[str, ...] = ()
    workers: int | None = None
    stop_timeout: float | None = None
    state: str | None = None
    dead_letters: str | None = None
    crash_guard: int | None = None
    app_dir: str | None = None
    log_format: str | None = None
    progress: bool | None = None
    report: str | None = None
    health: str | None = None
    set: tuple[str, ...] = ()


_STAGES_AND_SET = (*KINDS, "set")


def from_flags(flags: Flags) -> Layer:
    """Return what the flags say."""
    layer = Layer()
    for kind in KINDS:
        origin = Origin("flag", f"--{kind}")
        for number, use in enumerate(getattr(flags, kind), 1):
            layer.stages.setdefault(kind, []).append(origin)
            layer.assignments.append(Assignment(kind, number, "use", Setting(use, origin)))
    for name in (field.name for field in fields(Flags) if field.name not in _STAGES_AND_SET):
        value = getattr(flags, name)
        if value is not None:
            layer.settings[name] = Setting(value, Origin("flag", "--" + name.replace("_", "-")))
    for text in flags.set:
        _add_assignment(layer, text, Origin("flag", f"--set {_without_value(text)}"))
    return layer


def from_environment(environ: Mapping[str, str]) -> Layer:
    """Return what the ``M3_*`` variables say."""
    layer = Layer()
    for variable, name in VARIABLES.items():
        if text := environ.get(variable):
            value = _environment_value(text, name)
            layer.settings[name] = Setting(value, Origin("environment", variable))
    _add_set_variable(layer, environ.get(SET_VARIABLE, ""))
    return layer


def _environment_value(text: str, name: str) -> Any:
    if name == "progress":
        return _WORDS.get(text.lower(), parse_value(text.lower()))
    return parse_value(text) if name in NUMBERS else text


def _add_set_variable(layer: Layer, text: str) -> None:
    import shlex

    origin = Origin("environment", SET_VARIABLE)
    try:
        words = shlex.split(text)
    except ValueError as error:
        layer.problems.append(Problem(origin, "", f"cannot be split into words: {error}"))
        return
    for word in words:
        _add_assignment(layer, word, origin)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each ``M3_*`` variable that means nothing."""
    known = (*VARIABLES, SET_VARIABLE)
    return [
        f"the environment variable {variable} means nothing to m3{hint(variable, known)}"
        for variable in sorted(environ)
        if variable.startswith("M3_")
        and variable not in known
        and not variable.startswith(FOREIGN_VARIABLES)
    ]


def _without_value(text: str) -> str:
    """Return what an assignment is to; its value may be a secret."""
    return text.partition("=")[0]


def _add_assignment(layer: Layer, text: str, origin: Origin) -> None:
    if entry := _ENTRY.fullmatch(text):
        setting = Setting(parse_value(entry["value"]), origin)
        layer.entries.append((tuple(entry["path"].split(".")), setting))
        return
    match = _ASSIGNMENT.fullmatch(text)
    if not match:
        message = (
            f"{abridged(_without_value(text))} is not STAGE.OPTION=VALUE, as in "
            "transport.1.workers=16"
        )
        layer.problems.append(Problem(origin, "", message))
        return
    if match["option"] in KINDS:
        message = f"a stage is not a value; use --{match['option']} NAME"
        layer.problems.append(Problem(origin, match["option"], message))
        return
    setting = Setting(parse_value(match["value"]), origin)
    if match["kind"]:
        number = int(match["number"]) if match["number"] else None
        kind: Kind = match["kind"]  # type: ignore[assignment]  # the pattern knows the kinds
        inner = tuple(match["inner"].split(".")[1:])
        layer.assignments.append(Assignment(kind, number, match["option"], setting, inner))
    else:
        layer.settings[match["option"]] = setting


def from_file(path: Path, environ: Mapping[str, str]) -> Layer:
    """
    Return what a TOML file says.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    text = _read(path)
    return _FileReader(path, text, environ).read(_parsed(path, text))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8: {error}") from error


def _parsed(path: Path, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error


class _FileReader:
    def __init__(self, path: Path, text: str, environ: Mapping[str, str]) -> None:
        self.path = path
        self.lines = key_lines(text)
        self.environ = environ
        self.layer = Layer()

    def read(self, document: dict[str, Any]) -> Layer:
        for key, value in document.items():
            if key in KINDS:
                self._stages(key, value)
            elif key in TABLES:
                self._entries((key,), value)
            else:
                expanded = self._expanded(value, (key,))
                if key == "app_dir" and isinstance(expanded, str):
                    expanded = str(self.path.parent / expanded)
                self.layer.settings[key] = Setting(expanded, self._origin((key,)))
        return self.layer

    def _entries(self, path: KeyPath, value: Any) -> None:
        """Add what stands in a table of names, down to the values of each name."""
        is_table = isinstance(value, dict)
        if len(path) == 1 and not is_table:
            self._complain(path, f"must be a table, [{path[0]}]")
        elif is_table and (len(path) == 1 or (len(path) == 2 and value)):
            for key, inner in value.items():
                self._entries((*path, key), inner)
        else:
            setting = Setting(self._expanded(value, path), self._origin(path))
            self.layer.entries.append((path, setting))

    def _stages(self, kind: Kind, value: Any) -> None:
        if not isinstance(value, list):
            value = [value]
            self._number_lines(kind)
        for index, table in enumerate(value):
            path: KeyPath = (kind, index)
            origin = self._origin(path)
            self.layer.stages.setdefault(kind, []).append(origin)
            if not isinstance(table, dict):
                self._complain(path, f"a stage is a table: [[{kind}]], with use = 'NAME'")
                continue
            for key, inner in table.items():
                setting = Setting(self._expanded(inner, (*path, key)), self._origin((*path, key)))
                self.layer.assignments.append(Assignment(kind, index + 1, key, setting))

    def _number_lines(self, kind: Kind) -> None:
        """File the lines of a single ``[kind]`` table under the first of its kind."""
        for path, line in list(self.lines.items()):
            if path[0] == kind:
                self.lines[(kind, 0, *path[1:])] = line

    def _expanded(self, value: Any, path: KeyPath) -> Any:
        return all_expanded(value, path, self.environ, self._complain)

    def _complain(self, path: KeyPath, message: str) -> None:
        self.layer.problems.append(Problem(self._origin(path), dotted(path), message))

    def _origin(self, path: KeyPath) -> Origin:
        while path and path not in self.lines:
            path = path[:-1]
        line = self.lines.get(path, 0)
        return Origin("file", f"{self.path}:{line}" if line else str(self.path), line)
