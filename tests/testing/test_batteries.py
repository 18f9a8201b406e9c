"""
The batteries find what is wrong with a connector.

Each class below breaks one rule, as connectors do, and a test of the battery says so.
"""

import gc
import json
import os
import threading
from contextlib import suppress
from typing import ClassVar
from unittest import SkipTest

import pytest
from sturdy import Table, rows_of

from m3 import Backend, BatchError, Frontend, Item, StateError
from m3.testing import BackendBattery, FrontendBattery, MemorySource

pytestmark = pytest.mark.once

# -- a right frontend and wrong ones ----------------------------------------


class Lines(Frontend):
    """The lines of a file; a checkpoint is the number of the line, and what the first one is."""

    def __init__(self, path):
        self.path = path
        self.first = 0

    def setup(self):
        self.lines = self.path.read_text().splitlines()

    def resume(self, checkpoint):
        self.first = 0
        if checkpoint is not None:
            self.first, seen = checkpoint
            if self.lines[: len(seen)] != seen:
                raise StateError("the input is another one")

    def produce(self):
        for number, line in enumerate(self.lines[self.first :], self.first):
            yield Item(line, number)

    def checkpoint(self, position):
        return position + 1, self.lines[:1]


class LineBattery(FrontendBattery):
    subject: type = Lines

    def prepare(self):
        self.path = self.folder / "input"
        self.path.write_text("".join(f"line {number}\n" for number in range(6)))

    def make(self):
        return self.subject(self.path)

    def expected(self):
        return [f"line {number}" for number in range(6)]

    def grow_input(self):
        with self.path.open("a") as file:
            file.write("more\n")
        return ["more"]

    def change_input(self):
        self.path.write_text("something else\n")


class LosesTheLast(Lines):
    def setup(self):
        super().setup()
        del self.lines[5:]


class Bare(Lines):
    def produce(self):
        yield from (item.value for item in super().produce())


class Repeats(Lines):
    def checkpoint(self, position):
        return position, self.lines[:1]


class Skips(Lines):
    def checkpoint(self, position):
        return position + 2, self.lines[:1]


class AsFarAsItHasRead(Lines):
    """Its checkpoint is where it reads now, and not where the item is."""

    def produce(self):
        for item in super().produce():
            self.current = item.position
            yield item

    def checkpoint(self, position):
        return self.current + 1, self.lines[:1]


class CountsAnewInEachRun(Lines):
    def produce(self):
        for number, item in enumerate(super().produce()):
            yield Item(item.value, number)


class NotPlain(Lines):
    def checkpoint(self, position):
        return {position}


class GoesOnByItself(Lines):
    """Remembers where it was, though it was told to begin at the start."""

    done: ClassVar[dict] = {}

    def produce(self):
        for item in super().produce():
            if item.position >= self.done.get(self.path, 0):
                self.done[self.path] = item.position + 1
                yield item


class TakesAnyInput(Lines):
    def resume(self, checkpoint):
        self.first = 0 if checkpoint is None else checkpoint[0]


class LeavesAFileOpen(Lines):
    left: ClassVar[list] = []

    def setup(self):
        super().setup()
        self.left.append(os.open(self.path, os.O_RDONLY))


class LeavesAThread(Lines):
    left: ClassVar[list] = []

    def produce(self):
        over = threading.Event()
        threading.Thread(target=over.wait, daemon=True).start()
        self.left.append(over)
        yield from super().produce()


class CleansUpOnlyAfterTheEnd(Lines):
    def produce(self):
        yield from super().produce()
        self.is_done = True

    def cleanup(self):
        assert self.is_done


WRONG_FRONTENDS = [
    (LosesTheLast, "every_item_comes_once_and_in_order"),
    (Bare, "every_item_has_a_position_when_they_are_wanted"),
    (Repeats, "it_goes_on_behind_every_item"),
    (Repeats, "a_finished_run_is_gone_on_with_by_doing_nothing"),
    (Repeats, "a_killed_run_is_gone_on_with"),
    (Skips, "it_goes_on_behind_every_item"),
    (Skips, "it_goes_on_again_and_again"),
    (Skips, "a_run_that_ends_early_is_gone_on_with"),
    (Skips, "a_killed_run_is_gone_on_with"),
    (AsFarAsItHasRead, "a_checkpoint_may_be_asked_for_late"),
    (CountsAnewInEachRun, "it_goes_on_again_and_again"),
    (CountsAnewInEachRun, "a_run_that_goes_on_may_be_killed_as_well"),
    (NotPlain, "it_goes_on_behind_every_item"),
    (GoesOnByItself, "without_a_checkpoint_it_begins_at_the_start"),
    (TakesAnyInput, "a_changed_input_is_refused"),
    (LeavesAFileOpen, "nothing_is_left"),
    (LeavesAThread, "nothing_is_left"),
    (CleansUpOnlyAfterTheEnd, "nothing_is_left"),
    (CleansUpOnlyAfterTheEnd, "a_stop_ends_it"),
]


# -- one that is told -------------------------------------------------------


