"""Runs that go on where an earlier one ended, and what is durable in which order."""

import shutil
import threading
import time
from collections import Counter
from contextlib import suppress

import pytest
from sturdy import Appended, Lines, Numbers, Table, lines_of, rows_of
from workbench import SOON, assert_accounted

from m3 import (
    Backend,
    Batch,
    Frontend,
    Item,
    Pipeline,
    RetryLater,
    StageError,
    StateError,
    TransactionalBackend,
)
from m3.engine.checkpoints import Checkpoints
from m3.engine.state import Checkpoint, StateStore, look_at

COUNT = 2_000


def pipeline(source, sink, tmp_path, **options):
    options = {"state": tmp_path / "state", "checkpoint_interval": 0.01} | options
    return (
        Pipeline(source, **options)
        .transport(lambda item: item, workers=4, name="pass")
        .backend(sink, name="sink")
    )


@pytest.fixture(params=["lines", "table"])
def sink(request, tmp_path):
    """Return a sink that goes back, and what is in it."""
    if request.param == "lines":
        return Lines(tmp_path / "out"), lambda: lines_of(tmp_path / "out")
    return Table(tmp_path / "out.db"), lambda: rows_of(tmp_path / "out.db")


def test_a_second_run_of_a_finished_one_does_nothing(sink, tmp_path):
    """When the input had ended, the next run with the same state delivers nothing again."""
    backend, content = sink
    assert pipeline(Numbers(COUNT), backend, tmp_path).run().delivered == COUNT
    report = pipeline(Numbers(COUNT), backend, tmp_path).run()
    assert report.delivered == 0
    assert sorted(content()) == list(range(COUNT))
    checkpoint = look_at(tmp_path / "state").checkpoint
    assert checkpoint.finished
    assert checkpoint.counts["delivered"] == COUNT
    assert checkpoint.sources == {"Numbers/0": COUNT - 1}


def test_a_run_goes_on_behind_what_an_earlier_one_did(sink, tmp_path):
    """Input that came later is all that the next run does."""
    backend, content = sink
    pipeline(Numbers(COUNT), backend, tmp_path).run()
    report = pipeline(Numbers(COUNT + 10), backend, tmp_path).run()
    assert report.delivered == 10
    assert sorted(content()) == list(range(COUNT + 10))


@pytest.mark.parametrize("end", ["stop", "abandon", "fail"])
def test_a_run_that_ended_early_is_gone_on_with(sink, end, tmp_path):
    """However a run ends, the next one gives what an undisturbed run would have given, once."""
    backend, content = sink
    half = threading.Event()

    def hook(number):
        if number == COUNT // 2:
            half.set()
            if end == "fail":
                raise OSError("the source is gone")

    first = pipeline(Numbers(COUNT, hook), backend, tmp_path).engine()
    first.start(block=False)
    half.wait()
    if end == "fail":
        with pytest.raises(StageError):
            first.wait(60)
    else:
        getattr(first, end)()
        first.wait(60)
    assert_accounted(first.report())
    pipeline(Numbers(COUNT), backend, tmp_path).run()
    assert sorted(content()) == list(range(COUNT))


def test_a_stage_that_fails_leaves_its_item_for_the_next_run(sink, tmp_path):
    """What a run failed on is done again by the next one, with everything else once."""
    backend, content = sink
    is_fixed = False

    def parse(item):
        if item == 1234 and not is_fixed:
            raise ValueError("not yet")
        return item

    def run():
        options = {"state": tmp_path / "state", "checkpoint_interval": 0.01}
        Pipeline(Numbers(COUNT), **options).transport(parse, workers=3).backend(backend).run()

    for _ in range(3):
        with pytest.raises(StageError, match="not yet"):
            run()
    is_fixed = True
    run()
    assert sorted(content()) == list(range(COUNT))


