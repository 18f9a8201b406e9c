"""
Dead letters sent through their pipeline again.

Each letter enters at the stage where it failed.  Letters that enter at the
same place are the items of one run, a *round*, of the rest of the pipeline.  A
letter leaves its store when everything made from it was delivered, or dropped
on purpose; until then it stays there, so that it is redriven twice rather than
lost if the process dies.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from m3._types import DROP, Item
from m3.engine.amendments import Amendments, state_in_turn
from m3.engine.dead_letter import DeadLetter, Selection, letter_of, rows_of
from m3.engine.engine import Engine
from m3.engine.letters import DeadLetters
from m3.engine.plan import Plan, StageSpec
from m3.engine.report import Report
from m3.engine.runtime import Runtime
from m3.engine.state import StateStore
from m3.errors import PlanError, StageError
from m3.policies import ErrorPolicy, Retry
from m3.registry import options_of
from m3.stages import Frontend

__all__ = ("Redriven", "Round", "redrive", "rounds", "state_in_turn")

T = TypeVar("T")

PERIOD = 0.5
"""Seconds between two writes of what has become of the letters, or ten times what one takes."""


@dataclass(slots=True)
class Redriven:
    """
    What became of the letters of a redrive.

    Attributes:
        gone: how many were delivered, or dropped on purpose; they left the store.
        failed: how many failed again, and stay with their new error.
        left: how many stay as they were, because the run ended before.
        not_plain: how many were not tried, because they are kept as text only.
        reports: of the runs, one for each place of entry.
    """

    gone: int = 0
    failed: int = 0
    left: int = 0
    not_plain: int = 0
    reports: list[Report] = field(default_factory=list)

    @property
    def remaining(self) -> int:
        """How many of them are still in the store."""
        return self.failed + self.left + self.not_plain


def redrive(
    plan: Plan,
    letters: DeadLetters,
    *,
    only: str | None = None,
    stage: str | None = None,
    ids: Collection[int] | None = None,
    to: str | None = None,
    runtime: Runtime | None = None,
) -> Redriven:
    """
    Send *letters* through their pipeline again; block until they have ended.

    Args:
        plan: the pipeline; its frontends are not used.  If it has a state, the sinks go on where
            the last run has left them, and the next run where this leaves them.
        letters: the store; letters that fail again stay in it, and no other is written to.
        only: those with this type of error, with or without its module.
        stage: those that failed at this stage.
        ids: those with these numbers.
        to: the stage at which they enter, instead of that where each failed.
        runtime: of the engines.

    Raises:
        PlanError: the pipeline has no stage of a name that was given, or at which a letter
            failed; nothing was run.
        StateError: another process redrives letters of the store, or a run uses the state.
        DeadLetterError: the store cannot be written.
        StageError: as of :meth:`m3.Engine.start`; what was delivered has left the store.
    """
    outcome = Redriven()
    selection = Selection(only=only, stage=stage, ids=ids)
    with letters.redriving(), state_in_turn(plan, letters) as state:
        for each in rounds(plan, letters, selection, outcome, to=to, state=state, runtime=runtime):
            each.run(Engine.start)
    return outcome


def rounds(
    plan: Plan,
    letters: DeadLetters,
    selection: Selection,
    outcome: Redriven,
    *,
    to: str | None = None,
    state: StateStore | None = None,
    runtime: Runtime | None = None,
) -> "list[Round]":
    """
    Return the runs that :func:`redrive` makes, in the order of the pipeline.

    Counted into *outcome* is what becomes of the letters when they run; where they leave the
    sinks is written into *state*.
    """
    entries: dict[Entry, set[int]] = {}
    for letter in letters.select(selection):
        if letter.is_plain:
            entries.setdefault(entry_of(plan, letter, to), set()).add(letter.id)
        else:
            outcome.not_plain += 1
    if not entries and not outcome.not_plain:
        check_names(plan, stage=selection.stage, to=to)
    outcome.left = sum(map(len, entries.values()))
    return [
        Round(rest_of(plan, entry, state), letters, entries[entry], outcome, runtime or Runtime())
        for entry in sorted(entries, key=lambda entry: (entry.first, entry.backends))
    ]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where letters enter: the number of the first transport, and those of the backends."""

    first: int
    backends: tuple[int, ...]


def entry_of(plan: Plan, letter: DeadLetter, to: str | None) -> Entry:
    """
    Return where *letter* enters *plan*.

    One that failed at a backend goes to that backend only: the others have had it.

    Raises:
        PlanError: there is no such stage.
    """
    transports = [spec.name for spec in plan.transports]
    backends = [spec.name for spec in plan.backends]
    stage = to or letter.stage
    every = tuple(range(len(backends)))
    if letter.kind == "backend" and letter.stage in backends:
        every = (backends.index(letter.stage),)
    if stage in transports:
        return Entry(transports.index(stage), every)
    if stage in backends:
        return Entry(len(transports), (backends.index(stage),))
    if to is None and letter.kind == "frontend":
        return Entry(0, every)
    raise _no_stage(plan, f"letter {letter.id} failed at" if to is None else "--to:", stage)


