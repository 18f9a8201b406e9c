"""
What a configuration may say, as attrs classes; cattrs makes them.

Types are exact: a whole number is no string and no truth value.  A string in
which a ``${VAR}`` was replaced is the exception, since a variable has no type.
"""

import inspect
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Literal, NewType, TypeVar

import attrs
import cattrs
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
)
from cattrs.gen import make_dict_structure_fn

from m3.config.merging import Merged
from m3.config.origins import KeyPath, hint
from m3.config.values import Expanded, parse_value, plain, quoted
from m3.engine.plan import DEFAULT_CHECKPOINT_INTERVAL, DEFAULT_STOP_TIMEOUT
from m3.errors import ConfigError
from m3.policies import Backoff, Batch, Ordering, Retry

__all__ = (
    "ENGINE_OPTIONS",
    "RESOURCE_OPTIONS",
    "PipelineConfig",
    "ResourceConfig",
    "RetryConfig",
    "StageConfig",
    "is_path",
    "structured",
    "structured_stage",
)

Count = NewType("Count", int)
Workers = NewType("Workers", int)
Seconds = NewType("Seconds", float)
Duration = NewType("Duration", float)
Factor = NewType("Factor", float)
Verdict = NewType("Verdict", str)
Policy = NewType("Policy", object)
Names = NewType("Names", tuple[str, ...])
Allowance = NewType("Allowance", float)
Backends = NewType("Backends", object)
Address = NewType("Address", str)
T = TypeVar("T")

VERDICT_WORDS = ("fail", "skip", "dead_letter")
VERDICTS = "'fail', 'skip', 'dead_letter', or the path of a function"
RETRY = "attempts, backoff, then, on"


@attrs.frozen(kw_only=True)
class BatchConfig:
    """The bounds of a :class:`~m3.policies.Batch`."""

    count: Count = Count(Batch().count)
    bytes: Count | None = None
    period: Seconds = Seconds(Batch().period)


@attrs.frozen(kw_only=True)
class BackoffConfig:
    """The times of a :class:`~m3.policies.Backoff`."""

    initial: Seconds = Seconds(Backoff().initial)
    maximum: Seconds = Seconds(Backoff().maximum)
    factor: Factor = Factor(Backoff().factor)
    jitter: bool = Backoff().jitter
    max_elapsed: Seconds | None = None


@attrs.frozen(kw_only=True)
class RetryConfig:
    """
    A :class:`~m3.policies.Retry` whose functions and exceptions are named.

    Attributes:
        then: a verdict, or the path of a function.
        on: the paths of exceptions, or names of Python's own; none for all.
    """

    attempts: Count = Count(Retry().attempts)
    backoff: Backoff = Retry().backoff
    then: Verdict = Verdict("fail")
    on: Names = Names(())


@attrs.frozen(kw_only=True)
class StageConfig:
    """
    One stage; :data:`None` leaves an option to the stage or the engine.

    Attributes:
        use: a registered name or a dotted path.
        sizeof: the path of a function.
        on_error: a verdict, the path of a function, or a :class:`RetryConfig`.
        options: every other key, for the stage itself.
    """

    use: str
    name: str | None = None
    workers: Workers | None = None
    queue_size: Count | None = None
    queue_bytes: Count | None = None
    sizeof: str | None = None
    ordering: Ordering | None = None
    on_error: Policy | None = None
    timeout: Duration | None = None
    max_failures: Allowance | None = None
    batch: Batch | None = None
    concurrency: Count | None = None
    config: SimpleNamespace | None = None
    options: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ResourceConfig:
    """
    One resource of the stages.

    Attributes:
        type: the path of its class; :data:`None` for the class that the stages name.
        config: becomes its ``config``.
        options: every other key, for the constructor of the class.
    """

    type: str | None = None
    config: SimpleNamespace | None = None
    options: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class PipelineConfig:
    """
    A pipeline, and how the command line is to run it.

    Attributes:
        workers: the number of workers of each transport that has none of its own.
        max_failures: of the whole run; a stage may have its own.
        queue_size: the same for the queues in front of transports and backends.
        state: a folder for checkpoints.
        dead_letters: a file for dead letters.
        crash_guard: after so many crashes, the item that kills is looked for.
        app_dir: a folder to import the stages from.
        report: a file for the report, as JSON.
        health: where probes are answered.
        resources: what the stages are given, by the name of their attribute.
        pools: the backends of each type of pool: paths, or a table of paths by id.
    """

    name: str = "pipeline"
    workers: Workers | None = None
    queue_size: Count | None = None
    stop_timeout: Seconds = Seconds(DEFAULT_STOP_TIMEOUT)
    max_failures: Allowance | None = None
    state: str | None = None
    dead_letters: str | None = None
    checkpoint_interval: Duration = Duration(DEFAULT_CHECKPOINT_INTERVAL)
    crash_guard: Count | None = None
    app_dir: str | None = None
    log_format: Literal["text", "json"] = "text"
    progress: bool | None = None
    report: str | None = None
    health: Address | None = None
    frontend: tuple[StageConfig, ...] = ()
    transport: tuple[StageConfig, ...] = ()
    backend: tuple[StageConfig, ...] = ()
    resources: dict[str, ResourceConfig] = attrs.field(factory=dict)
    pools: dict[str, Backends] = attrs.field(factory=dict)


