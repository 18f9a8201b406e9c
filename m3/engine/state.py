"""
Where a run has got to, kept so that the next run goes on from there.

A state is a folder with ``state.db`` and ``lock``.  It is never begun anew
without a word: if anything of it is missing, damaged or older than it should
be, it is refused.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from m3._durable import sync
from m3._plain import dumps, loads
from m3.engine.last_out import LastOut
from m3.engine.state_lock import UNMADE, LastNumber, StateLock, user_of
from m3.errors import NotPlainError, StateError

if TYPE_CHECKING:
    from m3.engine.plan import Plan
    from m3.engine.state_db import StateDatabase

__all__ = (
    "DATABASE",
    "LETTERS",
    "Checkpoint",
    "StateStore",
    "StateView",
    "ends_of",
    "look_at",
    "reset",
)

SCHEMA = 2
"""Of the checkpoints; those of 1 do not say which stages there are."""

DATABASE = "state.db"
LOCK = "lock"

LETTERS = "dead letters"
"""Among the marks of the sinks, that of the dead letters."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """
    Where a run has got to.

    Attributes:
        number: 0 when nothing was done yet; each one that is written has a higher one.
        sources: by shard, ``"<stage>/<worker>"``: what ``Frontend.checkpoint``
            has returned; None at the beginning.
        sinks: by ``"<stage>/<worker>"``: what ``Backend.commit`` has returned.
        counts: what became of the items that have ended, over all runs, and as
            ``"produced"`` how many those are; for people.  What was under way when
            a run died is not in it before it has come again and ended.
        finished: whether the input had ended and all was done.
        stages: the names of all ``"frontends"`` and ``"backends"``, also of those that
            keep no mark; None if it was written by an m3 that did not keep them.
    """

    number: int = 0
    sources: dict[str, Any] = field(default_factory=dict)
    sinks: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    finished: bool = False
    stages: dict[str, list[str]] | None = None

    def check_parts(
        self, *, sources: set[str], sinks: set[str], stages: dict[str, list[str]]
    ) -> None:
        """
        Refuse to be gone on from by other shards, or other *stages*, than there were.

        Raises:
            StateError: says which there were, and which there are.
        """
        numbered = " (each with the number of its worker)"
        for what, kept, there, how in (
            ("frontends", set(self.sources), sources, numbered),
            ("backends", set(self.sinks) - {LETTERS}, sinks, numbered),
            *((what, set(it), set(stages[what]), "") for what, it in (self.stages or {}).items()),
        ):
            if kept != there:
                raise StateError(
                    f"the state is of a pipeline with the {what} {_listed(kept)}{how}, and this "
                    f"one has {_listed(there)}; use another folder for it, or begin at the start "
                    "with --from-start"
                )

    def to_text(self) -> str:
        """
        Return it as one line of ASCII, with a checksum over all of it.

        Raises:
            NotPlainError: a mark cannot be written down; it says whose.
        """
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        try:
            return _sealed({"schema": SCHEMA, **fields})
        except NotPlainError:
            for stage, mark in (*self.sources.items(), *self.sinks.items()):
                _check_plain(stage, mark)
            raise

    @classmethod
    def from_text(cls, text: str) -> "Checkpoint":
        """
        Return what :meth:`to_text` has written.

        Raises:
            StateError: *text* is damaged, or of a newer m3.
        """
        try:
            return _read_back(text)
        except ValueError as error:
            raise StateError(f"the checkpoint cannot be gone on from: {error}") from error


@dataclass(frozen=True, slots=True)
class StateView:
    """
    A state, looked at from outside.

    Attributes:
        key: of the state.
        name: of its pipeline.
        created: when the state was made, in ISO 8601, UTC.
        written: when its last checkpoint was written, likewise.
        checkpoint: the last one.
        crashes: what a run with ``crash_guard`` has noted, as of
            :class:`~m3.engine.crash_record.CrashRecord`; None if there was none.
        user: the number of the process that uses it now, or "".
    """

    key: str
    name: str
    created: str
    written: str
    checkpoint: Checkpoint
    crashes: dict[str, Any] | None = None
    user: str = ""


class StateStore:
    """
    The checkpoints of a pipeline; each is durable when it is written.

    One run at a time can use the folder, and it can as soon as the process of
    the one before has ended.  In the child of a fork the store is closed.

    Args:
        folder: made, for its owner alone, if it is missing.
        name: of the pipeline; a state of another one is refused.

    Attributes:
        key: made with the state and different from that of every other; under
            it, and the name of each, transactional sinks keep their checkpoint.
        checkpoint: the last one that was written.
        crashes: what was last noted of crashes; None if nothing ever was.
        is_new: whether the state was made just now.

    Raises:
        StateError: the state is damaged, in use, of another pipeline or of a
            newer m3, or there is no access to it.
    """

    key: str
    checkpoint: Checkpoint
    crashes: dict[str, Any] | None
    is_new: bool
    _database: "StateDatabase"

    def __init__(self, folder: str | os.PathLike[str], *, name: str = "pipeline") -> None:
        self.folder = Path(folder)
        self._path = self.folder / DATABASE
        self._access = LastOut(self._close)
        try:
            _make(self.folder)
            self._lock = StateLock(self.folder / LOCK)
        except OSError as error:
            raise _no_access(self.folder, error) from error
        try:
            self._open(name)
        except OSError as error:
            self._lock.close()
            raise _no_access(self.folder, error) from error
        except BaseException:
            self._lock.close()
            raise

    def latest(self, committed: Sequence[Checkpoint]) -> Checkpoint:
        """
        Return the last checkpoint, which may be one that transactional sinks were faster with.

        Args:
            committed: what those have committed.

        Raises:
            StateError: one of them has lost some.
        """
        latest = min(committed, key=lambda it: it.number, default=self.checkpoint)
        if latest.number < self.checkpoint.number:
            raise StateError(
                f"the state is at checkpoint {self.checkpoint.number}, the data of the backend "
                f"at {latest.number}: they were replaced or restored; restore both, or begin at "
                "the start with --from-start and empty data"
            )
        is_own = latest.number == self.checkpoint.number  # and may have been amended
        return self.checkpoint if is_own else latest

    def write(self, checkpoint: Checkpoint, crashes: dict[str, Any] | None = None) -> None:
        """
        Keep *checkpoint*, and *crashes* together with it; block until they are on the disk.

        Any thread may call it, one after the other.

        Raises:
            StateError: it was not written, and the one before it stays.
            NotPlainError: a mark in it cannot be written down.
        """
        with self._in_use():
            if checkpoint.number <= self.checkpoint.number:
                raise StateError(f"checkpoint {checkpoint.number} after {self.checkpoint.number}")
            kept = None if crashes is None else _sealed(crashes)
            self._database.write(checkpoint.to_text(), kept)
            self.checkpoint = checkpoint
            try:
                self._lock.note(LastNumber(self.key, checkpoint.number))
            except OSError as error:
                raise _no_access(self.folder, error) from error

    def amend(self, sinks: dict[str, Any]) -> None:
        """
        Write other marks of *sinks* into the last checkpoint; block until they are on the disk.

        Raises:
            StateError: they were not written.
            NotPlainError: one of them cannot be written down.
        """
        with self._in_use():
            amended = dataclasses.replace(self.checkpoint, sinks={**self.checkpoint.sinks, **sinks})
            self._database.write(amended.to_text())
            self.checkpoint = amended

    def write_crashes(self, crashes: dict[str, Any]) -> None:
        """
        Keep what was noted of crashes; block until it is on the disk.

        Raises:
            StateError: it was not written.
        """
        with self._in_use():
            self._database.write(crashes=_sealed(crashes))

    def close(self, seconds: float | None = None) -> None:
        """
        Let another run use the state; nothing is done the second time.

        Args:
            seconds: about so long a write that is under way is waited for; by default, until it
                is over.

        Raises:
            StateError: it is still under way, and the state stays in use until it is over.
        """
        if not self._access.close(seconds):
            raise StateError(
                f"{self.folder}: a checkpoint was still being written when the run was given up; "
                "the state is in use until that is over"
            )

    def _close(self) -> None:
        if self._lock.is_held:
            self._database.close()
            self._lock.close()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep the state from being closed meanwhile; refuse if it is."""
        with self._access.use():
            if self._access.is_closed or not self._lock.is_held:
                raise StateError(f"{self.folder} is closed, or was opened before a fork")
            yield

    def _open(self, name: str) -> None:
        from m3.engine.state_db import StateDatabase

        self._begin()
        last = _last_of(self._lock.last, self.folder)
        self.is_new = last is None or last.number == UNMADE
        if self.is_new and not self._path.exists():
            last = self._create(name)
        view = _whole(self.folder, last)
        if view.name != name:
            raise StateError(
                f"{self.folder} is the state of the pipeline {view.name!r}, not of {name!r}; "
                "use another folder for the state"
            )
        self.key, self.checkpoint, self.crashes = view.key, view.checkpoint, view.crashes
        self._lock.note(LastNumber(self.key, self.checkpoint.number), durably=True)
        self._database = StateDatabase(self._path)

    def _begin(self) -> None:
        if not self._lock.is_own():
            if self._path.exists():
                raise _refused(self.folder, LOCK, "it is damaged")
            foreign = f"{self._lock.path} is not of m3; use another folder for the state"
            raise StateError(foreign)
        self._lock.enter()

    def _create(self, name: str) -> LastNumber:
        from m3.engine.state_db import create_database, files_of, now

        for stray in files_of(self._path):
            raise _refused(self.folder, DATABASE, f"it is missing, but {stray.name} is there")
        last = LastNumber(str(uuid4()), UNMADE)
        self._lock.note(last, durably=True)
        about = {"schema": SCHEMA, "key": last.key, "name": name, "created": now()}
        create_database(self._path, _sealed(about), Checkpoint().to_text())
        return last