class Jobs(Frontend):
    """Files in a folder, which are removed when they are done."""

    def __init__(self, folder):
        self.folder = folder

    def produce(self):
        for path in sorted(self.folder.iterdir()):
            yield Item(path.read_text(), path.name)

    def ack(self, position):
        (self.folder / position).unlink()


class JobBattery(FrontendBattery):
    subject: type = Jobs

    def prepare(self):
        for number in range(6):
            (self.folder / str(number)).write_text(f"job {number}")

    def make(self):
        return self.subject(self.folder)

    def expected(self):
        return [f"job {number}" for number in range(6)]


class ForgetsToRemove(Jobs):
    def ack(self, position):
        pass


class RemovesAtOnce(Jobs):
    def produce(self):
        for item in super().produce():
            (self.folder / item.position).unlink()
            yield item

    def ack(self, position):
        pass


class TakesNoAnswer(Jobs):
    def nack(self, position, error):
        raise OSError("unreachable")


WRONG_JOBS = [
    (ForgetsToRemove, "what_was_not_acknowledged_comes_again"),
    (ForgetsToRemove, "a_killed_run_is_gone_on_with"),
    (RemovesAtOnce, "what_was_not_acknowledged_comes_again"),
    (RemovesAtOnce, "a_killed_run_is_gone_on_with"),
    (TakesNoAnswer, "every_position_is_answered_once"),
]


# -- one that waits ---------------------------------------------------------


class Waits(Frontend):
    """Three numbers, and then none until it is stopped."""

    all: ClassVar[list] = []

    def setup(self):
        self.over = threading.Event()
        self.all.append(self.over)

    def produce(self):
        yield from range(3)
        self.over.wait()

    def stop(self):
        self.over.set()


class Sleeps(Waits):
    def stop(self):
        pass


class ForgetsAnEarlyStop(Waits):
    def produce(self):
        self.over.clear()
        yield from super().produce()


class HoldsTheLastBack(Waits):
    def produce(self):
        yield from range(2)
        self.over.wait()
        yield 2


WRONG_WAITING = [
    (Sleeps, "a_stop_may_come_early"),
    (ForgetsAnEarlyStop, "a_stop_may_come_early"),
    (Sleeps, "a_stop_wakes_it_from_waiting"),
    (HoldsTheLastBack, "a_stop_wakes_it_from_waiting"),
]


class WaitingBattery(FrontendBattery):
    subject: type = Waits

    def make(self):
        return MemorySource(range(3))

    def make_blocked(self):
        return self.subject()

    def expected(self):
        return [0, 1, 2]


# -- a right backend and wrong ones -----------------------------------------


class Store(Backend):
    """Lines of JSON, which are cut off at the mark."""

    def __init__(self, path):
        self.path = path

    def setup(self):
        self.file = self.path.open("a")

    def process_batch(self, items):
        errors = {}
        for index, item in enumerate(items):
            try:
                self.file.write(json.dumps(item) + "\n")
            except TypeError as error:
                errors[index] = error
        if errors:
            raise BatchError(errors)

    def commit(self):
        self.file.flush()
        return self.path.stat().st_size

    def resume(self, mark):
        if mark is not None and self.path.stat().st_size < mark:
            raise StateError("it is shorter than it was")
        os.truncate(self.path, mark or 0)

    def cleanup(self):
        self.file.close()


class StoreBattery(BackendBattery):
    subject: type = Store

    @property
    def path(self):
        return self.folder / "output"

    def make(self):
        return self.subject(self.path)

    def read_back(self):
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def unwritable(self):
        return {1, 2}

    def change_output(self):
        self.path.write_text("")


class DropsTheLastBatch(Store):
    def cleanup(self):
        buffered = self.path.read_bytes()
        self.file.close()
        self.path.write_bytes(buffered)


class CommitsNothing(Store):
    def commit(self):
        return self.path.stat().st_size


class NeverGoesBack(Store):
    def resume(self, mark):
        pass


class AlwaysBeginsAnew(Store):
    def resume(self, mark):
        os.truncate(self.path, 0)


class MarksEachCommit(Store):
    def commit(self):
        self.file.write('"commit"\n')
        return super().commit()


class RefusesTheBatch(Store):
    def process_batch(self, items):
        self.file.write("".join(json.dumps(item) + "\n" for item in items))


class TakesAnySink(Store):
    def resume(self, mark):
        with suppress(StateError):
            super().resume(mark)


class LeavesTheFileOpen(Store):
    left: ClassVar[list] = []

    def cleanup(self):
        self.file.flush()
        self.left.append(self.file)


class WritesHalfALine(Store):
    def cleanup(self):
        if self.failed:
            self.file.write('"hal')
        super().cleanup()


class NoItemsNoFile(Store):
    def cleanup(self):
        super().cleanup()
        if not self.path.read_text():
            raise ValueError("no items")