def check_names(plan: Plan, *, stage: str | None, to: str | None) -> None:
    """
    Look whether there is no letter to redrive because a name was mistaken.

    Raises:
        PlanError: no letter failed at *stage*, and *plan* has no such stage either; or
            nothing can enter at *to*.
    """
    if stage is not None and stage not in {spec.name for spec in plan}:
        raise _no_stage(plan, "no letter failed at", stage)
    if to is not None and to not in _places(plan):
        raise _no_stage(plan, "--to:", to)


def _places(plan: Plan) -> list[str]:
    """Return the names of the stages at which letters may enter."""
    return [spec.name for spec in (*plan.transports, *plan.backends)]


def _no_stage(plan: Plan, words: str, stage: str) -> PlanError:
    known = ", ".join(map(repr, _places(plan))) or "none to enter at"
    return PlanError(f"{words} stage {stage!r}: this pipeline has no such stage, but {known}")


def rest_of(plan: Plan, entry: Entry, state: StateStore | None = None) -> Plan:
    """Return *plan* from *entry* on, without a frontend; its items are letters that have failed."""
    transports = [_persistent(spec) for spec in plan.transports[entry.first :]]
    backends = [_persistent(plan.backends[number]) for number in entry.backends]
    # What ran in the thread of a stage before it has none now.
    first = transports or backends
    first[:1] = [replace(spec, workers=_workers(spec, state)) for spec in first[:1]]
    if state is None:
        backends = [_appending(spec) for spec in backends]
    return replace(
        plan,
        frontends=(),
        transports=tuple(transports),
        backends=tuple(backends),
        max_failures=None,
        state=None if state is None else Amendments(state, {spec.name for spec in backends}),
        crash_guard=None,
    )


def _workers(spec: StageSpec, state: StateStore | None) -> int:
    """Return how many workers a stage has that may have had those before it, which are left out."""
    marks = () if state is None else state.checkpoint.sinks
    return spec.workers or sum(key.rpartition("/")[0] == spec.name for key in marks) or 1


def _persistent(spec: StageSpec) -> StageSpec:
    """Return *spec* so that what fails there again stays a letter, however many do."""
    return replace(spec, on_error=_kept(spec.on_error), max_failures=None)


def _kept(policy: ErrorPolicy) -> ErrorPolicy:
    """Return *policy* with letters in place of items that are skipped."""
    if isinstance(policy, Retry):
        then = _kept(policy.then)
        assert not isinstance(then, Retry)
        return replace(policy, then=then)
    if callable(policy):
        return _Kept(policy)
    return "dead_letter" if policy == "skip" else policy


class _Kept:
    """The policy of a user, but that items it skips are letters."""

    def __init__(self, policy: Callable[[StageError], Any]) -> None:
        self._policy = policy

    def __call__(self, failure: StageError) -> Any:
        verdict = self._policy(failure)
        is_skip = verdict is None or (verdict is not DROP and verdict == "skip")
        return "dead_letter" if is_skip else verdict


def _appending(spec: StageSpec) -> StageSpec:
    """Return *spec* so that it adds to an earlier output, if it can and nothing else was said."""
    if _can_append(spec.target) and "append" not in spec.options:
        return replace(spec, options=spec.options | {"append": True})
    if _can_append(type(spec.target)) and not getattr(spec.target, "_append", True):
        raise PlanError(
            f"backend {spec.name!r} was made without append=True, so it would replace its output "
            "by the letters; give its class, or append=True"
        )
    return spec


def _can_append(target: Any) -> bool:
    return any(option.name == "append" for option in options_of(target))


class Round:
    """
    One run of a redrive, of letters that enter at the same place.

    Args:
        plan: the rest of the pipeline, without a frontend.
        letters: the store.
        numbers: of the letters in it.
        outcome: counts what becomes of them.
        runtime: of the engine.

    Attributes:
        engine: to be run, once.
    """

    def __init__(
        self,
        plan: Plan,
        letters: DeadLetters,
        numbers: Collection[int],
        outcome: Redriven,
        runtime: Runtime,
    ) -> None:
        is_whole = any(spec.options.get("append") is False for spec in plan.backends)
        self._returns = Returns(letters, outcome, runtime, at_end=is_whole)
        source = Source(letters, numbers, self._returns)
        spec = StageSpec("frontend", source, name=_unlike({spec.name for spec in plan}))
        whole = replace(plan, frontends=(spec,), dead_letters=self._returns)  # type: ignore[arg-type]
        self.engine = Engine(whole, runtime=runtime)
        self._outcome = outcome

    def run(self, start: Callable[[Engine], T]) -> T:
        """
        Run the engine by calling *start* with it, and note what became of the letters.

        Returns:
            what *start* returns, when the engine has ended.

        Raises:
            DeadLetterError: that cannot be written.
            Exception: what *start* raises.
        """
        try:
            return start(self.engine)
        finally:
            report = self.engine.report()
            self._outcome.reports.append(report)
            self._returns.end(failed=self.engine.has_failed())


