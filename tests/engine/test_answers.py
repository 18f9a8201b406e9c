"""A frontend is told what became of each of its items, exactly once."""

import itertools
import threading

import pytest
from workbench import SOON, Keep, assert_accounted, in_thread, meet

from m3 import DROP, Backend, Batch, BatchError, Failure, Frontend, Item, Pipeline
from m3.errors import AbandonedError, StageError


class Source(Frontend):
    """Yields *items*, keeps the answers, and checks that they come before its cleanup."""

    def __init__(self, items):
        self.items = items
        self.answers = {}
        self.log = []

    def produce(self):
        yield from self.items

    def take(self, position, answer):
        assert position not in self.answers, "answered twice"
        self.answers[position] = answer
        self.log.append(position)

    def ack(self, position):
        self.take(position, "ack")

    def nack(self, position, error):
        self.take(position, error)

    def cleanup(self):
        self.log.append("cleanup")


def numbered(values):
    return [Item(value, f"at {value}") for value in values]


def kinds(source):
    """Return the answers with the types of the errors in place of these."""
    return {
        position: answer if answer == "ack" else type(answer)
        for position, answer in source.answers.items()
    }


class ListSource(Source):
    """Takes its acks in lists, and knows of dead letters."""

    def __init__(self, items):
        super().__init__(items)
        self.sizes = []

    def ack(self, position):
        raise AssertionError("the engine gives lists to a frontend that takes them")

    def ack_batch(self, positions):
        self.sizes.append(len(positions))
        for position in positions:
            self.take(position, "ack")

    def dead_lettered(self, position, error):
        self.take(position, f"kept: {error}")


# -- what is answered


def test_what_is_delivered_or_dropped_is_acknowledged():
    """After everything made from an item is delivered, or it was dropped on purpose: ack."""
    kept = []

    def odd(number):
        return number if number % 2 else DROP

    source = Source(numbered(range(4)))
    report = Pipeline(source).transport(odd, workers=2).backend(Keep(kept)).run()
    assert kinds(source) == dict.fromkeys(["at 0", "at 1", "at 2", "at 3"], "ack")
    assert (report.delivered, report.dropped) == (2, 2)