@pytest.mark.parametrize("end", ["fail", "abandon"])
def test_a_report_says_what_the_next_run_will_undo(sink, end, tmp_path):
    """Of a run that ends without a last checkpoint: what its sinks got since the one before."""
    backend, content = sink
    is_stuck, go_on = threading.Event(), threading.Event()

    def hook(number):
        if number == COUNT - 1:
            is_stuck.set()
            assert go_on.wait(SOON)

    def refuse(item):
        if item == COUNT - 1 and end == "fail":
            raise ValueError("not yet")
        return item

    options = {"state": tmp_path / "state", "checkpoint_interval": 3600}
    described = Pipeline(Numbers(COUNT, hook), **options).transport(refuse)
    first = described.backend(backend, name="sink").start()
    assert is_stuck.wait(SOON)
    while first.report().delivered < COUNT - 1:
        assert first.report().undone == 0
    if end == "abandon":
        first.abandon()
    go_on.set()
    with suppress(StageError):
        first.wait(SOON)
    assert first.report().undone == COUNT - 1
    assert first.report().as_dict()["undone"] == COUNT - 1
    end = "well"
    second = described.run()
    assert (second.delivered, second.undone) == (COUNT, 0)
    assert sorted(content()) == list(range(COUNT))


def test_nothing_is_undone_where_a_last_checkpoint_was_made_or_none_is_gone_back_to(tmp_path):
    """After a stop, and where a sink cannot go back, the report says that nothing is undone."""
    stopped = pipeline(Numbers(10**9), Lines(tmp_path / "a"), tmp_path).start()
    while stopped.report().delivered < COUNT:
        assert stopped.report().undone == 0
    stopped.stop(SOON)
    assert stopped.report().undone == 0
    abandoned = pipeline(Numbers(10**9), Appended(tmp_path / "b"), tmp_path / "other").start()
    while abandoned.report().delivered < COUNT:
        assert abandoned.report().undone == 0
    abandoned.abandon()
    abandoned.wait(SOON)
    assert abandoned.report().undone == 0


def test_the_counts_of_a_state_add_up_after_a_kill(tmp_path):
    """What was under way at the last checkpoint of a killed run counts once it comes again."""
    go_on = threading.Event()

    def hold(item):
        assert item != 50 or go_on.wait(SOON)
        return item

    options = {"state": tmp_path / "state", "checkpoint_interval": 0.005}
    described = Pipeline(Numbers(COUNT), **options).transport(hold, queue_size=20)
    first = described.backend(Appended, path=tmp_path / "out", name="sink").start()
    while look_at(tmp_path / "state").checkpoint.counts["delivered"] < 50:
        assert first.report().state == "running"
    shutil.copytree(tmp_path / "state", tmp_path / "killed")
    go_on.set()
    first.wait(SOON)
    counts = look_at(tmp_path / "killed").checkpoint.counts
    assert counts["produced"] == counts["delivered"] == 50
    second = Pipeline(Numbers(COUNT), state=tmp_path / "killed").transport(hold)
    second.backend(Appended, path=tmp_path / "out", name="sink").run()
    counts = look_at(tmp_path / "killed").checkpoint.counts
    assert counts["produced"] == counts["delivered"] == COUNT


@pytest.mark.parametrize("end", ["fail", "abandon"])
def test_what_no_checkpoint_has_is_not_acknowledged(tmp_path, monkeypatch, end):
    """Of a run that fails or is abandoned, only that is acknowledged which its sink keeps."""
    is_busy, go_on = threading.Event(), threading.Event()
    told, close = {}, Checkpoints._close

    def close_and_go_on(checkpoints, error):
        close(checkpoints, error)
        go_on.set()

    monkeypatch.setattr(Checkpoints, "_close", close_and_go_on)

    class Slow(Numbers):
        def produce(self):
            for item in super().produce():
                assert item.value == 0 or is_busy.wait(SOON)
                yield item

        def ack(self, position):
            told[position] = True
            if position == 0:  # the others wait behind it, while the run ends
                is_busy.set()
                assert go_on.wait(SOON)

        def nack(self, position, error):
            told[position] = False

    class Sink(Lines):
        def process(self, item):
            if item == 5:
                if end == "abandon":
                    engine.abandon()
                raise ValueError("the run ends")
            super().process(item)

    options = {"state": tmp_path / "state", "checkpoint_interval": 1000}
    described = Pipeline(Slow(6), **options).backend(Sink, path=tmp_path / "out", name="sink")
    engine = described.engine()
    with suppress(StageError):
        engine.start()
        engine.wait(SOON)
    kept = look_at(tmp_path / "state").checkpoint.sinks["sink/0"]
    sink = Lines(tmp_path / "out")
    sink.setup()
    sink.resume(kept)
    sink.cleanup()
    acknowledged = {position for position, is_done in told.items() if is_done}
    assert acknowledged <= set(lines_of(tmp_path / "out"))
    assert len(told) == 6


