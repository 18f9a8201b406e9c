"""What a run does when those before it have died, which here is only written into their state."""

import threading
from dataclasses import replace

import pytest
from sturdy import Appended, Lines, Numbers, Table, lines_of
from workbench import SOON, assert_accounted

from m3 import Backend, Batch, Failure, Frontend, Item, Pipeline, Retry, StageError
from m3._plain import dumps
from m3.engine import crash_guard
from m3.engine.crash_record import REACH, CrashRecord, Suspect
from m3.engine.letters import read_dead_letters
from m3.engine.state import StateStore, look_at
from m3.errors import CrashError, PlanError

COUNT = 60
START = {"Numbers/0": None}
GROUPED = CrashRecord(deaths=2, is_running=True, marks=START)
ALONE = replace(GROUPED, ahead=REACH, singly=1000)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    """Let groups be small enough that some end in a short run."""
    monkeypatch.setattr(crash_guard, "GROUP", 8)


def have_died(tmp_path, record):
    """Write into the state what runs leave that have died."""
    store = StateStore(tmp_path / "state")
    store.write_crashes(record.plain())
    store.close()


def crashes(tmp_path):
    return CrashRecord.from_plain(look_at(tmp_path / "state").crashes)


def letters(tmp_path):
    store = read_dead_letters(tmp_path / "state" / "dead-letters.db")
    found = [*store.select()]
    store.close()
    return found


def described(tmp_path, source=None, **options):
    options = {"state": tmp_path / "state", "checkpoint_interval": 3600, "crash_guard": 3} | options
    return Pipeline(Numbers(COUNT) if source is None else source, **options)


class UnderWay:
    """Code of a stage that notes how many items are under way when it gets one."""

    def __init__(self):
        self.most = 0
        self.engine = None
        self.pause = threading.Event()

    def __call__(self, item):
        self.pause.wait(0.001)  # in which more could come, if anything let it
        self.most = max(self.most, self.engine.books.in_flight())
        return item

    def run(self, pipeline):
        self.engine = pipeline.engine()
        self.engine.start()
        return self.engine.report()


@pytest.mark.parametrize(("record", "most"), [(GROUPED, 8), (ALONE, 1)])
@pytest.mark.parametrize("sink", [Lines, Appended, Table])
def test_only_so_many_items_are_under_way(record, most, sink, tmp_path):
    """After deaths, a group at a time is let through; after a death over one, item by item."""
    have_died(tmp_path, record)
    seen = UnderWay()
    pipeline = described(tmp_path).transport(seen, workers=4).backend(sink(tmp_path / "out"))
    assert seen.run(pipeline).delivered == COUNT
    assert seen.most == most


def test_without_deaths_nothing_is_held_back(tmp_path):
    """A run that is not careful has as many items under way as its queues take."""
    have_died(tmp_path, replace(GROUPED, deaths=1))
    gate = threading.Event()

    def hook(number):
        if number == COUNT - 1:
            gate.set()

    def wait(item):
        assert gate.wait(SOON)
        return item

    pipeline = described(tmp_path, Numbers(COUNT, hook)).transport(wait)
    assert pipeline.backend(Lines(tmp_path / "out")).run().delivered == COUNT


def test_an_item_alone_is_in_the_state_before_a_stage_gets_it(tmp_path):
    """Whatever the stage does to the process, the next run knows with which item."""
    have_died(tmp_path, ALONE)
    seen = []

    def look(item):
        record = crashes(tmp_path)
        seen.append((item, record.in_hand, record.suspects["Numbers/0"]))
        return item

    described(tmp_path, Numbers(5)).transport(look, workers=2).backend(Lines(tmp_path / "o")).run()
    assert seen == [
        (item, "Numbers/0", Suspect(item - 1 if item else None, dumps(item))) for item in range(5)
    ]


