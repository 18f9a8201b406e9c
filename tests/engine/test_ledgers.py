"""The ledgers of the frontends, while a run that is given up and its checkpoints both use them."""

import threading
from collections import Counter
from types import SimpleNamespace

import pytest

from m3 import Frontend, Item
from m3._flights import Flight, Flights
from m3._loops import pump, take
from m3._parking import Switch
from m3._queue import BoundedQueue
from m3._steps import Send
from m3._tokens import DELIVERED, Tally
from m3.engine.books import Books
from m3.engine.ledgers import Ledgers, Member

COUNT = 200


class Told(Frontend):
    def produce(self):
        yield from ()

    def ack(self, position):
        pass

    def resume(self, checkpoint):
        pass


def ended_items(ledgers):
    """Open *ledgers* for one frontend, all of whose items have ended; return its ledger."""
    worker = SimpleNamespace(work=SimpleNamespace(ledger=None))
    ledgers.open([Member("told/0", worker, Told())], gate=None, is_kept=True)
    ledger, tally, queue = worker.work.ledger, Tally(), BoundedQueue()
    items = iter([Item(number, number) for number in range(COUNT)])
    pump(items, Send(tally, queue), tally, None, Switch(), False, ledger)
    for _ in range(COUNT):
        item, token, _ = take(queue)
        Flights(tally).end(DELIVERED, Flight(item, token, 0, 0.0))
    return ledger


@pytest.mark.parametrize("rounds", [300])
def test_a_run_given_up_in_the_middle_of_a_checkpoint_answers_once(hurried, rounds):
    """Each item is answered exactly once, whether it was below the mark by then or not."""
    for _ in range(rounds):
        ledgers = Ledgers(Books(()), hurry=lambda: None, aborting=Switch())
        ledger = ended_items(ledgers)
        together = threading.Barrier(2)

        def give_up(ledgers=ledgers, together=together):
            together.wait()
            ledgers.answer_rest()

        thread = threading.Thread(target=give_up)
        thread.start()
        together.wait()
        ledgers.advance()
        ledgers.release()
        thread.join()
        ledgers.answer_rest()
        answers = ledger.answers.get_many(2 * COUNT)
        assert Counter(token.position for token in answers) == dict.fromkeys(range(COUNT), 1)