@pytest.mark.parametrize("kind", [Lines, Table, Appended])
def test_the_counts_of_every_checkpoint_add_up(kind, tmp_path, monkeypatch):
    """A checkpoint counts what is up to its position, and nothing that will come again."""
    written, enough = [], threading.Event()
    write = StateStore.write

    def keep(store, checkpoint, *more):
        written.append(checkpoint)
        write(store, checkpoint, *more)
        if len(written) == 4:
            enough.set()

    monkeypatch.setattr(StateStore, "write", keep)
    engine = pipeline(Numbers(10**9), kind(tmp_path / "out"), tmp_path).start()
    assert enough.wait(60)
    engine.stop(SOON)
    for checkpoint in written:
        position = checkpoint.sources["Numbers/0"]
        assert checkpoint.counts["delivered"] == (0 if position is None else position + 1)
        assert checkpoint.counts["produced"] == checkpoint.counts["delivered"]


@pytest.mark.parametrize("workers", [1, 4])
def test_fan_out_and_batches_go_back_as_a_whole(workers, tmp_path):
    """What was made of an item that is done again is undone before, all of it."""
    stop_at = COUNT // 2

    def spread(item):
        yield 3 * item
        yield 3 * item + 1
        if item == stop_at:
            raise ValueError("in the middle")
        yield 3 * item + 2

    def run():
        options = {"state": tmp_path / "state", "checkpoint_interval": 0.005}
        described = Pipeline(Numbers(COUNT), **options).transport(spread, workers=workers)
        described.backend(Lines, path=tmp_path / "a").backend(Lines, path=tmp_path / "b").run()

    with pytest.raises(StageError):
        run()
    stop_at = None
    run()
    for name in ("a", "b"):
        assert sorted(lines_of(tmp_path / name)) == list(range(3 * COUNT))


def test_a_batch_that_waits_does_not_hold_up_a_checkpoint(tmp_path):
    """A batch that would wait for more items is handed over before a checkpoint."""
    committed = threading.Event()

    class Store(Lines):
        batch = Batch(count=1000, period=3600)
        process = None

        def process_batch(self, items):
            for item in items:
                Lines.process(self, item)

        def commit(self):
            mark = super().commit()
            if mark:
                committed.set()
            return mark

    def hook(number):
        if number == 5:
            assert committed.wait(60)

    pipeline(Numbers(10, hook), Store(tmp_path / "out"), tmp_path).run()
    assert sorted(lines_of(tmp_path / "out")) == list(range(10))


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("delays", [[10**10], [0.02, 1000]], ids=["before a round", "in a round"])
def test_frontends_go_on_while_an_item_waits_for_another_attempt(is_async, delays, tmp_path):
    """A round that a retry would hold up for long is put off, and nothing is lost by that."""
    waits, passed, left = threading.Event(), threading.Event(), [*delays]

    def refuse(item):
        if item == 0 and left:
            seconds = left.pop(0)
            if not left:
                waits.set()
            raise RetryLater(seconds)
        if item == 99:
            passed.set()
        return item

    async def refuse_later(item):
        return refuse(item)

    def hook(number):
        if number:
            assert waits.wait(SOON)
            passed.wait(0.002)  # so that rounds are due

    def run():
        options = {"state": tmp_path / "state", "checkpoint_interval": 0.005}
        described = Pipeline(Numbers(100, hook), **options)
        described.transport(refuse_later if is_async else refuse)
        return described.backend(Lines, path=tmp_path / "out").start()

    first = run()
    assert passed.wait(SOON)
    first.abandon()
    first.wait(SOON)
    run().wait(SOON)
    assert sorted(lines_of(tmp_path / "out")) == list(range(100))


def test_checkpoints_are_made_though_always_some_item_waits(tmp_path):
    """Where items wait for another attempt at any time, there is a round all the same."""
    tries, checkpoints = Counter(), threading.Semaphore(0)

    class Watched(Numbers):
        def checkpoint(self, position):
            checkpoints.release()
            return position

    def refuse(item):
        tries[item] += 1
        if tries[item] == 1:
            raise RetryLater(0.02)
        return item

    options = {"state": tmp_path / "state", "checkpoint_interval": 0.001}
    described = Pipeline(Watched(10**9), **options).transport(refuse)
    engine = described.backend(Lines, path=tmp_path / "out").start()
    for _ in range(3):
        assert checkpoints.acquire(timeout=SOON)
    engine.abandon()
    engine.wait(SOON)