ENGINE_OPTIONS: tuple[str, ...] = tuple(
    field.name for field in attrs.fields(StageConfig) if field.name not in ("use", "options")
)
"""The options that any stage takes; all others are the stage's own."""

RESOURCE_OPTIONS = ("type", "config")
"""The same for resources."""


def structured(merged: Merged) -> PipelineConfig | None:
    """Return the configuration, or :data:`None` after complaining to *merged*."""
    try:
        return _CONVERTER.structure(merged.values, PipelineConfig)
    except BaseValidationError as group:
        for path, message in _mistakes(group, ()):
            merged.complain(path, message)
        return None


def structured_stage(values: object) -> StageConfig | None:
    """Return a stage by itself, or :data:`None` if :func:`structured` complains of it."""
    try:
        return _CONVERTER.structure(values, StageConfig)
    except (BaseValidationError, ConfigError):
        return None


def _exactly(expected: type[T], words: str, *, convert: Callable[[Any], T]) -> Callable[..., T]:
    """Return a cattrs hook that takes only values of the type *expected*."""

    def hook(given: Any, _: Any) -> T:
        value = given
        if isinstance(value, Expanded) and expected is not str:
            value = parse_value(value)
        is_bool = isinstance(value, bool) and expected is not bool
        is_right = isinstance(value, (int, float) if expected is float else expected)
        if is_bool or not is_right:
            raise ConfigError(f"must be {words}, not {quoted(given)}")
        return convert(value)

    return hook


def _at_least(least: int, hook: Callable[..., T]) -> Callable[..., T]:
    def bounded(value: Any, expected: Any) -> T:
        number = hook(value, expected)
        if not number >= least:  # type: ignore[operator]  # the hooks given here return numbers
            raise ConfigError(f"must be at least {least}, not {quoted(value)}")
        return number

    return bounded


def _above_zero(hook: Callable[..., float]) -> Callable[..., float]:
    def bounded(value: Any, expected: Any) -> float:
        number = hook(value, expected)
        if not number > 0:
            raise ConfigError(f"must be more than 0, not {quoted(value)}")
        return number

    return bounded


def _batch(value: Any, _: Any) -> Batch:
    if isinstance(value, dict):
        return Batch(**attrs.asdict(_CONVERTER.structure(value, BatchConfig)))
    return Batch(count=_HOOKS[Count](value, Count))


def _backoff(value: Any, _: Any) -> Backoff:
    if not isinstance(value, dict):
        raise ConfigError(f"must be a table of times, as {{ initial = 0.1 }}, not {quoted(value)}")
    return Backoff(**attrs.asdict(_CONVERTER.structure(value, BackoffConfig)))


def _policy(value: Any, _: Any) -> Policy:
    if isinstance(value, dict):
        return Policy(_CONVERTER.structure(value, RetryConfig))
    if not is_verdict(value):
        raise ConfigError(f"must be {VERDICTS}, or a table of {RETRY}, not {quoted(value)}")
    return Policy(str(value))


def _verdict(value: Any, _: Any) -> Verdict:
    if not is_verdict(value):
        raise ConfigError(f"must be {VERDICTS}, not {quoted(value)}")
    return Verdict(str(value))


def _names(value: Any, _: Any) -> Names:
    if not isinstance(value, list):
        raise ConfigError(f"must be a list of exceptions, as ['OSError'], not {quoted(value)}")
    return Names(_CONVERTER.structure(value, tuple[str, ...]))


def is_verdict(value: Any) -> bool:
    """Tell whether *value* is one of the verdicts, or what may be the path of a function."""
    return value in VERDICT_WORDS or is_path(value)