@pytest.mark.parametrize("policy", ["fail", "skip", lambda _: "fail"])
def test_a_suspect_is_put_aside_whatever_the_policy(policy, tmp_path, caplog):
    """It becomes a dead letter of its frontend, with how often the process has died over it."""
    have_died(tmp_path, replace(ALONE, suspects={"Numbers/0": Suspect(None, dumps(0), 2)}))
    pipeline = described(tmp_path, on_error=policy).transport(lambda item: item, workers=3)
    report = pipeline.backend(Lines(tmp_path / "out")).run()
    assert_accounted(report)
    assert (report.delivered, report.dead_lettered, report.ok) == (COUNT - 1, 1, False)
    assert lines_of(tmp_path / "out") == [*range(1, COUNT)]
    (letter,) = letters(tmp_path)
    assert (letter.item, letter.position, letter.attempts) == (0, 0, 2)
    assert (letter.stage, letter.kind) == ("Numbers", "frontend")
    assert letter.error_type == "m3.errors.CrashError"
    assert "the process has died 2 times while this item" in letter.message
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0].startswith("crash guard: the process has died 3 times in a row")
    assert texts[1].startswith("crash guard: the item at 0 is put aside as a dead letter: ")
    assert len(texts) == 2


@pytest.mark.parametrize(
    "suspect",
    [Suspect(None, dumps(0), 1), Suspect(None, dumps(7), 2), Suspect(3, dumps(0), 2)],
    ids=["one death", "another item", "another mark"],
)
def test_what_is_not_proved_is_let_through(suspect, tmp_path):
    """One death is not enough; and what was proved of one item is not of another in its place."""
    have_died(tmp_path, replace(ALONE, suspects={"Numbers/0": suspect}))
    report = described(tmp_path).backend(Lines(tmp_path / "out")).run()
    assert (report.delivered, report.dead_lettered) == (COUNT, 0)


def test_an_input_that_could_not_be_read_may_be_the_suspect(tmp_path):
    """What a frontend refuses is let through alone and put aside like any item."""

    class Refusing(Numbers):
        def produce(self):
            yield Failure(ValueError("not read"), b"?", self.first)
            yield Item(1, self.first + 1)

    suspects = {"Refusing/0": Suspect(None, dumps(0), 2)}
    have_died(tmp_path, replace(ALONE, marks={"Refusing/0": None}, suspects=suspects))
    report = described(tmp_path, Refusing(2), on_error="skip").backend(Lines(tmp_path / "o")).run()
    assert (report.delivered, report.failed, report.dead_lettered) == (1, 0, 1)
    assert letters(tmp_path)[0].item == b"?"


def test_after_so_many_items_it_is_over(tmp_path):
    """Then items are under way as ever, and the next checkpoint says that nothing is wrong."""
    have_died(tmp_path, replace(GROUPED, ahead=10, singly=2))
    seen, gate = [], threading.Event()

    def hook(number):
        if number == COUNT - 1:
            seen.append(crashes(tmp_path))
            gate.set()

    def wait(item):
        assert item <= 10 or gate.wait(SOON)
        return item

    pipeline = described(tmp_path, Numbers(COUNT, hook)).transport(wait, workers=20)
    assert pipeline.backend(Lines(tmp_path / "out")).run().delivered == COUNT
    assert (seen[0].deaths, seen[0].ahead, seen[0].marks) == (3, 0, {"Numbers/0": 9})
    assert crashes(tmp_path) == CrashRecord(marks={"Numbers/0": COUNT - 1})


def test_a_checkpoint_that_moves_on_ends_the_count(tmp_path):
    """Deaths are in a row only without anything done between them."""
    have_died(tmp_path, replace(GROUPED, deaths=1))
    started, gate = threading.Event(), threading.Event()
    pipeline = described(tmp_path, Numbers(COUNT, lambda number: number < 9 or held()))

    def held():
        started.set()
        assert gate.wait(SOON)

    engine = pipeline.backend(Lines(tmp_path / "out")).engine()
    engine.start(block=False)
    assert started.wait(SOON)
    assert crashes(tmp_path).deaths == 2
    assert engine.stores.confirm() is None
    assert crashes(tmp_path) == CrashRecord(is_running=True, marks={"Numbers/0": 8})
    gate.set()
    engine.wait(SOON)