def test_what_failed_is_refused_with_its_error():
    """An item on which a stage raised, under a policy that goes on: nack, with the exception."""
    source = Source(numbered([1, 0, 2]))
    Pipeline(source).transport(lambda number: 1 // number, on_error="skip").run()
    assert kinds(source) == {"at 1": "ack", "at 0": ZeroDivisionError, "at 2": "ack"}


def test_the_answer_waits_for_the_last_effect():
    """An item that becomes several, for several backends, is answered when the last has ended."""
    gate, told = threading.Event(), threading.Event()

    class Told(Source):
        def ack(self, position):
            super().ack(position)
            told.set()

    def slow(item):
        if item == "b":
            assert not told.is_set()
            meet(gate)

    def spell(word):
        yield from word

    source = Told([Item("ab", 1)])
    pipeline = Pipeline(source).transport(spell)
    engine = pipeline.backend(slow).backend(lambda _: None, name="fast").start()
    gate.set()
    engine.wait(SOON)
    assert source.answers == {1: "ack"}


def test_the_worst_outcome_is_the_answer():
    """If one of the things made from an item fails, the item is refused, once."""

    def spell(word):
        yield from word

    source = Source([Item("a1b", 1), Item("123", 2)])
    Pipeline(source).transport(spell).transport(int, on_error="skip").run()
    assert kinds(source) == {1: ValueError, 2: "ack"}


def test_each_item_of_a_batch_has_its_own_answer():
    """A batch that failed in part refuses those items only; one that failed refuses all."""

    class Fussy(Backend):
        batch = Batch(count=3)

        def process_batch(self, items):
            if "x" in items:
                raise OSError
            raise BatchError({1: ValueError("the second")})

    source = Source(numbered("abcx12"))
    Pipeline(source).backend(Fussy, on_error="skip").run()
    assert kinds(source) == {
        "at a": "ack",
        "at b": ValueError,
        "at c": "ack",
        "at x": OSError,
        "at 1": OSError,
        "at 2": OSError,
    }


def test_what_cannot_be_read_is_answered_too():
    """A Failure with a position is refused with its error; what has no position is not answered."""
    source = Source([Failure(ValueError("no record"), position=1), "plain", Item("fine", 2)])
    Pipeline(source, on_error="skip").run()
    assert kinds(source) == {1: ValueError, 2: "ack"}


def test_async_and_ordered_stages_answer():
    """Whatever kind of stage an item ends in, it is answered."""

    async def refuse_odd(number):
        if number % 2:
            raise ValueError(number)
        return number

    source = Source(numbered(range(100)))
    pipeline = Pipeline(source).transport(refuse_odd, ordering="input", on_error="skip")
    pipeline.transport(lambda number: number, workers=4, ordering="input").run()
    assert [answer == "ack" for answer in kinds(source).values()].count(True) == 50
    assert len(source.answers) == 100


# -- when the run ends early


def test_what_a_failed_run_abandons_is_refused():
    """The item that failed the run is refused with its error, all others with an AbandonedError."""

    def refuse(number):
        raise ValueError(number)

    source = Source(numbered(range(50)))
    engine = Pipeline(source).transport(lambda item: item).backend(refuse).engine()
    with pytest.raises(StageError):
        engine.start()
    assert_accounted(engine.report())
    assert len(source.answers) == engine.report().produced
    counts = [*kinds(source).values()]
    assert counts.count(ValueError) == 1
    assert counts.count(AbandonedError) == len(counts) - 1
    assert source.log[-1] == "cleanup"


def test_results_that_nobody_takes_are_refused():
    """With results() an item is acknowledged when its result was taken, and refused if never."""
    source = Source(numbered(range(10)))
    with Pipeline(source).results() as results:
        assert next(results) == 0
    assert kinds(source).pop("at 0") == "ack"
    assert set(kinds(source).values()) == {"ack", AbandonedError}
    assert len(source.answers) == results.engine.report().produced


def test_what_a_hung_worker_holds_is_refused_once(at_end):
    """Past the deadline its item is refused; what becomes of it later is not told again."""
    held, late = threading.Event(), at_end

    def hang(item):
        held.set()
        late.wait(SOON)

    refused = threading.Event()

    class Told(Source):
        def nack(self, position, error):
            super().nack(position, error)
            refused.set()

    source = Told([Item("stuck", 1)])
    engine = Pipeline(source).backend(hang, name="hang").start()
    meet(held)
    report = engine.stop(timeout=0.2)
    assert [hung.stage for hung in report.hung] == ["hang"]
    meet(refused)
    late.set()
    for worker in engine.workers:
        worker.thread.join(SOON)
    assert kinds(source) == {1: AbandonedError}


# -- the frontend's own code


def test_answers_come_before_the_cleanup_and_in_one_thread():
    """All answers come from one thread that is not the producing one, before cleanup()."""
    threads = []

    class Told(Source):
        def ack(self, position):
            super().ack(position)
            threads.append(threading.current_thread().name)

    source = Told(numbered(range(100)))
    Pipeline(source).backend(lambda _: None, workers=4).run()
    assert source.log[-1] == "cleanup"
    assert len(source.log) == 101
    assert set(threads) == {"m3-Told-0-answers"}


def test_an_answer_that_raises_fails_the_run():
    """What ack() raises is told by the run; the others are answered all the same."""

    class Broken(Source):
        def ack(self, position):
            super().ack(position)
            if position == "at 1":
                raise ConnectionError("gone")

    source = Broken(numbered(range(3)))
    engine = Pipeline(source).engine()
    with pytest.raises(StageError, match="stage 'Broken', worker 0: ConnectionError: gone"):
        engine.start()
    assert len(source.answers) == engine.report().produced


def test_an_answer_that_hangs_is_named(at_end):
    """stop() returns by its deadline and says in which answer the frontend hangs."""
    held = threading.Event()

    class Stuck(Source):
        def ack(self, position):
            held.set()
            at_end.wait(SOON)

    engine = Pipeline(Stuck(numbered([1]))).start()
    meet(held)
    (hung,) = engine.stop(timeout=0.2).hung
    assert hung.stage == "Stuck"
    assert "in ack" in hung.stack
    at_end.set()
    for worker in engine.workers:
        worker.thread.join(SOON)


def test_either_answer_may_be_left_out():
    """A frontend that overrides ack() or nack() alone, or is no Frontend, is told that much."""
    acknowledged = []

    class Duck:
        def produce(self):
            return iter(numbered([1, 0]))

        def ack(self, position):
            acknowledged.append(position)

    Pipeline(Duck()).transport(lambda number: 1 // number, on_error="skip").run()
    assert acknowledged == ["at 1"]


def test_a_frontend_without_answers_pays_nothing():
    """No thread and no ledger for a frontend that does not ask what became of its items."""
    running = set()

    class Plain(Frontend):
        def produce(self):
            yield Item(1, 1)

    engine = Pipeline(Plain).backend(
        lambda _: running.update(thread.name for thread in threading.enumerate()), name="b"
    )
    engine.run()
    assert {name for name in running if name.startswith("m3-")} <= {"m3-Plain-0", "m3-b-0"}


def test_unanswered_items_are_bounded(monkeypatch, at_end):
    """A frontend whose answers are slow does not run ahead of them without bound."""
    monkeypatch.setattr("m3.engine.answers.MOST_UNANSWERED", 10)
    full = threading.Event()
    produced = []

    class Slow(Source):
        def produce(self):
            for number in itertools.count():
                produced.append(number)
                if len(produced) == 10:
                    full.set()
                yield Item(number, number)

        def ack(self, position):
            at_end.wait(SOON)

    engine = Pipeline(Slow([])).start()
    meet(full)
    stopping = in_thread(lambda: engine.stop(timeout=SOON))
    at_end.set()
    assert stopping().delivered == len(produced)
    assert engine.report().ok


def test_answers_of_several_frontends_do_not_mix():
    """Each worker of each frontend is told about its own items."""
    sources = [Source([Item(n, (name, n)) for n in range(100)]) for name in "ab"]
    pipeline = Pipeline(sources[0]).frontend(sources[1])
    pipeline.transport(str, workers=3).backend(lambda _: None, workers=3).run()
    assert [{name for name, _ in source.answers} for source in sources] == [{"a"}, {"b"}]
    assert [len(source.answers) for source in sources] == [100, 100]


# -- frontends that want to know more, and less often


def fail_at_2(number):
    if number == 2:
        raise ValueError("two")
    return number


@pytest.mark.parametrize(("policy", "answer"), [("dead_letter", "kept: two"), ("skip", None)])
def test_acks_come_in_lists_where_they_are_taken_so(tmp_path, policy, answer):
    """Each position is still answered once, and what is kept as a dead letter is told apart."""
    source = ListSource(numbered(range(5)))
    pipeline = Pipeline(source, dead_letters=tmp_path / "letters.jsonl")
    pipeline.transport(fail_at_2, on_error=policy).backend(Keep([])).run()
    failed = source.answers.pop("at 2")
    assert failed == answer or (answer is None and isinstance(failed, ValueError))
    assert source.answers == dict.fromkeys(["at 0", "at 1", "at 3", "at 4"], "ack")
    assert sum(source.sizes) == 4


def test_a_dead_letter_is_a_nack_to_others(tmp_path):
    """A frontend that does not ask for more is told that the item was not delivered."""
    source = Source(numbered(range(3)))
    pipeline = Pipeline(source, dead_letters=tmp_path / "letters.jsonl")
    pipeline.transport(fail_at_2, on_error="dead_letter").backend(Keep([])).run()
    assert kinds(source) == {"at 0": "ack", "at 1": "ack", "at 2": ValueError}


def test_what_acknowledging_a_list_raises_fails_the_run():
    """As with single acks; other answers are given all the same."""

    class Broken(ListSource):
        def ack_batch(self, positions):
            super().ack_batch(positions)
            if "at 1" in positions:
                raise OSError("the queue is gone")

    source = Broken(numbered(range(3)))
    engine = Pipeline(source).backend(Keep([])).engine()
    with pytest.raises(StageError, match="the queue is gone"):
        engine.start()
    assert len(source.answers) == engine.report().produced
