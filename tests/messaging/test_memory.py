"""The bus in memory, beyond what is promised on every bus."""

import threading
from time import monotonic

import pytest

from m3.errors import BusError
from m3.messaging import Exchange, Message, Queue, connect
from m3.messaging._memory.timer import Timer

PATIENCE = 20


def test_buses_of_one_name_are_the_same():
    """What one bus publishes, another one of its name receives; one of another name does not."""
    with (
        connect("memory://a") as one,
        connect("memory://a") as same,
        connect("memory://b") as other,
    ):
        queue = Queue("jobs")
        consumer = same.consumer(queue)
        outsider = other.consumer(queue)
        one.publish(Message(body=b"1"), routing_key="jobs")
        assert consumer.receive(timeout=10).message.body == b"1"
        assert outsider.receive(timeout=0) is None


def test_messages_go_with_the_last_bus():
    """A bus that is set up when no other one of its name is begins with nothing."""
    queue = Queue("jobs")
    with connect("memory://a") as bus:
        bus.declare(queue)
        bus.publish(Message(body=b"1"), routing_key="jobs")
    with connect("memory://a") as bus:
        assert bus.consumer(queue).receive(timeout=0) is None


def test_no_thread_is_left():
    """The timer's thread ends with the last bus, whatever was still to come."""
    before = threading.active_count()
    with connect("memory://a") as bus:
        bus.declare(Queue("jobs"))
        bus.publish(Message(body=b"1", expiration=3600), routing_key="jobs")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_a_bus_that_is_not_set_up_says_so():
    """Nothing can be done with a bus before its setup, or after its shutdown."""
    bus = connect("memory://a")
    with pytest.raises(BusError, match="not connected"):
        bus.publish(Message(body=b""), routing_key="jobs")


def test_what_is_offered_wakes_nobody():
    """Whoever publishes, or settles, hands over the next message itself to who waits."""
    threads, taken = [], []
    with connect("memory://a") as bus:
        consumer = bus.consumer(Queue("jobs"))

        def take(delivery):
            threads.append(threading.current_thread())
            taken.append(delivery)
            return True

        consumer.offer_to(take)
        receiving = threading.Thread(target=consumer.receive)
        receiving.start()
        until_waiting(consumer)
        for number in range(10):
            bus.publish(Message(body=b"%d" % number), routing_key="jobs")
        for number in range(10):
            assert taken[number].message.body == b"%d" % number
            consumer.ack(taken[number])
        consumer.stop()
        receiving.join()
    assert set(threads) == {threading.current_thread()}


def test_what_is_not_taken_in_time_goes_to_others():
    """A message that was offered in vain to who is stopped meanwhile is another one's."""
    with connect("memory://a") as bus:
        first = bus.consumer(Queue("jobs"))

        def take(_):
            first.stop()
            return False

        first.offer_to(take)
        receiving = threading.Thread(target=first.receive)
        receiving.start()
        until_waiting(first)
        bus.publish(Message(body=b"1"), routing_key="jobs")
        receiving.join()
        received = bus.consumer(Queue("jobs")).receive(timeout=0)
        assert received.message.body == b"1"
        assert received.attempts == 1


def test_what_is_offered_survives_a_signal():
    """Whoever is interrupted while handing over a message leaves it to who waits."""
    with connect("memory://a") as bus:
        consumer, received = bus.consumer(Queue("jobs")), []

        def take(_):
            raise KeyboardInterrupt

        consumer.offer_to(take)
        receiving = threading.Thread(target=lambda: received.append(consumer.receive(10)))
        receiving.start()
        until_waiting(consumer)
        with pytest.raises(KeyboardInterrupt):
            bus.publish(Message(body=b"1"), routing_key="jobs")
        receiving.join()
        assert received[0].message.body == b"1"


def until_waiting(consumer):
    """Return when another thread waits in ``receive``."""
    for _ in range(10**6):
        if consumer._is_waiting:
            return
    raise AssertionError("it never waits")