def is_path(value: Any) -> bool:
    """Tell whether *value* is meant as the path of something to import."""
    return isinstance(value, str) and (":" in value or "." in value)


def _namespace(value: Any, _: Any) -> SimpleNamespace:
    if not isinstance(value, dict):
        raise ConfigError(f"must be a table, not {quoted(value)}")
    return SimpleNamespace(**{key: _nested(inner) for key, inner in value.items()})


def _nested(value: Any) -> Any:
    return _namespace(value, None) if isinstance(value, dict) else plain(value)


def _backends(value: Any, _: Any) -> Backends:
    paths = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(paths, list) or not all(is_path(path) for path in paths):
        raise ConfigError("must be a list of paths of classes, or a table of them by id")
    return Backends(value)


def _address(value: Any, _: Any) -> Address:
    from m3.observe.health import host_and_port

    text = _HOOKS[str](value, str)
    host_and_port(text)
    return Address(text)


def _allowance(value: Any, _: Any) -> Allowance:
    given = parse_value(value) if isinstance(value, Expanded) else value
    is_fraction = isinstance(given, float) and 0 < given < 1
    if not is_fraction and (type(given) is not int or given < 0):
        raise ConfigError(
            "must be a number of items, at least 0, or a fraction of them between 0 and 1, not "
            f"{quoted(value)}"
        )
    return Allowance(given)


def _one_of(value: Any, expected: Any) -> Any:
    choices = expected.__args__
    if value not in choices:
        raise ConfigError(f"must be {' or '.join(map(repr, choices))}, not {quoted(value)}")
    return plain(value)


_WHOLE = _exactly(int, "a whole number", convert=int)
_SECONDS = _exactly(float, "a number of seconds", convert=float)
_HOOKS: dict[Any, Callable[[Any, Any], Any]] = {
    int: _WHOLE,
    float: _exactly(float, "a number", convert=float),
    str: _exactly(str, "a string", convert=str),
    bool: _exactly(bool, "true or false", convert=bool),
    Count: _at_least(1, _WHOLE),
    Workers: _at_least(0, _WHOLE),
    Seconds: _at_least(0, _SECONDS),
    Duration: _above_zero(_SECONDS),
    Factor: _at_least(1, _exactly(float, "a number", convert=float)),
    Verdict: _verdict,
    Policy: _policy,
    Names: _names,
    Backoff: _backoff,
    Backends: _backends,
    Address: _address,
    Allowance: _allowance,
    SimpleNamespace: _namespace,
    Batch: _batch,
}


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for expected, hook in _HOOKS.items():
        converter.register_structure_hook(expected, hook)
    converter.register_structure_hook_func(
        lambda expected: getattr(expected, "__origin__", None) is Literal, _one_of
    )
    _gather_other_keys(converter, StageConfig)
    _gather_other_keys(converter, ResourceConfig)
    return converter


def _gather_other_keys(converter: cattrs.Converter, config: type[Any]) -> None:
    """Have the keys that *config* has no attribute for become its ``options``."""
    structure_known = make_dict_structure_fn(config, converter)
    names = {field.name for field in attrs.fields(config)} - {"options"}

    def structure_all(values: Any, expected: type[Any]) -> Any:
        if not isinstance(values, dict):
            raise ConfigError(f"must be a table, not {quoted(values)}")
        known = {key: value for key, value in values.items() if key in names}
        own = {key: value for key, value in values.items() if key not in names}
        return attrs.evolve(structure_known(known, expected), options=own)

    converter.register_structure_hook(config, structure_all)


def _mistakes(error: Exception, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Iterate over the mistakes in a tree of cattrs' errors, each with its key."""
    if isinstance(error, ForbiddenExtraKeysError):
        known = tuple(inspect.signature(error.cl).parameters)
        for key in sorted(error.extra_fields):
            yield (*path, key), f"there is no such option{hint(key, known)}"
    elif isinstance(error, (ClassValidationError, IterableValidationError)):
        with_notes, without = error.group_exceptions()
        for inner, note in with_notes:
            step = note.name if isinstance(note, AttributeValidationNote) else note.index
            yield from _mistakes(inner, (*path, step))
        for inner in without:
            yield from _mistakes(inner, path)
    elif isinstance(error, KeyError):
        yield path[:-1], f"the key {path[-1]!r} is missing"
    elif isinstance(error, ConfigError):
        yield path, str(error)
    else:
        raise error


_CONVERTER = _converter()
