"""The battery for backends."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import SkipTest

from m3.engine.delivery import can_go_back, commits, is_idempotent, is_transactional
from m3.errors import StateError
from m3.pipeline import Pipeline
from m3.policies import Batch
from m3.stages import Backend
from m3.testing._around import around, nothing
from m3.testing._battery import Battery
from m3.testing._checks import differ, not_given, same
from m3.testing._driving import commit, give, writing
from m3.testing._killing import Tell, spread, with_points
from m3.testing._pacing import GROUP, Paced
from m3.testing._scenarios import check_nothing_is_left
from m3.testing.memory import MemorySource

__all__ = ("BackendBattery",)

PLACES = 4
"""In so many places, spread over a run, a test ends it."""


class BackendBattery(Battery):
    """
    Tests that a backend does what the engine relies on.

    Derive a class whose name begins with ``Test``, and define :meth:`make` and
    :meth:`read_back`; with the further methods, more is tested.  What the
    backend does not claim to do (to commit, to go back) is skipped.
    """

    keeps_order = True
    """Whether what is read back is in the order in which it was written."""

    is_whole = False
    """
    Whether, without state, its output appears as a whole when a run has ended well.

    When the run fails, the files in ``folder`` are those that were there before.
    """

    # -- what is tested

    def make(self) -> Backend[Any]:
        """Return a new backend, which writes to the sink that :meth:`prepare` has made."""
        raise NotImplementedError

    def read_back(self) -> list[Any]:
        """Return what somebody else who looks finds in the sink, as :meth:`items` has it."""
        not_given("read_back")

    def items(self) -> list[Any]:
        """Return the items to write: some ten, all different."""
        return [f"item {number}" for number in range(10)]

    def unwritable(self) -> Any:
        """Return an item that the backend has to refuse."""
        not_given("unwritable")

    def change_output(self) -> None:
        """Change the sink, so that what was committed is not there any more."""
        not_given("change_output")

    # -- items

    def test_what_was_delivered_is_there(self) -> None:
        """After a run that has ended well, all its items are in the sink, each once."""
        Pipeline(self.items()).backend(self.make()).run()
        self._check(self.items(), "a run of all the items")

    def test_no_items_are_no_trouble(self) -> None:
        """A run without items works, and leaves the sink empty."""
        Pipeline([]).backend(self.make()).run()
        self._check([], "a run without items")

    def test_no_batch_is_empty(self) -> None:
        """What takes batches gets none without items, without state and with it."""
        sizes: list[int] = []
        for keeps_state in (False, can_go_back(self.make())):
            self.start_over()
            options = self._with_state() if keeps_state else {}
            backend = self.make()
            if not _takes_batches(backend):
                raise SkipTest("the backend takes no batches")
            method = around(backend.process_batch, lambda batch: sizes.append(len(batch)))  # type: ignore[attr-defined]
            backend.process_batch = method  # type: ignore[attr-defined]
            source = MemorySource(self.items())
            Pipeline(source, **options).backend(backend).run()
        same(min(sizes) > 0, True, "that all batches have items")

    def test_an_item_that_cannot_be_written_fails_alone(self) -> None:
        """It is refused, and the others of its batch are in the sink."""
        bad, items = self.unwritable(), self.items()
        backend = self.make()
        options: dict[str, Any] = {"on_error": "skip"}
        if _takes_batches(backend):
            options["batch"] = Batch(count=len(items) + 1, period=3600.0)
        middle = len(items) // 2
        pipeline = Pipeline([*items[:middle], bad, *items[middle:]])
        report = pipeline.backend(backend, **options).run()
        self._check(items, "a run with one item that cannot be written")
        same(report.delivered, len(items), "the number of items delivered")

    # -- committing and going back

    def test_what_was_committed_is_there(self) -> None:
        """What was processed before a ``commit`` is in the sink when that returns."""
        self._committing()
        items = self.items()
        with writing(backend := self.make()):
            for number, item in enumerate(items, 1):
                give(backend, [item])
                commit(backend, number)
                self._check(items[:number], f"after commit number {number}")

    def test_a_commit_may_be_repeated(self) -> None:
        """Of two commits with nothing in between, the second changes nothing."""
        self._committing()
        items = self.items()
        middle = len(items) // 2
        with writing(backend := self.make(), failed=True):
            commit(backend, 1)
            give(backend, items[:middle])
            commit(backend, 2)
            mark = commit(backend, 3)
            self._check(items[:middle], "after two commits")
            give(backend, items[middle:])
        if can_go_back(backend):
            with writing(backend := self.make(), mark):
                self._check(items[:middle], "back at the second of two commits")

    def test_it_goes_back_to_what_was_committed(self) -> None:
        """From a commit's mark on, written down and read back, what came after it is undone."""
        for number in range(len(self.items()) + 1):
            self._go_back(number, commits_more=False)

    def test_it_goes_back_behind_a_later_commit(self) -> None:
        """A commit whose checkpoint was not written any more is undone as well."""
        if is_transactional(self._going_back()):
            raise SkipTest("the backend has the checkpoint itself")
        for number in range(len(self.items()) + 1):
            self._go_back(number, commits_more=True)

    def test_without_a_mark_it_begins_anew(self) -> None:
        """``resume(None)`` on an empty sink is a beginning."""
        self._going_back()
        with writing(backend := self.make()):
            self._check([], "after resume(None)")
            give(backend, self.items())
            commit(backend, 1)
        self._check(self.items(), "after resume(None) and all the items")

    def test_a_changed_sink_is_refused(self) -> None:
        """If what was committed is not there any more, ``resume`` raises ``StateError``."""
        if is_transactional(self._going_back()):
            raise SkipTest("the engine compares its checkpoint with that of the state")
        with writing(backend := self.make()):
            give(backend, self.items())
            mark = commit(backend, 1)
        self.change_output()
        try:
            with writing(self.make(), mark):
                pass
        except StateError as error:
            same(bool(str(error)), True, "that the StateError says what is wrong")
        else:
            raise AssertionError("the sink was changed, and the backend went on")

    # -- runs that end before their time

    def test_a_failed_run_leaves_nothing_half(self) -> None:
        """After ``cleanup`` with ``failed``, there are whole items, or nothing if ``is_whole``."""
        items = self.items()
        for ending in ("abandon", "fail"):
            for number in spread(len(items), PLACES):
                self.start_over()
                before = self._files()
                self._run_to(ending, items, self.make(), at=number)
                what = f"a run that ended by {ending!r} at item {number}"
                if self.is_whole:
                    same(self._files(), before, f"the files after {what}")
                else:
                    found = self.read_back()
                    self._check([item for item in items if item in found], what)

    def test_a_stopped_run_has_what_it_delivered(self) -> None:
        """After a stop, what was produced before it is in the sink."""
        items = self.items()
        for number in spread(len(items), PLACES):
            self.start_over()
            report = self._run_to("stop", items, self.make(), at=number)
            self._check(items[: report.delivered], f"a run that was stopped at item {number}")

    def test_a_finished_run_is_gone_on_with_by_doing_nothing(self) -> None:
        """A further run with the same state, and nothing new, leaves the sink as it is."""
        self._lasting()
        for _ in range(3):
            self._live(nothing, nothing)
            self._check(self.items(), "runs that go on and have nothing to do")

    def test_a_run_that_ends_early_is_gone_on_with(self) -> None:
        """Stopped, given up or failed anywhere: in the end all items are there, at best once."""
        exactly = self._lasting()
        for ending in ("stop", "abandon", "fail"):
            for number in spread(len(self.items()), PLACES):
                self.start_over()
                source = self._source(nothing)
                self._run_to(ending, source, self.make(), at=number, **self._with_state())
                self._live(nothing, nothing)
                what = f"after a run that ended by {ending!r} at item {number}"
                self._check_delivered(self._wanted(), what, exactly=exactly)

    def test_a_killed_run_is_gone_on_with(self) -> None:
        """Killed before or after any call of the backend: the same holds."""
        self._kill_everywhere(self._wanted(), exactly=self._lasting(killed=True))

    def test_a_run_that_goes_on_may_be_killed_as_well(self) -> None:
        """Killed a second time while it goes on, also while it goes back: the same holds."""
        self._kill_twice(self._wanted(), exactly=self._lasting(killed=True))

    # -- the end

    def test_nothing_is_left(self) -> None:
        """However a run ends, cleanup works, and no thread and no descriptor is left."""

        def scenario(ending: str) -> None:
            self.start_over()
            self._run_to(ending, self.items(), self.make(), at=len(self.items()) // 2)
            self.exit_stack.close()

        check_nothing_is_left(scenario)

    # -- how

    def _committing(self) -> None:
        backend = self.make()
        if not commits(backend):
            raise SkipTest("the backend has no commit")
        if self.is_whole and not can_go_back(backend):
            raise SkipTest("the output appears at the end")

    def _going_back(self) -> Backend[Any]:
        backend = self.make()
        if not can_go_back(backend):
            raise SkipTest("the backend does not go back")
        return backend

    def _lasting(self, *, killed: bool = False) -> bool:
        """Return whether the effect is exact, and not only at least once, over several runs."""
        backend = self.make()
        goes_back = can_go_back(backend)
        if killed and not self.outlives_the_process:
            raise SkipTest("the sink ends with the process")
        if self.is_whole and not goes_back:
            raise SkipTest("the output appears at the end, and cannot be gone on with")
        return goes_back or is_idempotent(backend)

    def _go_back(self, number: int, *, commits_more: bool) -> None:
        """Commit *number* items, write the others, go back, and write those again."""
        self._going_back()
        self.start_over()
        items = self.items()
        with writing(backend := self.make(), failed=True):
            give(backend, items[:number])
            mark = commit(backend, 1)
            give(backend, items[number:])
            if commits_more:
                commit(backend, 2)
        with writing(backend := self.make(), mark):
            self._check(items[:number], f"back at the commit of {number} items")
            give(backend, items[number:])
            commit(backend, 2)
        self._check(items, f"gone on behind the commit of {number} items")

    def _source(self, tell: Tell) -> Paced:
        return Paced(MemorySource(self.items()), acked=lambda item: tell(repr(item)))

    def _live(self, point: Callable[[str], object], tell: Tell) -> None:
        backend = with_points(self.make(), point)
        options = {"batch": Batch(count=GROUP)} if _takes_batches(backend) else {}
        pipeline = Pipeline(self._source(tell), **self._with_state())
        pipeline.backend(backend, name="sink", **options).run()

    def _delivered(self) -> list[str]:
        return self._in_order(map(repr, self.read_back()))

    def _wanted(self) -> list[str]:
        return self._in_order(map(repr, self.items()))

    def _in_order(self, texts: Iterable[str]) -> list[str]:
        return list(texts) if self.keeps_order else sorted(texts)

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if not path.is_dir())

    def _check(self, wanted: list[Any], what: str) -> None:
        differ(self.read_back(), wanted, what, in_order=self.keeps_order)


def _takes_batches(backend: Any) -> bool:
    return callable(getattr(backend, "process_batch", None))
