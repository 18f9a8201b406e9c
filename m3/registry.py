"""
Names of stages: which there are, what each takes, and the object behind one.

A stage is named in one of three ways::

    stdin               a registered name: one of the table below, or of an entry point
                        (groups m3.frontends, m3.transports, m3.backends)
    pkg.mod:Name        a path; pkg.mod:Outer.Inner reaches inside
    pkg.mod.Name        the same, for what stands at the top of its module

Nothing is imported before it is asked for.  A module is found where Python
finds modules, no place is added to that.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, get_args

from m3._messages import closest, did_you_mean
from m3._shown import safe
from m3.errors import ConfigError, UnknownNameError
from m3.errors import describe as describe_error

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = (
    "BUILTIN",
    "Description",
    "Kind",
    "Option",
    "Registration",
    "Registry",
    "describe",
    "load",
    "names",
    "options_of",
    "resolve",
)

Kind = Literal["frontend", "transport", "backend"]
"""What a stage is; names of different kinds do not meet."""

BUILTIN: Mapping[Kind, Mapping[str, str]] = {
    "frontend": {
        "amqp": "m3.connectors.amqp:AmqpFrontend",
        "csv": "m3.connectors.csv:CsvFrontend",
        "events": "m3.services.stages:EventsFrontend",
        "file": "m3.connectors.file:FileFrontend",
        "jsonl": "m3.connectors.jsonl:JsonlFrontend",
        "parquet": "m3.connectors.parquet:ParquetFrontend",
        "s3": "m3.connectors.s3:S3Frontend",
        "sql": "m3.connectors.sql:SqlFrontend",
        "sqlite": "m3.connectors.sqlite:SqliteFrontend",
        "sqs": "m3.connectors.sqs:SqsFrontend",
        "stdin": "m3.connectors.stdin:StdinFrontend",
        "submit": "m3.services.submit:SubmitFrontend",
    },
    "transport": {
        "count": "m3.connectors.count:CountTransport",
        "log": "m3.connectors.log:LogTransport",
        "rpc": "m3.services.stages:RpcTransport",
    },
    "backend": {
        "amqp": "m3.connectors.amqp:AmqpBackend",
        "count": "m3.connectors.count:CountBackend",
        "csv": "m3.connectors.csv:CsvBackend",
        "dynamodb": "m3.connectors.dynamodb:DynamodbBackend",
        "events": "m3.services.stages:EventsBackend",
        "file": "m3.connectors.file:FileBackend",
        "jsonl": "m3.connectors.jsonl:JsonlBackend",
        "kinesis": "m3.connectors.kinesis:KinesisBackend",
        "log": "m3.connectors.log:LogBackend",
        "null": "m3.connectors.null:NullBackend",
        "parquet": "m3.connectors.parquet:ParquetBackend",
        "s3": "m3.connectors.s3:S3Backend",
        "sns": "m3.connectors.sns:SnsBackend",
        "sql": "m3.connectors.sql:SqlBackend",
        "sqlite": "m3.connectors.sqlite:SqliteBackend",
        "sqs": "m3.connectors.sqs:SqsBackend",
        "stdout": "m3.connectors.stdout:StdoutBackend",
    },
}
"""The ready-made stages; adding one is adding a line."""

OWN = "m3"


@dataclass(frozen=True, slots=True)
class Registration:
    """
    A name and what stands behind it.

    Attributes:
        name: what users write.
        kind: of which kind the stage is.
        origin: ``"m3"``, or the distribution that brings it.
        target_path: where it is, as ``"pkg.mod:Name"``.
    """

    name: str
    kind: Kind
    origin: str
    target_path: str


@dataclass(frozen=True, slots=True)
class Option:
    """
    One option of a stage class.

    Attributes:
        name: the keyword.
        type: its type, as one would write it; empty if it is not said.
        default: its default, as Python source; None if it must be given.
        help: what the class's documentation says of it, in one line.
    """

    name: str
    type: str
    default: str | None
    help: str


@dataclass(frozen=True, slots=True)
class Description:
    """
    What can be told of a registered stage.

    Attributes:
        registration: the name and where it comes from.
        summary: the first line of the stage's documentation.
        options: what its class takes.
    """

    registration: Registration
    summary: str
    options: tuple[Option, ...]


def installed(group: str) -> "Iterable[EntryPoint]":
    """Return the entry points of *group* of all installed distributions."""
    from importlib.metadata import entry_points

    return entry_points(group=group)


class Registry:
    """
    The names of stages.

    It never changes.  The entry points are read once, when a name is asked
    for that the table does not have.  Threads may share it.

    Args:
        table: for each kind, names and paths.
        entry_points: returns the entry points of a group; None for no others
            than those of the table.
    """

    def __init__(
        self,
        table: Mapping[Kind, Mapping[str, str]] | None = None,
        *,
        entry_points: "Callable[[str], Iterable[EntryPoint]] | None" = None,
    ) -> None:
        self._table = {
            kind: [Registration(name, kind, OWN, path) for name, path in sorted(paths.items())]
            for kind, paths in (table or {}).items()
        }
        self._entry_points = entry_points
        self._foreign: dict[Kind, list[Registration]] = {}

    def names(self, kind: Kind) -> list[Registration]:
        """Return all that is registered as *kind*: m3's own first, each by name."""
        return self._own(kind) + self._installed(kind)

    def resolve(self, kind: Kind, text: str) -> Any:
        """
        Return the object that *text* names: a registered name or a path.

        Raises:
            UnknownNameError: there is no such name; it says what is near.
            ConfigError: what the name or path stands for cannot be loaded; the
                exception of a module that raised is the ``__cause__``.
        """
        if ":" in text or "." in text:
            return load(text)
        return self.load(self.find(kind, text))

    def find(self, kind: Kind, name: str) -> Registration:
        """
        Return what is registered as *name*.

        Raises:
            UnknownNameError: nothing is.
            ConfigError: several distributions claim the name.
        """
        found = [entry for entry in self._own(kind) if entry.name == name]
        found = found or [entry for entry in self._installed(kind) if entry.name == name]
        if not found:
            raise self._unknown(kind, name)
        if len(found) > 1:
            claims = ", ".join(f"{entry.target_path} ({entry.origin})" for entry in found)
            raise ConfigError(
                f"several installed distributions call a {kind} {name!r}: {claims}; "
                "name the one you mean by its path"
            )
        return found[0]

    def load(self, registration: Registration) -> Any:
        """
        Return the object behind *registration*.

        Raises:
            ConfigError: it cannot be loaded; it names the distribution.
        """
        try:
            return load(registration.target_path)
        except ConfigError as error:
            if registration.origin == OWN:
                raise
            raise ConfigError(
                f"{registration.kind} {registration.name!r} of the distribution "
                f"{registration.origin!r} cannot be loaded: {error}"
            ) from error

    def describe(self, registration: Registration) -> Description:
        """
        Load the stage and return what can be told of it.

        Raises:
            ConfigError: it cannot be loaded.
        """
        target = self.load(registration)
        summary = (target.__doc__ or "").strip().partition("\n")[0]
        return Description(registration, summary, options_of(target))

    def _own(self, kind: Kind) -> list[Registration]:
        return self._table.get(kind, [])

    def _installed(self, kind: Kind) -> list[Registration]:
        if self._entry_points is None:
            return []
        if kind not in self._foreign:
            found = (foreign(kind, entry) for entry in self._entry_points(f"m3.{kind}s"))
            kept = [entry for entry in found if not self._is_taken(entry)]
            self._foreign[kind] = sorted(kept, key=lambda entry: (entry.name, entry.origin))
        return self._foreign[kind]

    def _is_taken(self, entry: Registration) -> bool:
        """Say whether m3 itself has the name, and tell the user so."""
        if all(own.name != entry.name for own in self._own(entry.kind)):
            return False
        import logging

        logging.getLogger(__name__).warning(
            "the distribution %r brings a %s called %r, which is m3's own name and stays "
            "m3's; reach the other by its path, %s",
            entry.origin,
            entry.kind,
            entry.name,
            entry.target_path,
        )
        return True

    def _unknown(self, kind: Kind, name: str) -> UnknownNameError:
        known = sorted({entry.name for entry in self.names(kind)})
        near = closest(name, known)
        others = [
            other
            for other in get_args(Kind)
            if other != kind and any(entry.name == name for entry in self.names(other))
        ]
        message = f"there is no {kind} called {name!r}"
        if others:
            message += f" ({name!r} is a {' and a '.join(others)})"
        message += did_you_mean(near)
        message += f"; there are: {', '.join(known) or 'none'}; or give a path, pkg.mod:Name"
        return UnknownNameError(message, name=name, near=tuple(near))