def _unlike(taken: set[str]) -> str:
    name = "dead-letters"
    while name in taken:
        name += "-"
    return name


class Source(Frontend[Any]):
    """The letters as items; the position of each is its number."""

    def __init__(self, letters: DeadLetters, numbers: Collection[int], returns: "Returns") -> None:
        self._letters = letters
        self._numbers = numbers
        self._returns = returns

    def produce(self) -> Iterator[Item]:
        """Yield the items of the letters."""
        for letter in self._letters.select(Selection(ids=self._numbers)):
            yield Item(letter.item, letter.id)

    def ack(self, position: Any) -> None:
        """Take note that a letter has ended well, unless it was put back."""
        self._returns.answer(position, is_done=True)

    def nack(self, position: Any, error: Exception) -> None:
        """Take note that a letter stays; why is told by the engine."""
        del error
        self._returns.answer(position, is_done=False)


class Returns:
    """
    The store of a redrive's engine: letters that fail again go back into their own.

    Their positions are the numbers of the letters.  If several things made from
    one letter fail, the first takes its place and the others are new letters.

    Args:
        letters: the store that they came from.
        outcome: counts what becomes of them.
        runtime: has the clock.
        at_end: write nothing before the end of the run, and only if it ended well:
            the backend has delivered all or nothing then.
    """

    note = ""

    def __init__(
        self, letters: DeadLetters, outcome: Redriven, runtime: Runtime, *, at_end: bool
    ) -> None:
        self._letters = letters
        self._outcome = outcome
        self._clock = runtime.monotonic
        self._at_end = at_end
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._failed: dict[int, list[DeadLetter]] = {}
        self._settled: dict[int, list[DeadLetter]] = {}
        self._next_write = runtime.monotonic() + PERIOD
        self._is_writable = True

    # -- what the engine calls as of a store

    def put(
        self,
        failure: StageError,
        *,
        items: Sequence[tuple[Any, Any]],
        kind: str,
        pipeline: str,
        now: float,
    ) -> None:
        """Take note that *items* have failed, at the positions of their letters."""
        rows = rows_of(failure, items=items, kind=kind, pipeline=pipeline, now=now)
        for (_, number), row in zip(items, rows, strict=True):
            with self._lock:
                self._failed.setdefault(number, []).append(letter_of(0, row))

    def commit(self) -> None:
        """Do nothing: what failed is written when everything made from its letter has ended."""

    close = commit

    def hasten(self, seconds: float) -> None:
        """Do nothing, for the same reason."""

    def mark(self) -> Any:
        """Return nothing: a redrive keeps no state."""

    def resume(self, mark: Any) -> None:
        """Do nothing, for the same reason."""

    # -- what becomes of the letters

    def answer(self, number: int, *, is_done: bool) -> None:
        """Note that everything made from the letter *number* has ended."""
        with self._lock:
            failed = self._failed.pop(number, [])
            if failed or is_done:
                self._settled[number] = failed
        if not self._at_end and self._clock() >= self._next_write:
            self._write()

    def end(self, *, failed: bool) -> None:
        """Write what is left to write; the run has ended."""
        if failed and self._at_end:
            self._settled = {number: again for number, again in self._settled.items() if again}
        self._write()

    def _write(self) -> None:
        with self._turn:  # a run that was given up may still give answers when it has ended
            self._write_settled()

    def _write_settled(self) -> None:
        begin = self._clock()
        with self._lock:
            settled, self._settled = self._settled, {}
        if not settled or not self._is_writable:
            return
        changed = {number: failed for number, failed in settled.items() if failed}
        gone = settled.keys() - changed.keys()
        self._is_writable = False  # if this fails, the letters stay, and it is told once
        self._letters.settle(gone=gone, changed=[*self._merged(changed)])
        self._is_writable = True
        self._outcome.gone += len(gone)
        self._outcome.failed += len(changed)
        self._outcome.left -= len(settled)
        end = self._clock()
        self._next_write = end + max(PERIOD, 10 * (end - begin))

    def _merged(self, changed: dict[int, list[DeadLetter]]) -> Iterator[DeadLetter]:
        for old in self._letters.select(Selection(ids=changed.keys())):
            first, *others = changed[old.id]
            yield merged(old, first)
            for other in others:
                yield replace(merged(old, other), id=0)


def merged(old: DeadLetter, new: DeadLetter) -> DeadLetter:
    """
    Return *old* with the failure of *new*, which was made from it and may be further on.

    It enters there next time, unless it cannot, for it is not plain there.
    """
    kept = replace(
        new, id=old.id, position=old.position, pipeline=old.pipeline, first_failed=old.first_failed
    )
    if new.stage == old.stage:
        kept = replace(kept, attempts=old.attempts + new.attempts)
    elif new.is_plain:
        return kept
    return replace(
        kept, item=old.item, text=old.text, is_plain=True, stage=old.stage, kind=old.kind
    )
