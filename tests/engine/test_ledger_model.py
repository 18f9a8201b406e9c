"""The ledger and what waits for another attempt, against models of a few lines each."""

import time
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from m3 import Item
from m3._flights import Flight, Flights
from m3._loops import pump, take
from m3._parking import Switch
from m3._queue import BoundedQueue
from m3._steps import Send
from m3._tokens import ABANDONED, DEAD_LETTERED, DELIVERED, DROPPED, FAILED, Ledger, Tally
from m3._waiting import Attempt, Waiting

OUTCOMES = {
    DROPPED: "dropped",
    DELIVERED: "delivered",
    DEAD_LETTERED: "dead_lettered",
    ABANDONED: "abandoned",
    FAILED: "failed",
}


class Open:
    """What the model knows of an item on its way."""

    def __init__(self, number, token):
        self.number = number
        self.token = token
        self.pending = 1
        self.worst = DROPPED


def flight(token):
    """Return what stands for an item, or for one thing made from it."""
    return Flight(None, token, 0, 0.0)


class LedgerMachine(RuleBasedStateMachine):
    """Items are produced, multiplied and ended in any order; who is to know is told the worst."""

    @initialize(answering=st.booleans(), marking=st.booleans())
    def begin(self, answering, marking):
        self.answering, self.marking = answering, marking
        self.aborting = Switch()
        self.ledger = Ledger(64, answering=answering, marking=marking, aborting=self.aborting)
        self.tally, self.queue = Tally(), BoundedQueue()
        self.copies = Send(self.tally, BoundedQueue())
        self.step = Flights(self.tally)
        self.produced = 0
        self.open, self.ended = [], Counter()
        self.done, self.low, self.below = {}, 0, Counter()
        self.told, self.is_over = [], False

    @precondition(lambda self: self.produced - self.low < 60 and len(self.told) < 60)
    @rule(count=st.integers(1, 4))
    def produce(self, count):
        numbers = range(self.produced, self.produced + count)
        items = iter([Item(f"item {number}", number) for number in numbers])
        sender = Send(self.tally, self.queue)
        pump(items, sender, self.tally, None, Switch(), False, self.ledger)
        for number in numbers:
            item, token, _ = take(self.queue)
            assert item == f"item {number}"
            assert token.position == number
            self.open.append(Open(number, token))
        self.produced += count

    @precondition(lambda self: self.open)
    @rule(data=st.data(), more=st.integers(1, 3))
    def multiply(self, data, more):
        item = data.draw(st.sampled_from(self.open))
        for _ in range(more):
            self.step.pass_on(flight(item.token), None, False, self.copies)
        item.pending += more

    @precondition(lambda self: self.open)
    @rule(data=st.data(), outcome=st.sampled_from(list(OUTCOMES)))
    def end(self, data, outcome):
        item = data.draw(st.sampled_from(self.open))
        self.step.end(outcome, flight(item.token))
        item.pending -= 1
        item.worst = max(item.worst, outcome)
        if item.pending == 0:
            self.open.remove(item)
            self.ended[OUTCOMES[item.worst]] += 1
            answer = (item.number, item.worst, None)
            if self.marking and self.is_over and item.worst in (DROPPED, DELIVERED):
                answer = (item.number, ABANDONED, None)  # it will come again
            if self.marking and not self.is_over:
                self.done[item.number] = answer
            else:
                self.told.append(answer)

    @rule()
    def abort(self):
        self.aborting.turn_on()
        self.is_over = True

    @precondition(lambda self: self.marking)
    @rule()
    def advance(self):
        first = self.low
        while self.low in self.done:
            self.told.append(self.done[self.low])
            self.below[OUTCOMES[self.done[self.low][1]]] += 1
            self.low += 1
        assert self.ledger.advance() == self.low - first
        assert {name: getattr(self.ledger.below, name) for name in OUTCOMES.values()} == {
            name: self.below[name] for name in OUTCOMES.values()
        }
        assert self.ledger.low_mark == (self.low - 1 if self.low else None)
        self.ledger.release()

    @precondition(lambda self: self.answering and self.told)
    @rule()
    def answer(self):
        answers = [token.answer for token in self.ledger.answers.get_many(1000)]
        assert answers == self.told
        for _ in answers:
            self.ledger.answered()
        self.told = []

    @invariant()
    def every_item_is_counted_once(self):
        assert self.tally.produced == self.produced
        assert {name: getattr(self.tally, name) for name in OUTCOMES.values()} == {
            name: self.ended[name] for name in OUTCOMES.values()
        }
        assert self.tally.in_flight == len(self.open)

    @invariant()
    def what_is_open_is_known(self):
        if self.answering:
            assert self.ledger.is_open == bool(self.open)
            assert self.ledger.answers.qsize() == len(self.told)

    def teardown(self):
        if self.answering and self.marking:
            beyond = {number for number in self.done if number >= self.low}
            self.ledger.answer_rest()
            told = self.ledger.answers.get_many(1000) if self.ledger.answers.qsize() else []
            rest = [token.answer for token in told[len(self.told) :]]
            assert set(rest) == {(number, ABANDONED, None) for number in beyond}


class WaitingMachine(RuleBasedStateMachine):
    """Attempts come out when they are due, the earliest first, each once."""

    @initialize()
    def begin(self):
        self.waiting = Waiting(Switch(), 10)
        self.model = []
        self.added = 0

    @rule(ago=st.integers(1, 5), is_due=st.booleans(), failures=st.integers(1, 9))
    def put(self, ago, is_due, failures):
        due = -float(ago) if is_due else time.monotonic() + 1000 * ago
        self.added += 1
        self.waiting.add(Attempt(self.added, None, failures, 1.5), due)
        self.model.append((due, self.added, failures))
        self.model.sort()

    @rule()
    def pop(self):
        attempt = self.waiting.take_due()
        if self.model and self.model[0][0] < 0:
            _, item, failures = self.model.pop(0)
            assert (attempt.item, attempt.failures, attempt.since) == (item, failures, 1.5)
        else:
            assert attempt is None

    @rule()
    def take_all(self):
        assert [attempt.item for attempt in self.waiting.take_all()] == [
            item for _, item, _ in self.model
        ]
        self.model = []

    @invariant()
    def it_knows_how_many_and_when(self):
        assert len(self.waiting) == len(self.model)
        assert self.waiting.due() == (self.model[0][0] if self.model else float("inf"))


TestLedger = LedgerMachine.TestCase
TestWaiting = WaitingMachine.TestCase
TestLedger.settings = TestWaiting.settings = settings(max_examples=100, deadline=None)
