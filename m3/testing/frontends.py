"""The battery for frontends."""

import threading
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import SkipTest

from m3._plain import dumps, loads
from m3.engine.delivery import is_told, resumes
from m3.errors import StateError
from m3.pipeline import Pipeline
from m3.stages import Frontend
from m3.testing._around import nothing
from m3.testing._battery import Battery
from m3.testing._checks import differ, not_given, same
from m3.testing._driving import each_of, reading
from m3.testing._journal import Journal, journal_in
from m3.testing._killing import Tell, spread, with_points
from m3.testing._pacing import Paced
from m3.testing._scenarios import check_nothing_is_left
from m3.testing.faults import Raises, faulty
from m3.testing.memory import MemorySink

__all__ = ("FrontendBattery",)

PLACES = 4
"""In so many places, spread over a run, a test ends it."""


class FrontendBattery(Battery):
    """
    Tests that a frontend does what the engine relies on.

    Derive a class whose name begins with ``Test``, and define :meth:`make` and
    :meth:`expected`; with the further methods, more is tested.  What the
    frontend does not claim to do (to resume, to be told) is skipped.
    """

    acks_last = True
    """Whether what was acknowledged never comes again, even if the process is killed then."""

    # -- what is tested

    def make(self) -> Frontend[Any]:
        """Return a new frontend, which reads the input that :meth:`prepare` has made."""
        raise NotImplementedError

    def expected(self) -> list[Any]:
        """Return the items that it gives, in their order: some ten, all different."""
        raise NotImplementedError

    def grow_input(self) -> list[Any]:
        """Add to the input, and return the items that come of that."""
        not_given("grow_input")

    def change_input(self) -> None:
        """Make another input of it, in which nothing that was read can be found again."""
        not_given("change_input")

    def make_blocked(self) -> Frontend[Any]:
        """Return one that gives the items and then waits for more, of which none come."""
        not_given("make_blocked")

    # -- items and positions

    def test_every_item_comes_once_and_in_order(self) -> None:
        """With one worker, the items of the input come in their order, each once."""
        sink = MemorySink()
        Pipeline(self.make(), on_error="skip").backend(sink).run()
        differ(sink.items, self.expected(), "a run of all the input")

    def test_every_item_has_a_position_when_they_are_wanted(self) -> None:
        """With ``wants_positions``, what is yielded is an ``Item`` or a ``Failure`` with one."""
        self._coming_again()
        with reading(self.make()) as things:
            values = [thing.value for thing in things if not hasattr(thing, "error")]
        differ(values, self.expected(), "an input read with positions")

    # -- going on

    def test_it_goes_on_behind_every_item(self) -> None:
        """From the checkpoint at any item, written down and read back, come all that follow."""
        self._resuming()
        everything = self._rest_behind(None)
        for number in range(1, len(everything) + 1):
            checkpoint = self._checkpoint_behind(number)
            what = f"from the checkpoint behind item {number}"
            differ(self._rest_behind(checkpoint), everything[number:], what)

    def test_a_checkpoint_may_be_asked_for_late(self) -> None:
        """When much more was produced already, the checkpoint at an item is still behind it."""
        frontend = self._resuming()
        with reading(frontend) as things:
            everything = list(things)
            checkpoints = [dumps(frontend.checkpoint(thing.position)) for thing in everything]
        values = [thing.value for thing in everything]
        for number, checkpoint in enumerate(checkpoints, 1):
            what = f"from the checkpoint behind item {number}, made at the end"
            differ(self._rest_behind(checkpoint), values[number:], what)

    def test_it_goes_on_again_and_again(self) -> None:
        """Runs that do one item each, one after the other, give all the items, each once."""
        self._resuming()
        everything = self._rest_behind(None)
        checkpoint, values = None, []
        for _ in everything:
            frontend = self.make()
            with reading(frontend, _read_back(checkpoint)) as things:
                for thing in islice(things, 1):
                    values.append(thing.value)
                    checkpoint = dumps(frontend.checkpoint(thing.position))
        differ(values, everything, "runs of one item each")
        differ(self._rest_behind(checkpoint), [], "behind the last item")

    def test_without_a_checkpoint_it_begins_at_the_start(self) -> None:
        """``resume(None)`` is the beginning of the input, however often it was read before."""
        self._resuming()
        for _ in range(2):
            with reading(self.make()) as things:
                values = [thing.value for thing in things if not hasattr(thing, "error")]
            differ(values, self.expected(), "after resume(None)")

    def test_a_finished_run_is_gone_on_with_by_doing_nothing(self) -> None:
        """After the end of the input, the next run with the same state gives nothing."""
        self._resuming()
        sink = MemorySink()
        for _ in range(3):
            self._run(sink)
            differ(sink.items, self.expected(), "runs of an input that has ended")

    def test_what_is_added_to_the_input_comes_next(self) -> None:
        """After the end of the input, the next run gives what was added, and nothing else."""
        self._resuming()
        sink = MemorySink()
        self._run(sink)
        expected = self.expected()
        added = self.grow_input()
        self._run(sink)
        differ(sink.items, [*expected, *added], "an input that has grown")

    def test_a_changed_input_is_refused(self) -> None:
        """If what was read is not there any more, ``resume`` raises ``StateError``."""
        self._resuming()
        total = len(self._rest_behind(None))
        for number in sorted({1, total // 2, total}):
            self.start_over()
            checkpoint = self._checkpoint_behind(number)
            self.change_input()
            frontend = self.make()
            try:
                with reading(frontend, loads(checkpoint)) as things:
                    values = [thing.value for thing in things]
            except StateError as error:
                if not str(error):
                    raise AssertionError("the StateError does not say what is wrong") from error
                continue
            raise AssertionError(
                f"the input was changed when {number} items had been read, and the frontend "
                f"went on with {values}"
            )

    # -- runs that end before their time

    def test_a_run_that_ends_early_is_gone_on_with(self) -> None:
        """Stopped, given up or failed at any item: the next run gives what is left, once."""
        self._resuming()
        expected = self.expected()
        for ending in ("stop", "abandon", "fail"):
            for number in spread(len(expected), PLACES):
                self.start_over()
                sink = MemorySink()
                options = {"on_error": "skip", **self._with_state()}
                self._run_to(ending, self._paced(), sink, at=number, **options)
                self._run(sink, self._paced())
                what = f"after a run that ended by {ending!r} at item {number}"
                differ(sink.items, expected, what)

    def test_a_killed_run_is_gone_on_with(self) -> None:
        """Killed with SIGKILL anywhere, the next run gives the items that are left."""
        exactly = self._coming_again()
        self._kill_everywhere(list(map(repr, self.expected())), exactly=exactly)

    def test_a_run_that_goes_on_may_be_killed_as_well(self) -> None:
        """Killed a second time while it goes on, and a third run still gives all that is left."""
        exactly = self._coming_again()
        self._kill_twice(list(map(repr, self.expected())), exactly=exactly)

    # -- answers

    def test_every_position_is_answered_once(self) -> None:
        """A frontend that is told is told once about each of its items, and takes it."""
        frontend = self._told()
        expected = self.expected()
        answers: list[str] = []
        _listen(frontend, answers)
        refused = expected[1::3]
        transport = faulty(lambda item: item, Raises(ValueError("refused"), at=refused))
        pipeline = Pipeline(frontend, on_error="skip").transport(transport, on_error="skip")
        report = pipeline.backend(MemorySink()).run()
        same(len(answers), report.produced, "the number of answers")
        same(answers.count("ack"), report.delivered, "how many of them are acks")

    def test_what_was_not_acknowledged_comes_again(self) -> None:
        """A frontend that is told and does not resume gives the items again that were not done."""
        frontend = self._told()
        if resumes(frontend):
            raise SkipTest("what comes again is what is behind the checkpoint")
        undone = []
        with reading(frontend) as things:
            for number, thing in enumerate(list(things)):
                if number % 3 == 1:
                    undone.append(thing.value)
                    frontend.nack(thing.position, ValueError("refused"))
                elif number % 3 == 2:
                    undone.append(thing.value)
                else:
                    frontend.ack(thing.position)
        with reading(self.make()) as things:
            values = [thing.value for thing in things]
        differ(values, undone, "after every third item was acknowledged", in_order=False)

    # -- the end

    def test_a_stop_ends_it(self) -> None:
        """A stop at any item ends the run, and what was produced is delivered."""
        for number in spread(len(self.expected()), PLACES):
            self.start_over()
            sink = MemorySink()
            self._run_to("stop", self.make(), sink, at=number, on_error="skip")
            differ(sink.items, self.expected()[: len(sink.items)], "a run that was stopped")

    def test_a_stop_wakes_it_from_waiting(self) -> None:
        """While it waits for input, ``stop`` makes ``produce`` return at once."""
        frontend = self.make_blocked()
        expected = self.expected()
        have_come = threading.Semaphore(0)
        engine = Pipeline(frontend).backend(lambda _: have_come.release()).engine()
        engine.start(block=False)
        for number in range(len(expected)):
            if not have_come.acquire(timeout=self.patience):
                engine.abandon()
                raise AssertionError(f"{number} items came and no more: one that is there waits")
        report = engine.stop(timeout=self.patience)
        if report.hung:
            raise AssertionError("stop() did not wake produce(), which waits for input")
        same(report.delivered, len(expected), "the number of items")

    def test_a_stop_may_come_early(self) -> None:
        """``stop`` after ``setup`` and before the first item: ``produce`` does not wait."""
        frontend = self.make_blocked()
        frontend.setup()
        frontend.stop()
        thread = threading.Thread(target=lambda: list(each_of(frontend)), daemon=True)
        thread.start()
        thread.join(self.patience)
        if thread.is_alive():
            raise AssertionError("stop() before produce() was forgotten: produce() waits for input")
        frontend.cleanup()

    def test_nothing_is_left(self) -> None:
        """However a run ends, cleanup works, and no thread and no descriptor is left."""

        def scenario(ending: str) -> None:
            self.start_over()
            middle = len(self.expected()) // 2
            self._run_to(ending, self.make(), MemorySink(), at=middle, on_error="skip")
            self.exit_stack.close()

        check_nothing_is_left(scenario)

    # -- how

    def _resuming(self) -> Frontend[Any]:
        frontend = self.make()
        if not resumes(frontend):
            raise SkipTest("the frontend does not resume")
        return frontend

    def _told(self) -> Frontend[Any]:
        frontend = self.make()
        if not is_told(frontend):
            raise SkipTest("the frontend has neither ack nor nack")
        return frontend

    def _coming_again(self) -> bool:
        """Return whether the items of a killed run come again exactly, not only at least once."""
        frontend = self.make()
        if not (resumes(frontend) or is_told(frontend)):
            raise SkipTest("the frontend neither resumes nor is told: what a kill meets is lost")
        return resumes(frontend)

    def _paced(
        self, before: Callable[[], object] = nothing, acked: Callable[[Any], object] = nothing
    ) -> Paced:
        return Paced(self.make(), before=before, acked=acked)

    def _run(self, sink: Any, source: Frontend[Any] | None = None) -> None:
        """Run all the input into *sink*, with the state of the scenario."""
        pipeline = Pipeline(source or self.make(), on_error="skip", **self._with_state())
        pipeline.backend(sink, name="sink").run()

    def _checkpoint_behind(self, number: int) -> str:
        """Return the checkpoint of a run that has done so many items, as it is kept."""
        frontend = self.make()
        with reading(frontend) as things:
            *_, last = islice(things, number)
            return dumps(frontend.checkpoint(last.position))

    def _rest_behind(self, checkpoint: str | None) -> list[Any]:
        """Return the values that come behind a checkpoint as it was kept."""
        with reading(self.make(), _read_back(checkpoint)) as things:
            return [thing.value for thing in things]

    @property
    def _journal(self) -> Path:
        return self.state.with_suffix(".journal")

    def _live(self, point: Callable[[str], object], tell: Tell) -> None:
        acked = (lambda value: tell(repr(value))) if self.acks_last else nothing
        source = self._paced(partial(point, "before an item"), acked)
        options = self._with_state() if source.can_resume else {}
        journal = with_points(Journal(self._journal), point)
        Pipeline(source, on_error="skip", **options).backend(journal, name="sink").run()

    def _delivered(self) -> list[str]:
        return journal_in(self._journal)


def _read_back(checkpoint: str | None) -> Any:
    return None if checkpoint is None else loads(checkpoint)


def _listen(frontend: Any, answers: list[str]) -> None:
    """Have ``"ack"`` or ``"nack"`` added to *answers* for each item that *frontend* is told of."""
    takes_lists = callable(getattr(frontend, "ack_batch", None))
    for name in ("ack_batch" if takes_lists else "ack", "nack"):
        method = getattr(frontend, name)

        def told(*args: Any, name: str = name, method: Callable[..., object] = method) -> None:
            is_list = name == "ack_batch"
            answers.extend([name.removesuffix("_batch")] * (len(args[0]) if is_list else 1))
            method(*args)

        setattr(frontend, name, told)
