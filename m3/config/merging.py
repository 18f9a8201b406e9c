"""
The layers of a configuration, and how the stronger ones cover the weaker.

File, environment and flags each become a :class:`Layer` of the same form;
:func:`merge` lays them over one another.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from m3.config.origins import DEFAULT, KeyPath, Origin, Problem, dotted
from m3.registry import Kind

__all__ = ("KINDS", "TABLES", "Assignment", "Layer", "Merged", "Setting", "merge")

KINDS: tuple[Kind, ...] = ("frontend", "transport", "backend")

TABLES = ("resources", "pools")
"""Tables whose keys are names that the user chooses."""

SPREAD: dict[str, tuple[Kind, ...]] = {
    "workers": ("transport",),
    "queue_size": ("transport", "backend"),
}
"""Options of the pipeline that are options of each stage of these kinds."""


class Setting(NamedTuple):
    """A value and where it was given."""

    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Assignment:
    """
    One option of one stage.

    Attributes:
        number: which stage of its kind, from 1; :data:`None` means the only one.
        inner: the keys that lead to the value inside of an option that is a table.
    """

    kind: Kind
    number: int | None
    option: str
    setting: Setting
    inner: tuple[str, ...] = ()


@dataclass(slots=True)
class Layer:
    """
    What one source says.

    Attributes:
        stages: for each kind that the source lists, where each of its stages stands.
        settings: options of the pipeline.
        assignments: options of stages, what a stage is (``use``) included.
        entries: what stands in one of the :data:`TABLES`, each with its path.
        problems: what could not be read.
    """

    stages: dict[Kind, list[Origin]] = field(default_factory=dict)
    settings: dict[str, Setting] = field(default_factory=dict)
    assignments: list[Assignment] = field(default_factory=list)
    entries: list[tuple[KeyPath, Setting]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class Merged:
    """
    The values of all layers, and where each one comes from.

    Attributes:
        values: as nested dictionaries and lists, stages under their kinds.
        problems: mistakes found so far.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self._origins: dict[KeyPath, Origin] = {}

    def put(self, path: KeyPath, value: Any, origin: Origin) -> None:
        """Set the value at *path*; what it is in must exist."""
        inner = self.at(path[:-1])
        if isinstance(inner, list):
            inner.append(value)
        else:
            inner[path[-1]] = value
        covered = [known for known in self._origins if known[: len(path)] == path]
        for known in covered:
            del self._origins[known]
        self._origins[path] = origin

    def at(self, path: KeyPath) -> Any:
        """Return the value at *path*."""
        inner: Any = self.values
        for part in path:
            inner = inner[part]
        return inner

    def origin(self, path: KeyPath) -> Origin:
        """Return where the value at *path*, or what holds it, comes from."""
        while path:
            if path in self._origins:
                return self._origins[path]
            path = path[:-1]
        return DEFAULT

    def exact_origin(self, path: KeyPath) -> Origin:
        """Return where the value at *path* itself was given."""
        return self._origins.get(path, DEFAULT)

    def complain(self, path: KeyPath, message: str, origin: Origin | None = None) -> None:
        """Note that what is at *path* is wrong, unless that is known already."""
        new = Problem(origin or self.origin(path), dotted(path), message)
        if not any(old.is_about(new) for old in self.problems):
            self.problems.append(new)

    def is_wrong(self, path: KeyPath) -> bool:
        """Tell whether a mistake is known of what is at *path*, or in it."""
        key = dotted(path)
        return any(f"{problem.key}.".startswith(f"{key}.") for problem in self.problems)

    def paths(self, *kinds: Kind) -> Iterator[KeyPath]:
        """Iterate over the paths of the stages of *kinds*."""
        for kind in kinds:
            for index in range(len(self.values.get(kind, ()))):
                yield (kind, index)


def merge(layers: Sequence[Layer]) -> Merged:
    """
    Lay *layers* over one another, weakest first.

    The stages of a kind are those of the strongest layer that lists any.  An
    option of the whole pipeline covers the stages' own options of weaker
    layers, not those of its own.
    """
    merged = Merged()
    owners = {kind: _place_stages(merged, kind, layers) for kind in KINDS}
    merged.values |= {table: {} for table in TABLES}
    for layer in layers:
        merged.problems += layer.problems
        for name, setting in layer.settings.items():
            merged.put((name,), *setting)
            for path in merged.paths(*SPREAD.get(name, ())):
                merged.put((*path, name), *setting)
        for assignment in layer.assignments:
            listed = assignment.kind in layer.stages
            if not listed or owners[assignment.kind] is layer:
                _assign(merged, assignment)
        for path, setting in layer.entries:
            _put_below(merged, path[:1], path[1:], setting)
    return merged


def _place_stages(merged: Merged, kind: Kind, layers: Sequence[Layer]) -> Layer | None:
    merged.values[kind] = []
    for layer in reversed(layers):
        if origins := layer.stages.get(kind):
            for index, origin in enumerate(origins):
                merged.put((kind, index), {}, origin)
            return layer
    if kind == "backend":
        merged.put((kind, 0), {"use": "stdout"}, DEFAULT)
    return None


def _assign(merged: Merged, assignment: Assignment) -> None:
    kind, option = assignment.kind, assignment.option
    number = 1 if assignment.number is None else assignment.number
    count = len(merged.values[kind])
    if assignment.number is None and count > 1:
        example = f"{kind}.1.{option} to {kind}.{count}.{option}"
        message = f"there are {count} {kind}s; say which one: {example}"
    elif not 1 <= number <= count:
        message = f"there is no {kind}.{number}; there are {count}"
    else:
        keys = (option, *assignment.inner)
        _put_below(merged, (kind, number - 1), keys, assignment.setting)
        return
    origin = assignment.setting.origin
    merged.problems.append(Problem(origin, f"{kind}.{number}.{option}", message))


def _put_below(merged: Merged, base: KeyPath, keys: KeyPath, setting: Setting) -> None:
    """Set what the *keys* lead to from the table at *base*, and make the tables between."""
    value, origin = setting
    path, holder = base, merged.at(base)
    for step in keys[:-1]:
        path = (*path, step)
        if step not in holder:
            merged.put(path, {}, origin)
        elif isinstance(holder[step], dict):
            holder[step] = dict(holder[step])
        else:
            message = f"{step} ({merged.origin(path)}) is no table; give it as one, in braces"
            merged.complain((*base, *keys), message, origin)
            return
        holder = holder[step]
    merged.put((*path, keys[-1]), value, origin)