def test_an_interrupted_wait_loses_nothing():
    """What a consumer was woken for when a signal ended its wait goes to another one."""
    with connect("memory://a") as bus:
        first, second = bus.consumer(Queue("jobs")), bus.consumer(Queue("jobs"))

        class Interrupted:
            def wait(self, timeout):
                bus.publish(Message(body=b"1"), routing_key="jobs")
                raise KeyboardInterrupt

            def ring(self):
                pass

        first._bell = Interrupted()
        received = []
        waiting = threading.Thread(target=lambda: received.append(second.receive(10)))
        with pytest.raises(KeyboardInterrupt):
            first.receive()
        waiting.start()
        waiting.join()
        assert [delivery.message.body for delivery in received] == [b"1"]


def test_thousands_wait_and_one_is_woken():
    """A message wakes the one consumer that has waited longest, and nobody else."""
    with connect("memory://a") as bus:
        consumers = [bus.consumer(Queue("jobs")) for _ in range(1000)]
        for consumer in consumers:
            with consumer._broker.lock:
                consumer._enlist()
        bus.publish(Message(body=b"1"), routing_key="jobs")
        assert [one._is_waiting for one in consumers] == [False] + [True] * 999
        assert consumers[0]._bell.wait(0)
        assert consumers[0].receive(0).message.body == b"1"


def test_a_shutdown_wakes_publishers():
    """Who waits for room in a queue learns that the bus was shut down."""
    bus = connect("memory://a")
    bus.setup()
    bus.declare(Queue("jobs", options={"max_length": 1}))
    bus.publish(Message(body=b"1"), routing_key="jobs")
    began, raised = threading.Event(), []

    def publish():
        began.set()
        try:
            bus.publish(Message(body=b"2"), routing_key="jobs", timeout=None)
        except BusError as error:
            raised.append(str(error))

    thread = threading.Thread(target=publish)
    thread.start()
    began.wait(10)
    bus.shutdown()
    thread.join()
    assert "not connected" in raised[0]


def test_who_is_called_for_two_messages_leaves_one_to_others():
    """A consumer of several queues that takes one message wakes who waits for the other."""
    fanout = Exchange("fanout", type="fanout")
    one, two = Queue("one", fanout), Queue("two", fanout)
    with connect("memory://a") as bus:
        bus.declare(one, two)
        first, second = bus.consumer([two, one]), bus.consumer(one)
        with first._broker.lock:
            first._enlist()
            second._enlist()
        bus.publish(Message(body=b"1"), exchange="fanout")
        assert first.receive(0).queue == "two"
        assert second._bell.wait(0)
        assert second.receive(0).queue == "one"


class Interleaved:
    """Becomes the lock of a broker; something happens as soon as it is let go."""

    def __init__(self, broker, act):
        self.broker, self.act = broker, act
        self.lock, broker.lock = broker.lock, self

    def __enter__(self):
        return self.lock.__enter__()

    def __exit__(self, *error):
        self.lock.__exit__(*error)
        self.broker.lock = self.lock
        self.act()


def test_a_queue_that_goes_while_a_consumer_comes():
    """Whoever begins to receive finds the queue, though its last consumer ends just then."""
    queue = Queue("seat", auto_delete=True)
    with connect("memory://a") as bus:
        Interleaved(bus._broker, bus.consumer(queue).close)
        with bus.consumer(queue) as consumer:
            bus.publish(Message(body=b"1"), routing_key="seat", mandatory=True)
            assert consumer.receive(0).message.body == b"1"


def test_a_queue_that_is_deleted_while_a_listener_comes():
    """Whoever begins to listen finds the queue, though somebody deletes it just then."""
    queue = Queue("seat")
    with connect("memory://a") as bus:
        bus.declare(queue)
        bus.publish(Message(body=b"1"), routing_key="seat")
        heard = []
        Interleaved(bus._broker, lambda: bus.delete(queue))
        bus.listen(queue, heard.append, id).close()
    assert [message.body for message in heard] == [b"1"]