def ends_of(plan: "Plan") -> dict[str, list[str]]:
    """Return the names of the stages of *plan* that have to stay the ones of its state."""
    kinds = {"frontends": plan.frontends, "backends": plan.backends}
    return {kind: sorted(spec.name for spec in specs) for kind, specs in kinds.items()}


def look_at(folder: str | os.PathLike[str]) -> StateView:
    """
    Return what is in the state of *folder*, also while a run uses it.

    Raises:
        StateError: there is no state, or it is damaged.
    """
    place = Path(folder)
    database = place / DATABASE
    try:
        was_there = database.exists()  # before the lock is read: the lock tells of it first
        user, last = _last_of(lambda: user_of(place / LOCK), place)
        is_made = last is not None and last.number != UNMADE
        if not is_made and not (was_there and database.exists()):
            raise StateError(f"there is no state in {place}")
        return _whole(place, last, user)
    except OSError as error:
        raise _no_access(place, error) from error


def reset(folder: str | os.PathLike[str]) -> list[Path]:
    """
    Remove the state from *folder*; the next run begins at the start.

    Returns:
        the files that were removed; none if there was no state.

    Raises:
        StateError: a run uses it, or there is no access to it.
    """
    place = Path(folder)
    try:
        if not place.exists():
            return []
        had_lock = (place / LOCK).exists()
        lock = StateLock(place / LOCK)
        try:
            files = _remove(place, lock)
        finally:
            lock.close()
    except OSError as error:
        raise _no_access(place, error) from error
    return [*files, place / LOCK] if had_lock else files