def test_a_sink_that_cannot_go_back_gets_nothing_less(tmp_path):
    """With a sink that only appends, a second run repeats some items, and leaves out none."""
    first = pipeline(Numbers(10**9), Appended(tmp_path / "out"), tmp_path).start()
    while len(lines_of(tmp_path / "out")) < COUNT:
        first.report()
    first.abandon()
    first.wait(60)
    done = len(lines_of(tmp_path / "out"))
    pipeline(Numbers(done + 100), Appended(tmp_path / "out"), tmp_path).run()
    assert set(lines_of(tmp_path / "out")) >= set(range(done + 100))


def test_the_mark_is_below_everything_that_is_not_done(tmp_path):
    """An item that takes long holds the checkpoint below it, whatever is done behind it."""
    slow, checkpoints = threading.Event(), []

    class Watched(Numbers):
        def checkpoint(self, position):
            checkpoints.append(position)
            if position == 6:
                slow.set()
            return position

    def transport(item):
        if item == 7:
            assert slow.wait(60)
        return item

    described = Pipeline(Watched(100), state=tmp_path / "state", checkpoint_interval=0.001)
    described.transport(transport, workers=4).backend(Appended, path=tmp_path / "out").run()
    assert sorted(checkpoints) == checkpoints
    assert 6 in checkpoints
    assert checkpoints[-1] == 99


def test_the_order_of_durability(tmp_path):
    """First the sink is committed, then the checkpoint is written, then the source is told."""
    log = []

    class Sink(Lines):
        def process(self, data):
            super().process(data)
            log.append(("write", data))

        def commit(self):
            log.append(("commit", None))
            return super().commit()

    class Told(Numbers):
        def checkpoint(self, position):
            log.append(("checkpoint", position))
            return position

        def ack(self, position):
            kept = look_at(tmp_path / "state").checkpoint.sources["Told/0"]
            log.append(("ack", position))
            assert kept >= position

    pipeline(Told(300), Sink(tmp_path / "out"), tmp_path).run()
    assert [position for what, position in log if what == "ack"].sort() is None
    for number in range(300):
        written, told = log.index(("write", number)), log.index(("ack", number))
        assert ("commit", None) in log[written:told]
    assert len([None for what, _ in log if what == "ack"]) == 300


def test_sinks_commit_before_a_source_is_told_without_state_too(tmp_path):
    """Also in a run without state, an item is acknowledged after the sink has committed it."""
    log = []

    class Told(Frontend):
        def produce(self):
            for number in range(300):
                yield Item(number, number)

        def ack(self, position):
            log.append(("ack", position))

    class Sink(Backend):
        def process(self, data):
            log.append(("write", data))

        def commit(self):
            log.append(("commit", None))

    Pipeline(Told).transport(lambda item: item, workers=3).backend(Sink, workers=2).run()
    for number in range(300):
        written, told = log.index(("write", number)), log.index(("ack", number))
        assert log[written:told].count(("commit", None)) >= 2


def test_a_commit_that_fails_fails_the_run_and_nothing_is_acknowledged(tmp_path):
    """What could not be committed is not acknowledged, and the run says why."""
    answers = []

    class Told(Frontend):
        def produce(self):
            for number in range(10):
                yield Item(number, number)

        def ack(self, position):
            answers.append(("ack", position))

        def nack(self, position, error):
            answers.append(("nack", str(error)))

    class Full(Backend):
        def process(self, data): ...

        def commit(self):
            raise OSError("no space left on device")

    with pytest.raises(StageError, match="no space left"):
        Pipeline(Told).backend(Full).run()
    assert len(answers) == 10
    assert {what for what, _ in answers} == {"nack"}


def test_state_of_another_pipeline_is_refused(tmp_path):
    """A state whose stages are others than those of the pipeline is refused, and says so."""
    pipeline(Numbers(10), Lines(tmp_path / "out"), tmp_path).run()
    other = Pipeline(Numbers(10), state=tmp_path / "state").backend(
        Lines(tmp_path / "out"), name="other"
    )
    with pytest.raises(StateError, match=r"sink/0.*other/0.*--from-start"):
        other.run()
    assert sorted(lines_of(tmp_path / "out")) == list(range(10))