def test_an_empty_queue_is_deleted():
    """A queue that was deleted is there no longer, also if there was no message in it."""
    with connect("memory://a") as bus:
        bus.declare(Queue("jobs"))
        bus.delete(Queue("jobs"))
        with pytest.raises(BusError, match="no queue"):
            bus.publish(Message(body=b"1"), routing_key="jobs", mandatory=True)


# -- what fails on the way


@pytest.fixture
def no_thread(monkeypatch):
    """Let no thread begin, until what is returned is called."""

    def start(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        yield patch.undo


def test_a_delay_that_no_thread_can_end(no_thread, caplog):
    """A message that cannot be put off goes back at once; a later one is put off again."""
    with connect("memory://a") as bus:
        consumer = bus.consumer(Queue("jobs"))
        bus.publish(Message(body=b"1"), routing_key="jobs")
        consumer.requeue(consumer.receive(0), 3600)
        again = consumer.receive(0)
        assert again.attempts == 2
        assert "goes back at once: can't start new thread" in caplog.text
        no_thread()
        consumer.requeue(again, 0.001)
        assert consumer.receive(PATIENCE).attempts == 3


def test_an_end_that_no_thread_can_wait_for(no_thread, caplog):
    """A message that expires is published also if no thread can be; the next one has it."""
    with connect("memory://a") as bus:
        bus.declare(Queue("jobs", dead_letter="dead"))
        bus.publish(Message(body=b"1", expiration=0.001), routing_key="jobs")
        assert "what expires in 'jobs' stays" in caplog.text
        no_thread()
        bus.publish(Message(body=b"2", expiration=3600), routing_key="jobs")
        assert bus.consumer(Queue("dead")).receive(PATIENCE).message.body == b"1"


def test_a_timer_outlives_what_it_calls(caplog):
    """What is due is called, also if something that was due before it has failed."""
    timer, is_called = Timer(), threading.Event()
    timer.call_at(monotonic(), lambda: 1 / 0)
    timer.call_at(monotonic(), is_called.set)
    assert is_called.wait(PATIENCE)
    timer.close()
    assert "ZeroDivisionError" in caplog.text


def test_all_hear_what_was_published():
    """A message is heard in each queue that gets it, also if hearing it raises in one before."""
    fanout, heard = Exchange("fanout", type="fanout"), []
    with connect("memory://a") as bus:
        for name, hear in (("one", lambda _: 1 / 0), ("two", heard.append)):
            bus.listen(Queue(name, fanout, exclusive=True), hear, id)
        with pytest.raises(ZeroDivisionError):
            bus.publish(Message(body=b"1"), exchange="fanout")
    assert [message.body for message in heard] == [b"1"]


def test_who_fails_to_listen_has_no_queue():
    """A listener that raises at what is in its queue leaves that to others."""
    queue = Queue("seat")
    with connect("memory://a") as bus:
        bus.declare(queue)
        bus.publish(Message(body=b"1"), routing_key="seat")
        with pytest.raises(ZeroDivisionError):
            bus.listen(queue, lambda _: 1 / 0, id)
        bus.listen(queue, id, id).close()


def test_a_shutdown_goes_on_to_its_end():
    """Whatever closing a consumer raises, the others are closed, and the messages are gone."""
    with pytest.raises(ZeroDivisionError), connect("memory://a") as bus:
        bus.listen(Queue("ears", exclusive=True), id, lambda _: 1 / 0)
        consumer = bus.consumer(Queue("jobs"))
        bus.publish(Message(body=b"1"), routing_key="jobs")
    assert consumer.is_stopped
    with connect("memory://a") as bus:
        assert bus.consumer(Queue("jobs")).receive(0) is None
