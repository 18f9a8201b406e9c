"""Messages that are held, however many threads take and answer them."""

import logging
import sys
import threading

import pytest

from m3.connectors._aws.receipts import Queue, Receipt, Receipts
from m3.connectors.sqs import SqsFrontend
from m3.errors import RefusedError


def receipt(number):
    return Receipt(f"message {number}", 1, f"handle {number}")


class Held:
    """Stands for a queue: notes what is held, and may fail."""

    def __init__(self, answer=lambda receipts: {}):
        self.answer = answer
        self.calls = []
        self.called = threading.Semaphore(0)

    def hold(self, receipts, seconds):
        self.calls.append((list(receipts), seconds))
        self.called.release()
        return self.answer(receipts) if seconds else {}

    def await_calls(self, count):
        for _ in range(count):
            assert self.called.acquire(timeout=20)


@pytest.fixture
def holding():
    """Return what begins to hold messages of a queue, a second at a time."""
    begun = []

    def begin(queue, longest=100.0, changed=None):
        receipts = Receipts(queue, visibility=1, longest=longest)
        receipts._changed = changed or receipts._changed
        receipts.open()
        begun.append(receipts)
        return receipts

    yield begin
    for each in begun:
        if each._thread.is_alive():
            each.close()


def test_a_message_is_renewed_again_and_again(holding):
    """As long as it is held, and no longer; at the end it is given back if it is held still."""
    queue = Held()
    receipts = holding(queue)
    receipts.add([receipt(1), receipt(2)])
    queue.await_calls(2)
    receipts.forget([receipt(1)])
    receipts.close()
    assert queue.calls[0] == ([receipt(1), receipt(2)], 1)
    assert queue.calls[-1] == ([receipt(2)], 0)


def test_one_that_cannot_be_renewed_is_tried_again(holding, caplog):
    """An error of the connection ends nothing; a log tells of it."""

    def fail(receipts):
        raise OSError("no connection")

    queue = Held(fail)
    receipts = holding(queue)
    with caplog.at_level(logging.WARNING):
        receipts.add([receipt(1)])
        queue.await_calls(2)
        receipts.close()
    assert "message 1 may come twice, it could not be held: OSError: no connection" in caplog.text


def test_one_that_others_have_is_held_no_more(holding, caplog):
    """Its receipt is of no use any more."""
    queue = Held(lambda receipts: {0: RefusedError("ReceiptHandleIsInvalid", "it has expired")})
    receipts = holding(queue)
    with caplog.at_level(logging.WARNING):
        receipts.add([receipt(1)])
        queue.await_calls(1)
        receipts.close()
    assert queue.calls[-1] == ([], 0)
    assert caplog.text.count("may come twice") == 1


def test_one_that_takes_too_long_is_held_no_more(holding, caplog):
    """After the longest time it is left to its timeout, without a word to the queue."""
    queue = Held()
    receipts = holding(queue, longest=0.0)
    with caplog.at_level(logging.WARNING):
        receipts.add([receipt(1)])
        while "is held no longer" not in caplog.text:
            threading.Event().wait(0.01)
        receipts.close()
    assert queue.calls == [([], 0)]


@pytest.mark.parametrize("interval", [1e-6, 0.005])
def test_many_threads_may_take_and_answer(holding, interval):
    """What each thread forgets is held no more; all else is given back at the end."""
    queue = Held()
    receipts = holding(queue)
    before = sys.getswitchinterval()

    def work(first):
        for number in range(first, first + 200):
            receipts.add([receipt(number)])
            if number % 10:
                receipts.forget([receipt(number)])

    threads = [threading.Thread(target=work, args=(1000 * each,)) for each in range(8)]
    sys.setswitchinterval(interval)
    try:
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        receipts.close()
    finally:
        sys.setswitchinterval(before)
    left, seconds = queue.calls[-1]
    wanted = [receipt(1000 * each + number) for each in range(8) for number in range(0, 200, 10)]
    assert seconds == 0
    assert sorted(left) == sorted(wanted)


class Telling(threading.Condition):
    """A condition that tells when a thread of some name waits for it."""

    def __init__(self, name, waits):
        super().__init__()
        self.name, self.waits = name, waits

    def wait(self, timeout=None):
        if threading.current_thread().name == self.name:
            self.waits.set()
        return super().wait(timeout)


def test_a_message_that_failed_comes_again_when_it_is_to(holding):
    """A renewal that was under way when a message failed does not outlast its retry_after."""
    is_renewing, has_failed, arrived = threading.Event(), threading.Event(), []

    class Slow(Held):
        def hold(self, receipts, seconds):
            if seconds == 1:
                is_renewing.set()
                assert has_failed.wait(20)
            arrived.append(seconds)
            has_failed.set()
            return {}

    frontend = SqsFrontend(queue="https://queue", retry_after=7)
    frontend._queue = Slow()
    frontend._receipts = holding(frontend._queue, changed=Telling("failing", has_failed))
    frontend._receipts.add([receipt(1)])
    assert is_renewing.wait(20)
    failing = threading.Thread(
        target=frontend.nack, args=(receipt(1), ValueError()), name="failing"
    )
    failing.start()
    failing.join()
    frontend.cleanup()
    assert arrived == [1, 7, 0]


class Client:
    """Deletes in calls of a few, and refuses some for now."""

    def __init__(self, times):
        self.times = times
        self.calls = []

    def delete_message_batch(self, QueueUrl, Entries):  # noqa: N803 - AWS's names
        self.calls.append([each["ReceiptHandle"] for each in Entries])
        failed = [each for each in Entries if self.times.get(each["ReceiptHandle"], 0) > 0]
        for each in failed:
            self.times[each["ReceiptHandle"]] -= 1
        return {
            "Failed": [
                {"Id": each["Id"], "Code": "InternalError", "SenderFault": False} for each in failed
            ]
        }


def test_deletions_are_gathered_and_repeated():
    """Ten in a call, and only what was refused for now again."""
    client = Client({"handle 3": 1})
    assert Queue(client, "url").delete([receipt(number) for number in range(12)]) == {}
    assert [len(call) for call in client.calls] == [10, 1, 2]
    assert client.calls[1] == ["handle 3"]