def to_backends(names, folder, **options):
    """Return numbers into backends of these names, none of which keeps marks."""
    described = Pipeline(Numbers(10), state=folder)
    for name in names:
        described.backend(Appended, path=folder.with_name(name), name=name, **options)
    return described


@pytest.mark.parametrize("names", [["b"], ["a", "b"], []])
def test_backends_without_marks_are_compared_with_the_state_too(names, tmp_path):
    """A backend that was not there would get nothing of what was done: refused, nothing run."""
    to_backends(["a"], tmp_path / "state").run()
    told = rf"with the backends a, and this one has {', '.join(names) or 'none'};.*--from-start"
    with pytest.raises(StateError, match=told):
        to_backends(names, tmp_path / "state").run()
    assert not (tmp_path / "b").exists() or lines_of(tmp_path / "b") == []
    assert to_backends(["a"], tmp_path / "state").run().produced == 0
    assert lines_of(tmp_path / "a") == list(range(10))


def test_a_frontend_that_is_only_told_is_compared_with_the_state_too(tmp_path):
    """A frontend that keeps no position is one of the stages of a state all the same."""

    class Told(Frontend):
        def produce(self):
            yield Item(1, 1)

        def ack(self, position): ...

    class Other(Told): ...

    def described(frontend):
        return Pipeline(frontend, state=tmp_path / "state").backend(str)

    described(Told).run()
    with pytest.raises(StateError, match="with the frontends Told, and this one has Other;"):
        described(Other).run()
    assert described(Told).run().delivered == 1


def test_what_may_change_on_a_state(tmp_path):
    """Transports, the order of backends, and the workers of those without marks may change."""
    to_backends(["a", "b"], tmp_path / "state").run()
    changed = to_backends(["b", "a"], tmp_path / "state", workers=3)
    changed.transport(str).transport(int)
    assert changed.run().produced == 0


def test_a_state_that_does_not_know_all_of_its_stages(tmp_path):
    """One by an earlier m3 is gone on from, and from then on knows them."""
    store = StateStore(tmp_path / "state")
    store.write(Checkpoint(1, {"Numbers/0": 4}))
    store.close()
    to_backends(["a"], tmp_path / "state").run()
    assert lines_of(tmp_path / "a") == list(range(5, 10))
    stages = {"frontends": ["Numbers"], "backends": ["a"]}
    assert look_at(tmp_path / "state").checkpoint.stages == stages
    with pytest.raises(StateError, match="with the backends a, and this one has b;"):
        to_backends(["b"], tmp_path / "state").run()


def test_two_runs_cannot_use_a_state(tmp_path):
    """While a run uses a state, another one is refused."""
    arrived, go_on = threading.Event(), threading.Event()

    def hook(number):
        arrived.set()
        go_on.wait()

    first = pipeline(Numbers(10, hook), Lines(tmp_path / "out"), tmp_path).start()
    arrived.wait()
    with pytest.raises(StateError):
        pipeline(Numbers(10), Lines(tmp_path / "other"), tmp_path).run()
    go_on.set()
    first.wait(60)
    pipeline(Numbers(20), Lines(tmp_path / "out"), tmp_path).run()
    assert sorted(lines_of(tmp_path / "out")) == list(range(20))


def test_a_source_that_refuses_the_checkpoint_ends_the_run_before_it_began(tmp_path):
    """What a frontend's resume raises comes out of start(); no sink got anything."""

    class Changed(Numbers):
        def resume(self, checkpoint):
            if checkpoint is not None:
                raise StateError("the input has changed")

    pipeline(Changed(10), Lines(tmp_path / "out"), tmp_path).run()
    with pytest.raises(StateError, match="the input has changed"):
        pipeline(Changed(10), Lines(tmp_path / "out"), tmp_path).run()
    assert sorted(lines_of(tmp_path / "out")) == list(range(10))


def test_an_item_without_a_position_is_refused_in_a_run_with_state(tmp_path):
    """A frontend that says it can resume and yields items without positions fails the run."""

    class Bare(Numbers):
        def produce(self):
            yield from range(10)

    with pytest.raises(StageError, match="without a position"):
        pipeline(Bare(10), Lines(tmp_path / "out"), tmp_path).run()