@pytest.mark.parametrize("end", ["stop", "abandon", "fail"])
@pytest.mark.parametrize("record", [CrashRecord(), GROUPED, ALONE])
def test_a_run_that_ends_in_order_is_no_death(record, end, tmp_path):
    """However it ends, as long as the process lives, nobody is suspected for it."""
    have_died(tmp_path, record)
    arrived, gate = threading.Event(), threading.Event()

    def wait(item):
        arrived.set()
        assert gate.wait(SOON)
        if end == "fail":
            raise ValueError("no")
        return item

    engine = described(tmp_path).transport(wait).backend(Lines(tmp_path / "out")).engine()
    engine.start(block=False)
    assert arrived.wait(SOON)
    if end == "stop":
        engine.request_stop()
    elif end == "abandon":
        engine.abandon()
    gate.set()
    try:
        engine.wait(SOON)
    except StageError:
        assert end == "fail"
    left = crashes(tmp_path)
    assert (left.is_running, left.in_hand) == (False, None)
    assert left.deaths == (3 if record.deaths else 0)
    assert not any(suspect.deaths for suspect in left.suspects.values())


class Labelled(Numbers):
    """Numbers beside others."""

    def __init__(self, count, hook=None, *, label):
        super().__init__(count, hook)
        self.label = label

    def produce(self):
        for item in super().produce():
            yield Item((self.label, item.value), item.position)


def two_sources(tmp_path):
    """Return a pipeline of two frontends whose runs before have died."""
    have_died(tmp_path, replace(ALONE, marks={"Labelled/0": None, "b/0": None}))
    return described(tmp_path, Labelled(COUNT, label="a")).frontend(
        Labelled(COUNT, label="b"), name="b"
    )


def test_two_frontends_take_turns(tmp_path):
    """Of several frontends, one item in all is under way, and none is kept waiting for good."""
    seen, order = UnderWay(), []
    pipeline = (
        two_sources(tmp_path).transport(seen, workers=4).backend(lambda item: order.append(item[0]))
    )
    assert seen.run(pipeline).delivered == 2 * COUNT
    assert seen.most == 1
    assert {"a", "b"} <= set(order[:4])


@pytest.mark.parametrize("end", ["stop", "abandon"])
def test_who_waits_for_a_turn_ends_with_the_run(end, tmp_path):
    """A stage that hangs over its item keeps nobody else: only it is said to hang."""
    arrived, gate = threading.Event(), threading.Event()

    def hang(item):
        arrived.set()
        assert gate.wait(SOON)
        return item

    pipeline = two_sources(tmp_path)
    engine = pipeline.transport(hang, name="hang").backend(Lines(tmp_path / "out")).engine()
    engine.start(block=False)
    assert arrived.wait(SOON)
    if end == "abandon":
        engine.abandon()
    report = engine.stop(0.5)
    assert [error.stage for error in report.hung] == ["hang"]
    gate.set()
    for worker in engine.workers:
        worker.thread.join(SOON)


def test_a_batch_that_waits_for_more_is_handed_over(tmp_path):
    """An item alone in a batch does not wait for others, which wait for it."""
    have_died(tmp_path, replace(ALONE, singly=3, ahead=20))
    sizes = []

    class Together(Backend):
        def process_batch(self, items):
            sizes.append(len(items))

    batch = Batch(count=500, period=3600)
    report = described(tmp_path, Numbers(20)).backend(Together, batch=batch).run()
    assert report.delivered == 20
    assert sizes[:3] == [1, 1, 1]
    assert max(sizes) <= 8


def test_an_item_that_is_tried_again_is_still_under_way(tmp_path):
    """The next one waits until its retries have ended."""
    have_died(tmp_path, ALONE)
    tried = []

    def flaky(item):
        tried.append(item)
        if tried.count(item) < 3:
            raise ValueError("again")
        return item

    pipeline = described(tmp_path, Numbers(5))
    pipeline = pipeline.transport(flaky, workers=3, on_error=Retry(attempts=3))
    assert pipeline.backend(Lines(tmp_path / "out")).run().delivered == 5
    assert tried == [item for item in range(5) for _ in range(3)]


def test_who_takes_the_results_is_waited_for(tmp_path):
    """Without a backend, an item is done when the caller has taken it."""
    have_died(tmp_path, ALONE)
    with described(tmp_path).transport(str, workers=2).results() as results:
        assert [*results] == [str(number) for number in range(COUNT)]