WRONG_BACKENDS = [
    (DropsTheLastBatch, "what_was_delivered_is_there"),
    (DropsTheLastBatch, "a_stopped_run_has_what_it_delivered"),
    (CommitsNothing, "what_was_committed_is_there"),
    (CommitsNothing, "a_killed_run_is_gone_on_with"),
    (NeverGoesBack, "it_goes_back_to_what_was_committed"),
    (NeverGoesBack, "it_goes_back_behind_a_later_commit"),
    (NeverGoesBack, "a_killed_run_is_gone_on_with"),
    (AlwaysBeginsAnew, "it_goes_back_to_what_was_committed"),
    (AlwaysBeginsAnew, "a_run_that_ends_early_is_gone_on_with"),
    (AlwaysBeginsAnew, "a_finished_run_is_gone_on_with_by_doing_nothing"),
    (MarksEachCommit, "a_commit_may_be_repeated"),
    (RefusesTheBatch, "an_item_that_cannot_be_written_fails_alone"),
    (TakesAnySink, "a_changed_sink_is_refused"),
    (LeavesTheFileOpen, "nothing_is_left"),
    (WritesHalfALine, "a_failed_run_leaves_nothing_half"),
    (NoItemsNoFile, "no_items_are_no_trouble"),
]


# -- a transactional backend and wrong ones ---------------------------------


class TableBattery(BackendBattery):
    subject: type = Table

    @property
    def path(self):
        return self.folder / "output.db"

    def make(self):
        return self.subject(self.path)

    def items(self):
        return list(range(10))

    def read_back(self):
        return rows_of(self.path) if self.path.exists() else []

    def unwritable(self):
        return {1, 2}


class CommitsEachItem(Table):
    def process(self, data):
        super().process(data)
        self.end()


class CommitsTwice(Table):
    """First the data, and then the checkpoint."""

    def commit_with(self, key, checkpoint):
        self.end()
        self.commit(key, checkpoint)

    def commit(self, key=None, checkpoint=None):
        super().commit_with(key, checkpoint)


class ForgetsTheCheckpoint(Table):
    def commit_with(self, key, checkpoint):
        self.end()


WRONG_TABLES = [
    (CommitsEachItem, "it_goes_back_to_what_was_committed"),
    (CommitsEachItem, "a_killed_run_is_gone_on_with"),
    (CommitsTwice, "a_killed_run_is_gone_on_with"),
    (ForgetsTheCheckpoint, "it_goes_back_to_what_was_committed"),
]


# -- all of them ------------------------------------------------------------


def names_of(battery):
    return [name for name in dir(battery) if name.startswith("test_")]


def run(battery, subject, name):
    """Run one test of a battery on a class, as pytest would."""
    test = type(battery.__name__, (battery,), {"subject": subject})()
    if subject in (Sleeps, ForgetsAnEarlyStop, HoldsTheLastBack):
        test.patience = 0.3  # they do hang
    test.setup_method()
    try:
        getattr(test, name)()
    finally:
        test.teardown_method()


RIGHT = [
    (battery, name)
    for battery in (LineBattery, JobBattery, WaitingBattery, StoreBattery, TableBattery)
    for name in names_of(battery)
]
WRONG = [
    (battery, *case)
    for battery, cases in (
        (LineBattery, WRONG_FRONTENDS),
        (JobBattery, WRONG_JOBS),
        (WaitingBattery, WRONG_WAITING),
        (StoreBattery, WRONG_BACKENDS),
        (TableBattery, WRONG_TABLES),
    )
    for case in cases
]


@pytest.fixture(autouse=True)
def tidied():
    """End and close what the wrong connectors of a test have left."""
    before = set(threading.enumerate())
    yield
    for events in (LeavesAThread.left, Waits.all):
        while events:
            events.pop().set()
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
    while LeavesAFileOpen.left:
        os.close(LeavesAFileOpen.left.pop())
    while LeavesTheFileOpen.left:
        LeavesTheFileOpen.left.pop().close()
    gc.collect()


def named(value):
    return value.removeprefix("test_") if isinstance(value, str) else value.__name__


@pytest.mark.parametrize(("battery", "name"), RIGHT, ids=named)
def test_what_is_right_passes(battery, name):
    """A connector that keeps the rules passes every test, or is not concerned."""
    run(battery, battery.subject, name)


@pytest.mark.parametrize(("battery", "subject", "name"), WRONG, ids=named)
def test_what_is_wrong_is_found(battery, subject, name):
    """A connector that breaks a rule fails the test of that rule."""
    with pytest.raises(Exception) as raised:
        run(battery, subject, f"test_{name}")
    assert not isinstance(raised.value, SkipTest)


def test_what_does_not_apply_is_skipped():
    """Without the methods that a test needs, or without the ability, it says why it skips."""
    for battery, name, reason in (
        (JobBattery, "a_stop_wakes_it_from_waiting", r"make_blocked\(\) is not given"),
        (JobBattery, "it_goes_on_behind_every_item", "does not resume"),
        (LineBattery, "every_position_is_answered_once", "neither ack nor nack"),
        (LineBattery, "a_stop_may_come_early", "make_blocked"),
        (TableBattery, "it_goes_back_behind_a_later_commit", "the checkpoint itself"),
    ):
        with pytest.raises(SkipTest, match=reason):
            run(battery, battery.subject, f"test_{name}")
