"""A whole configuration: read, checked, and turned into a plan."""

import importlib
import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import attrs

from m3.config.error_policies import error_policy, imported_at, named
from m3.config.merging import KINDS, TABLES, Merged, merge
from m3.config.origins import DEFAULT, KeyPath, Origin, Problem
from m3.config.own_options import Owner, is_secret, own_options, own_values, wrong_options
from m3.config.resources import class_for, classes_by_name, make
from m3.config.schema import (
    ENGINE_OPTIONS,
    PipelineConfig,
    StageConfig,
    structured,
    structured_stage,
)
from m3.config.sources import (
    Flags,
    from_environment,
    from_file,
    from_flags,
    unknown_variables,
)
from m3.config.values import plain, shown, shown_secret
from m3.engine.delivery import Level, levels
from m3.engine.plan import QUEUE_SIZE, STRETCHED_QUEUE_SIZE, Plan, StageSpec
from m3.engine.resources import mistakes_in_resources
from m3.engine.validation import mistakes, mistakes_of
from m3.errors import ConfigError
from m3.pipeline import make_spec
from m3.pools.settings import extend
from m3.registry import Kind, load, resolve

__all__ = ("Configuration", "Effective", "read")

ELASTIC = f"{QUEUE_SIZE} to {STRETCHED_QUEUE_SIZE}"


class Effective(NamedTuple):
    """An option as it will be, and where that was said."""

    name: str
    value: str
    origin: Origin