def test_a_frontend_that_is_told_is_told_once(tmp_path):
    """Also of what was put aside, with why."""
    told = []

    class Told(Numbers):
        def ack(self, position):
            told.append(position)

        def nack(self, position, error):
            told.append((position, type(error)))

    suspects = {"Told/0": Suspect(None, dumps(0), 2)}
    have_died(tmp_path, replace(ALONE, marks={"Told/0": None}, suspects=suspects))
    pipeline = described(tmp_path, Told(COUNT)).transport(int, workers=3)
    pipeline.backend(Appended(tmp_path / "out")).run()
    assert sorted(told, key=str) == sorted([(0, CrashError), *range(1, COUNT)], key=str)


def test_several_workers_of_a_frontend_are_shards_of_their_own(tmp_path):
    """Each worker has its own suspect."""

    class Pair(Frontend):
        workers = 2

        def resume(self, checkpoint):
            self.first = 0 if checkpoint is None else checkpoint + 1

        def produce(self):
            for number in range(self.first, 10):
                yield Item(number, number)

    suspects = {"Pair/1": Suspect(None, dumps(0), 2)}
    marks = {"Pair/0": None, "Pair/1": None}
    have_died(tmp_path, replace(ALONE, marks=marks, suspects=suspects))
    report = described(tmp_path, Pair).backend(Appended(tmp_path / "out")).run()
    assert (report.delivered, report.dead_lettered) == (19, 1)
    assert letters(tmp_path)[0].worker == 1


def test_a_source_that_fails_while_it_is_careful(tmp_path):
    """What was produced is delivered, and the run fails as ever."""
    have_died(tmp_path, ALONE)

    def hook(number):
        if number == 5:
            raise OSError("gone")

    engine = described(tmp_path, Numbers(COUNT, hook)).backend(Lines(tmp_path / "out")).engine()
    with pytest.raises(StageError, match="gone"):
        engine.start()
    assert_accounted(engine.report())
    assert lines_of(tmp_path / "out") == [0, 1, 2, 3, 4]


def test_a_run_without_it_notes_nothing(tmp_path):
    """State of a run without crash_guard has no place for crashes, and keeps what is there."""
    described(tmp_path, crash_guard=None).backend(Lines(tmp_path / "out")).run()
    assert look_at(tmp_path / "state").crashes is None
    described(tmp_path).backend(Lines(tmp_path / "out")).run()
    assert look_at(tmp_path / "state").crashes is not None


def test_a_letter_has_a_mark_to_go_back_to(tmp_path):
    """
    The store of dead letters is marked in the first checkpoint, when it is still empty.

    So what was put aside by a run that dies before the next checkpoint is not there twice.
    """
    described(tmp_path).backend(Lines(tmp_path / "out")).run()
    assert look_at(tmp_path / "state").checkpoint.sinks["dead letters"]["last"] == 0


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "3"])
def test_it_is_a_number_of_runs(count, tmp_path):
    """Anything else is a mistake in the plan."""
    with pytest.raises(PlanError, match=r"crash_guard is .*; it is a number of runs, at least 1"):
        described(tmp_path, crash_guard=count).engine()


def test_it_needs_state(tmp_path):
    """Without state nothing is known of an earlier run."""
    with pytest.raises(PlanError, match=r"crash_guard needs a place .*: give state=DIR"):
        described(tmp_path, state=None).engine()


def test_it_needs_frontends_that_go_on(tmp_path):
    """A source that cannot go on behind a position has no item that is known again."""
    described = Pipeline(Numbers(3), state=tmp_path / "state", crash_guard=3)
    with pytest.raises(PlanError, match="frontend 'list': with crash_guard, a run has to go on"):
        described.frontend([1, 2, 3]).engine()


def test_it_needs_instances_that_go_on(tmp_path):
    """What only an instance knows of itself, set up, ends the run before it begins."""

    class Fickle(Numbers):
        can_resume = True

        def setup(self):
            self.can_resume = False

    with pytest.raises(PlanError, match="crash_guard: no checkpoints are kept"):
        described(tmp_path, Fickle(3)).run()