def _remove(folder: Path, lock: StateLock) -> list[Path]:
    from m3.engine.state_db import files_of

    files = [*files_of(folder / DATABASE), *files_of(folder / (DATABASE + ".new"))]
    if not files and not lock.is_own():
        raise StateError(f"{folder / LOCK} is not of m3, and there is no state beside it")
    for file in files:
        file.unlink()
    lock.remove()
    return files


def _whole(folder: Path, last: LastNumber | None, user: str = "") -> StateView:
    """Return what is in the state, if it is all that was ever written."""
    from m3.engine.state_db import Damaged, read_database

    try:
        kept = read_database(folder / DATABASE)
        about, checkpoint = _unsealed(kept.about), _read_back(kept.checkpoint)
        crashes = None if kept.crashes is None else _unsealed(kept.crashes)
    except (Damaged, ValueError) as damage:
        raise _refused(folder, DATABASE, damage) from damage
    if last is None:
        raise _refused(folder, LOCK, "it was removed, or emptied")
    if last.key != about["key"]:
        raise _refused(folder, DATABASE, f"it is another one than that of {LOCK}")
    if last.number > checkpoint.number:
        lost = f"it ends at checkpoint {checkpoint.number}, but {last.number} was written"
        raise _refused(folder, DATABASE, lost)
    return StateView(
        key=about["key"],
        name=about["name"],
        created=about["created"],
        written=kept.written,
        checkpoint=checkpoint,
        crashes=crashes,
        user=user,
    )


def _read_back(text: str) -> Checkpoint:
    """Return what ``to_text`` has written, or raise :exc:`ValueError`."""
    fields = _unsealed(text)
    try:
        schema = fields.pop("schema")
        if 1 <= schema <= SCHEMA:
            return Checkpoint(**fields)
        is_newer = schema > SCHEMA
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"it is damaged: {error}") from error
    raise ValueError("it was written by a newer m3" if is_newer else "it is damaged")


def _check_plain(stage: str, mark: Any) -> None:
    try:
        dumps(mark)
    except NotPlainError as error:
        raise NotPlainError(f"the mark of {stage!r} in a checkpoint: {error}") from error


def _sealed(value: dict[str, Any]) -> str:
    body = dumps(value)
    return f"{_checksum(body)} {body}"


def _unsealed(text: str) -> Any:
    body = text.partition(" ")[2]
    if text != f"{_checksum(body)} {body}":
        raise ValueError("it is damaged: its checksum is wrong")
    return loads(body)


def _listed(keys: set[str]) -> str:
    return ", ".join(sorted(keys)) or "none"


def _checksum(body: str) -> str:
    return hashlib.blake2b(body.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _last_of(read: Callable[[], T], folder: Path) -> T:
    try:
        return read()
    except ValueError as error:
        raise _refused(folder, LOCK, error) from error


def _make(folder: Path) -> None:
    """Make the folder, if it is missing."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync(folder.parent)


def _no_access(folder: Path, error: OSError) -> StateError:
    where = error.filename or folder
    return StateError(f"{where}: the state cannot be used: {error.strerror or error}")


def _refused(folder: Path, name: str, why: object) -> StateError:
    return StateError(
        f"the state cannot be gone on from: {folder / name}: {why}. Restore the whole folder, or "
        f"begin at the start with --from-start or after 'm3 state reset {folder}': what was "
        "delivered already will be delivered again"
    )