def foreign(kind: Kind, entry: "EntryPoint") -> Registration:
    """Return the registration that an entry point makes."""
    origin = entry.dist.name if entry.dist is not None else "unknown"
    return Registration(entry.name, kind, origin, entry.value.partition("[")[0].strip())


# -- paths ------------------------------------------------------------------


def load(path: str) -> Any:
    """
    Return the object at *path*: ``"pkg.mod:Name"`` or ``"pkg.mod.Name"``.

    Raises:
        UnknownNameError: the module has no such name; it says what is near.
        ConfigError: the path is malformed, there is no such module, or the
            module raised while it was imported (then that is the ``__cause__``).
    """
    module_name, colon, names = path.partition(":")
    if not colon:
        module_name, _, names = path.rpartition(".")
    parts = module_name.split(".") + names.split(".")
    if not all(part.isidentifier() for part in parts):
        raise ConfigError(f"{path!r} is not a path: write pkg.mod:Name")
    return reduce(attribute, names.split("."), import_module(module_name))


def import_module(name: str) -> Any:
    """Import the module *name*; raise :exc:`ConfigError` if that fails."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(module_not_found(name, error)) from error
        raise raised_on_import(name, error) from error
    except (Exception, SystemExit) as error:
        raise raised_on_import(name, error) from error


def module_not_found(name: str, error: ModuleNotFoundError) -> str:
    """Return the message for a module that is not there, with what may help."""
    message = f"there is no module {name!r}"
    if "is not a package" in error.msg:
        return f"{message} ({error.msg}); a name inside a class is written pkg.mod:Outer.Inner"
    if error.name != name:
        message += f" ({error.msg})"
    from pathlib import Path

    file = Path(*name.split("."))
    if file.with_suffix(".py").exists() or (file / "__init__.py").exists():
        return f"{message}; the current directory has one, but is not searched: --app-dir . does"
    return f"{message}; is it installed, on PYTHONPATH or under --app-dir?"


def raised_on_import(name: str, error: BaseException) -> ConfigError:
    """Return the error for a module whose own code raised."""
    return ConfigError(f"the module {name!r} raised while it was imported: {describe_error(error)}")


def attribute(owner: Any, name: str) -> Any:
    """Return the attribute *name* of a module or class."""
    try:
        return getattr(owner, name)
    except AttributeError as error:
        near = closest(name, dir(owner))
        raise UnknownNameError(
            f"{getattr(owner, '__name__', owner)!r} has no {name!r}{did_you_mean(near)}",
            name=name,
            near=tuple(near),
        ) from error


# -- options ----------------------------------------------------------------


def options_of(target: Any) -> tuple[Option, ...]:
    """
    Return the options that a stage class takes.

    They are the parameters of its constructor, explained by the ``Args:``
    section of its documentation.  What is not a class takes none.
    """
    if not isinstance(target, type):
        return ()
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:
        return ()
    explained = arguments_of(inspect.getdoc(target) or "")
    explained |= arguments_of(inspect.getdoc(inspect.getattr_static(target, "__init__")) or "")
    return tuple(
        Option(
            name=parameter.name,
            type=written_type(parameter.annotation),
            default=None if parameter.default is parameter.empty else safe(repr(parameter.default)),
            help=explained.get(parameter.name, ""),
        )
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    )


def written_type(annotation: Any) -> str:
    """Return *annotation* as one would write it, without the modules of its names."""
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:\w+\.)+", "", text)


def arguments_of(documentation: str) -> dict[str, str]:
    """Return what a Google-style ``Args:`` section says of each argument, in one line."""
    lines = iter(documentation.splitlines())
    if not any(line.strip() == "Args:" for line in lines):
        return {}
    explained: dict[str, str] = {}
    name = indent = None
    for line in lines:
        if line and not line[0].isspace():
            break
        text = line.strip()
        indent = indent or len(line) - len(line.lstrip())
        if text and len(line) - len(line.lstrip()) == indent:
            head, _, text = text.partition(":")
            name = head.partition(" ")[0].lstrip("*")
            explained[name] = text.strip()
        elif text and name:
            explained[name] += f" {text}"
    return explained


# -- the default registry -----------------------------------------------------

_default = Registry(BUILTIN, entry_points=installed)
names = _default.names
resolve = _default.resolve
describe = _default.describe
