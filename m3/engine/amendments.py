"""The state of a run, in a redrive of its dead letters: what they become is in its sinks, too."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from m3.engine.delivery import commits, is_transactional
from m3.engine.plan import Plan
from m3.engine.state import DATABASE, LETTERS, Checkpoint, StateStore
from m3.errors import StateError

if TYPE_CHECKING:
    from m3.engine.letters import DeadLetters

__all__ = ("Amendments", "state_in_turn", "store_of")


class Amendments:
    """
    What the checkpoints of a redrive are written to: the marks of the last one of a run.

    The sinks go on where that has left them, and where the redrive leaves them the next run
    goes on; else that would take what was redriven for what comes again, and undo it.

    Args:
        state: of the run.
        backends: the names of those that get letters.

    Attributes:
        key: as of :class:`~m3.engine.state.StateStore`, and another one: what transactional
            sinks have under that of the run says where the run is, and the redrive is elsewhere.
    """

    crashes = None

    def __init__(self, state: StateStore, backends: Collection[str]) -> None:
        self.key = f"{state.key}/redrive"
        self._state = state
        self._backends = backends

    def latest(self, committed: Sequence[Checkpoint]) -> Checkpoint:
        """Return where the sinks stand; what a redrive before has *committed* is of no matter."""
        del committed
        last = self._state.checkpoint
        sinks = {
            key: mark
            for key, mark in last.sinks.items()
            if key.rpartition("/")[0] in self._backends
        }
        return Checkpoint(number=last.number, sinks=sinks)

    def write(self, checkpoint: Checkpoint) -> None:
        """
        Keep the marks of the sinks; block until they are on the disk.

        Raises:
            StateError: they were not written.
        """
        marks = {key: mark for key, mark in checkpoint.sinks.items() if key != LETTERS}
        self._state.amend(marks)

    def close(self, seconds: float | None = None) -> None:
        """Do nothing: the state is open for as long as the redrive lasts."""


def store_of(plan: Plan) -> StateStore | Amendments | None:
    """Return where the checkpoints of a run, or of a redrive, are written; None if nowhere."""
    if isinstance(plan.state, str | os.PathLike):
        return StateStore(plan.state, name=plan.name)
    return plan.state


@contextmanager
def state_in_turn(plan: Plan, letters: "DeadLetters") -> Iterator[StateStore | None]:
    """
    Have the state of *plan*, or of the run that *letters* are of, and keep runs out.

    None if there is none.  What became a letter since the last checkpoint is removed, for its
    item comes again.

    Raises:
        StateError: a run uses the state, or has to be gone on with first, or it is damaged, or
            there are several.
    """
    folder = _folder_of(plan, letters)
    if folder is None:
        yield None
        return
    with closing(StateStore(folder, name=plan.name)) as state:
        last = state.checkpoint
        if not last.finished:
            _check_certain(plan, state)
        letters.resume(last.sinks.get(LETTERS))
        yield state if last.number else None


def _folder_of(plan: Plan, letters: "DeadLetters") -> Path | None:
    is_given = isinstance(plan.state, str | os.PathLike)
    folders = [str(plan.state)] if is_given else sorted(letters.states())
    found = [folder for folder in folders if (Path(folder) / DATABASE).exists()]
    if len(found) > 1:
        raise StateError(
            "the letters are of runs with several states, and what they become belongs into the "
            f"sinks of one: give state={' or state='.join(found)}, and select its letters"
        )
    return Path(found[0]) if found else None


def _check_certain(plan: Plan, state: StateStore) -> None:
    """Refuse a state that may be behind what a sink has committed, with the marks of others."""
    kinds = {is_transactional(each.target) for each in plan.backends if commits(each.target)}
    if len(kinds) > 1:
        raise StateError(
            f"{state.folder}: the last run has not come to the end of its input. If it was "
            "killed, only the next one can tell where its backends stand: go on with it first"
        )