def test_a_source_that_cannot_resume_has_its_sinks_left_alone(tmp_path):
    """Where the source cannot be read again, nothing is undone and no checkpoint is written."""
    backend = Lines(tmp_path / "out")
    for _ in range(2):
        described = Pipeline([1, 2, 3], state=tmp_path / "state").backend(backend)
        described.run()
    assert lines_of(tmp_path / "out") == [1, 2, 3, 1, 2, 3]


def test_data_that_are_older_than_the_state_are_refused(tmp_path):
    """A database that stands at an earlier checkpoint than the state was restored: refused."""
    pipeline(Numbers(10), Table(tmp_path / "a.db"), tmp_path).run()
    with pytest.raises(StateError, match="were replaced or restored"):
        pipeline(Numbers(20), Table(tmp_path / "b.db"), tmp_path).run()


class Server:
    """A database with a transaction for each client, and the checkpoints beside the rows."""

    def __init__(self):
        self.lock = threading.Lock()
        self.rows = []
        self.kept = {}
        self.commits = 0
        self.fails_at = 0

    def commit(self, rows, key, checkpoint):
        with self.lock:
            self.commits += 1
            if self.commits == self.fails_at:
                raise OSError("the connection is gone")
            self.rows += rows
            self.kept[key] = checkpoint


class Client(TransactionalBackend):
    def __init__(self, server):
        self.server = server
        self.rows = []

    def process(self, data):
        self.rows.append(data)

    def committed(self, key):
        return self.server.kept.get(key)

    def commit_with(self, key, checkpoint):
        self.server.commit(self.rows, key, checkpoint)
        self.rows = []


@pytest.mark.parametrize("fails_at", [3, 4])
def test_the_clients_of_one_database_do_not_take_each_others_checkpoint(fails_at, tmp_path):
    """Where only some of the workers have committed, the next run repeats and loses nothing."""
    server = Server()
    server.fails_at = fails_at

    def run():
        described = Pipeline(Numbers(COUNT), state=tmp_path / "state", checkpoint_interval=0.001)
        described.backend(Client, server=server, workers=2).run()

    with pytest.raises(StageError, match="the connection is gone"):
        run()
    run()
    assert set(server.rows) == set(range(COUNT))


def test_a_state_without_a_checkpoint_is_a_beginning(tmp_path):
    """A run that was killed after it had made its state, and no more, is begun anew."""
    StateStore(tmp_path / "state").close()
    pipeline(Numbers(10), Lines(tmp_path / "out"), tmp_path).run()
    assert sorted(lines_of(tmp_path / "out")) == list(range(10))


def test_what_is_acknowledged_is_below_the_mark_also_when_the_run_ends_early(tmp_path):
    """Nothing is acknowledged that the next run does again, however early a run is given up."""
    acknowledged, first_half = [], threading.Event()

    class Told(Numbers):
        def ack(self, position):
            acknowledged.append(position)
            if len(acknowledged) == 50:
                first_half.set()

    for _ in range(20):
        acknowledged.clear()
        first_half.clear()
        engine = Pipeline(Told(10**9), state=tmp_path / "state", checkpoint_interval=1e-4)
        run = engine.transport(lambda item: item, workers=4).backend(Appended, path=tmp_path / "o")
        running = run.start()
        assert first_half.wait(60)
        running.abandon()
        running.wait(60)
        kept = look_at(tmp_path / "state").checkpoint.sources["Told/0"]
        assert max(acknowledged) <= kept


def test_the_end_of_a_run_does_not_wait_for_the_rest_after_a_round(tmp_path):
    """After a long round the next one is far away, but the last one comes with the end."""
    began = threading.Event()

    class Slow(Lines):
        def commit(self):
            if not began.is_set():
                began.set()
                return super().commit()
            threading.Event().wait(0.3)
            return super().commit()

    def hook(number):
        if number == 10:
            began.wait(60)

    start = time.monotonic()
    pipeline(Numbers(20, hook), Slow(tmp_path / "out"), tmp_path, checkpoint_interval=0.05).run()
    assert time.monotonic() - start < 2.5  # the rest alone would be 3 s