def read(path: Path | None, flags: Flags, environ: Mapping[str, str]) -> "Configuration":
    """
    Read the file, if any, the environment and the flags; import nothing yet.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    layers = [from_file(path, environ)] if path else []
    merged = merge([*layers, from_environment(environ), from_flags(flags)])
    for kind in KINDS:
        if not merged.values[kind]:
            _complain_of_none(merged, kind)
    return Configuration(merged, structured(merged), unknown_variables(environ))


def _complain_of_none(merged: Merged, kind: Kind) -> None:
    if kind == "frontend":
        merged.complain((kind,), "there is none; give --frontend NAME, or [[frontend]] in a file")


class Configuration:
    """
    What file, environment and flags say together.

    Attributes:
        options: the configuration, with defaults where it has mistakes.
        warnings: what is probably meant otherwise, for people.
    """

    def __init__(
        self, merged: Merged, structured: PipelineConfig | None, warnings: list[str]
    ) -> None:
        self.options = structured or PipelineConfig()
        self.warnings = warnings
        self._merged = merged
        self._targets: dict[KeyPath, Any] = {}
        self._named: dict[KeyPath, dict[KeyPath, Any]] = {}

    @property
    def app_dir(self) -> str | None:
        """The folder to import stages from, also if something else is wrong."""
        value = self._merged.values.get("app_dir")
        return plain(value) if isinstance(value, str) else None

    def plan(self) -> Plan:
        """
        Import the stages, check everything and return what is to run.

        Raises:
            ConfigError: with all mistakes, one in each line.
        """
        plan, problems = self.checked()
        if plan is None:
            raise ConfigError("\n".join(map(str, problems)))
        return plan

    def levels(self, plan: Plan) -> list[Level]:
        """
        Return what the stages of *plan* do for delivery; ready-made ones are made to be asked.

        Raises:
            ConfigError: one of them refuses its options, or cannot be used with a state.
        """
        try:
            return levels(plan)
        except ConfigError as error:
            specs = dict(zip(self._merged.paths(*KINDS), plan, strict=True))
            self._complain_of(str(error), specs)
            raise ConfigError("\n".join(map(str, self._merged.problems))) from error

    def checked(self) -> tuple[Plan | None, list[Problem]]:
        """Import the stages; return the plan, or :data:`None` and all mistakes."""
        for path in self._merged.paths(*KINDS):
            self._check_stage(path)
        self._check_resources()
        plan = None
        if self._merged.problems:
            self._check_apart()
        else:
            plan = self._built()
        return plan, sorted(self._merged.problems, key=lambda problem: problem.origin.line)

    def _check_stage(self, path: KeyPath) -> None:
        values = self._stage_values(path)
        use = values.get("use")
        if not isinstance(use, str):
            return
        try:
            target = self._targets[path] = resolve(_kind(path), use)
        except ConfigError as error:
            self._merged.complain((*path, "use"), f"{error}{_place(error.__cause__)}")
            return
        self._import_what_is_named(path, values)
        own = {name: value for name, value in values.items() if name not in _ENGINE_KEYS}
        for name, message in wrong_options(target, _kind(path), own):
            self._merged.complain((*path, name), message)

    def _check_resources(self) -> None:
        """Say what the pools have; find the class of each resource, and check its options."""
        extend({name: plain(backends) for name, backends in self.options.pools.items()})
        wanted = classes_by_name(self._targets.values())
        for name, given in self.options.resources.items():
            path = ("resources", name)
            try:
                cls = self._targets[path] = class_for(name, given.type, wanted)
            except ConfigError as error:
                self._merged.complain(path, str(error))
                continue
            for option, message in wrong_options(cls, "resource", given.options):
                self._merged.complain((*path, option), message)

    def _resources(self) -> dict[type | str, Any]:
        """Make the resources that the configuration names."""
        made: dict[type | str, Any] = {}
        for name, given in self.options.resources.items():
            path = ("resources", name)
            try:
                made[name] = make(self._targets[path], given)
            except ConfigError as error:
                self._merged.complain(path, str(error))
        return made

    def _import_what_is_named(self, path: KeyPath, values: dict[str, Any]) -> None:
        """Import the functions and exceptions that the engine's options name."""
        imported = self._named[path] = {}
        for key, name in named(values):
            try:
                imported[key] = imported_at(key, name)
            except ConfigError as error:
                self._merged.complain((*path, *key), str(error))

    def _check_apart(self) -> None:
        """Look at each stage of which no mistake is known by itself, as there is no plan."""
        specs = self._specs()
        for spec in specs.values():
            for mistake in mistakes_of(spec):
                self._complain_of(mistake, specs)

    def _specs(self) -> dict[KeyPath, StageSpec]:
        """Return the stages of which no mistake is known."""
        specs: dict[KeyPath, StageSpec] = {}
        for path in self._merged.paths(*KINDS):
            stage = structured_stage(self._merged.at(path))
            if stage is None or self._merged.is_wrong(path):
                continue
            try:
                specs[path] = self._spec(stage, path, {spec.name for spec in specs.values()})
            except ConfigError as error:
                self._merged.complain(path, str(error))
        return specs

    def _built(self) -> Plan | None:
        specs = self._specs()
        plan = Plan(
            **{f"{kind}s": tuple(s for p, s in specs.items() if p[0] == kind) for kind in KINDS},
            name=self.options.name,
            stop_timeout=self.options.stop_timeout,
            max_failures=self.options.max_failures,
            state=self.options.state,
            dead_letters=self.options.dead_letters,
            checkpoint_interval=self.options.checkpoint_interval,
            crash_guard=self.options.crash_guard,
            resources=self._resources(),
        )
        for mistake in mistakes(plan):
            self._complain_of(mistake, specs)
        for wrong in mistakes_in_resources(plan):
            self._merged.complain(("resources",), str(wrong))
        return None if self._merged.problems else plan

    def _spec(self, stage: StageConfig, path: KeyPath, taken: set[str]) -> StageSpec:
        return make_spec(
            _kind(path),
            stage.use,
            name=stage.name,
            taken=taken,
            options=self._keywords(stage, path),
        )

    def _complain_of(self, mistake: str, specs: dict[KeyPath, StageSpec]) -> None:
        """Complain of what the engine finds wrong, at the stage that it names."""
        for path, spec in specs.items():
            label = f"{spec.kind} {spec.name!r}"
            if mistake.removeprefix("the ").startswith((f"{label}: ", f"{label} ")):
                message = mistake.removeprefix(f"{label}: ")
                self._merged.complain((*path, self._key_of(message, path)), message)
                return
        for name in self.options.resources:
            label = f"resource {name!r}: "
            if mistake.startswith(label):
                self._merged.complain(("resources", name), mistake.removeprefix(label))
                return
        subject = mistake.partition(" ")[0]
        self._merged.complain((subject,) if subject in self._merged.values else (), mistake)

    def _key_of(self, message: str, path: KeyPath) -> str:
        """Return which key of a stage a message is about: that of its first word, if it is one."""
        values = self._stage_values(path)
        first = re.match(r"\w*", message)
        if first and first[0] in values:
            return first[0]
        said = [name for name in values if name in ENGINE_OPTIONS and _names(message, name)]
        return said[0] if said else "use"

    def _keywords(self, stage: StageConfig, path: KeyPath) -> dict[str, Any]:
        """Return the options of a stage, those of the engine and its own."""
        chosen = {name: getattr(stage, name) for name in ENGINE_OPTIONS if name != "name"}
        imported = self._named[path]
        chosen["sizeof"] = imported.get(("sizeof",), stage.sizeof)
        chosen["on_error"] = error_policy(stage.on_error, imported)
        own = own_values(self._targets[path], _kind(path), stage.options)
        return own | {name: value for name, value in chosen.items() if value is not None}

    def _stage_values(self, path: KeyPath) -> dict[str, Any]:
        return cast("dict[str, Any]", self._merged.at(path))

    # -- what there is, for people ------------------------------------------------

    def pipeline_options(self) -> Iterator[Effective]:
        """Iterate over the options of the whole pipeline."""
        for field in attrs.fields(PipelineConfig):
            value = getattr(self.options, field.name)
            if field.name not in (*KINDS, *TABLES) and value is not None:
                path = (field.name,)
                written = self._merged.values.get(field.name, value)
                yield Effective(field.name, shown(written), self._merged.exact_origin(path))

    def stage_options(self, plan: Plan) -> Iterator[tuple[StageSpec, str, list[Effective]]]:
        """Iterate over the stages of the plan: each with its ``use`` and its options."""
        for path, spec in zip(self._merged.paths(*KINDS), plan, strict=True):
            values = self._stage_values(path)
            effective = [*self._engine_options(path, spec), *self._own_options(path)]
            yield spec, f"{values['use']}", effective

    def resource_options(self) -> Iterator[tuple[str, str, list[Effective]]]:
        """Iterate over the resources that are configured: name, class, and options of each."""
        for name in self.options.resources:
            path = ("resources", name)
            yield name, self._targets[path].__qualname__, [*self._own_options(path)]

    def pools(self) -> Iterator[Effective]:
        """Iterate over the backends of the pools."""
        for name, value in self._merged.values["pools"].items():
            yield from self._given(name, value, ("pools", name))

    def _engine_options(self, path: KeyPath, spec: StageSpec) -> Iterator[Effective]:
        values = self._stage_values(path)
        for name in ENGINE_OPTIONS:
            value = values.get(name, getattr(spec, name))
            text = ELASTIC if name == "queue_size" and value is None else shown(value)
            is_idle = name == "name" or (name == "queue_size" and spec.kind == "frontend")
            if name in values:
                yield from self._given(name, value, (*path, name))
            elif text != "None" and not is_idle:
                yield Effective(name, text, DEFAULT)

    def _given(self, name: str, value: Any, path: KeyPath) -> Iterator[Effective]:
        """Iterate over a value that was given; of a table, over what is in it."""
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from self._given(f"{name}.{key}", inner, (*path, key))
        else:
            yield Effective(name, shown(value), self._merged.origin(path))

    def _own_options(self, path: KeyPath) -> Iterator[Effective]:
        values = self._merged.at(path)
        known = {option.name: option for option in own_options(self._targets[path], _owner(path))}
        given = [name for name in values if name not in _ENGINE_KEYS and name not in known]
        for name in (*known, *given):
            if name in known and name in values and is_secret(known[name]):
                origin = self._merged.origin((*path, name))
                yield Effective(name, shown_secret(values[name]), origin)
            elif name in values:
                yield from self._given(name, values[name], (*path, name))
            else:
                yield Effective(name, str(known[name].default), DEFAULT)


_ENGINE_KEYS = ("use", *ENGINE_OPTIONS)


def _names(message: str, option: str) -> bool:
    """Tell whether *message* has the name of an option, or one of what it counts, as a word."""
    return re.search(rf"\b{option.removesuffix('s')}", message) is not None


def _place(error: BaseException | None) -> str:
    """Return where the user's module raised *error* while it was imported, if it did."""
    importing = ("<frozen importlib", importlib.__file__, load.__code__.co_filename)
    frames = traceback.extract_tb(error.__traceback__) if error else []
    foreign = [frame for frame in frames if not frame.filename.startswith(importing)]
    return f" ({foreign[-1].filename}:{foreign[-1].lineno})" if foreign else ""


def _kind(path: KeyPath) -> Kind:
    return cast("Kind", path[0])


def _owner(path: KeyPath) -> Owner:
    return "resource" if path[0] == "resources" else _kind(path)
