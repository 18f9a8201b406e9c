"""What becomes of calls, messages and consumers when a connection, or the bus on RabbitMQ, ends."""

import logging
import socket
import threading
from collections import deque
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from uuid import uuid4

import pytest
from signalled import interrupted_at_each_moment

from m3.errors import BusError
from m3.messaging import Message, Queue, connect
from m3.messaging._amqp import consumer as consumers
from m3.messaging._amqp.link import Call, Link
from m3.messaging._amqp.listener import AmqpListener
from m3.messaging._amqp.publishing import Parcel, Publishing
from m3.messaging._amqp.topology import Topology
from m3.messaging.entities import Delivery
from m3.policies import Backoff

PATIENCE = 30
SOON = 5
LOGGER = logging.getLogger("m3-test")


def nothing(*_):
    """Do nothing."""


def link_of(duty):
    return Link(None, duty, "tests", Backoff(), LOGGER)


# -- the link


@pytest.mark.parametrize("_", range(20))
def test_what_others_ask_for_while_a_connection_is_lost(_):
    """All that is to be done stays, in order, also while other threads add to it."""
    link = link_of(SimpleNamespace(interrupt=nothing))
    link._errands.extend(range(1000))
    adding = [
        threading.Thread(target=lambda: [link._errands.append(1000) for _ in range(20000)])
        for _ in range(3)
    ]
    for thread in adding:
        thread.start()
    while any(thread.is_alive() for thread in adding):
        link._lose(ConnectionResetError())
    assert list(link._errands) == [*range(1000), *[1000] * 60000]


def test_a_lost_connection_gives_up_what_is_not_begun_again():
    """A call that is for this connection only ends with it; whatever else waits is for the next."""
    link = link_of(SimpleNamespace(interrupt=nothing))
    once, again = Call(nothing, again=False), Call(nothing, again=True)
    link._errands.extend([once, again])
    link._lose(ConnectionResetError())
    assert list(link._errands) == [again]
    assert once.wait(0)
    with pytest.raises(BusError, match="is lost"):
        once.result()


def test_a_duty_that_fails_ends_no_link(caplog):
    """What a duty raises when its connection is lost is logged, and another one is made."""

    def interrupt():
        raise ZeroDivisionError

    link_of(SimpleNamespace(interrupt=interrupt))._lose(ConnectionResetError())
    assert "ZeroDivisionError" in caplog.text


def test_a_call_that_was_given_up_is_not_done():
    """Who has got the error of a call can be sure that it is not done afterwards."""
    done = []
    call = Call(done.append, again=True)
    call.give_up(BusError("it was lost too often"))
    assert call.wait(0)
    call("another connection")
    assert done == []


def test_a_call_that_nobody_waits_for_is_not_done():
    """A call whose time was over is not done afterwards."""
    done = []
    call = Call(done.append, again=True)
    assert not call.wait(0)
    call("a connection")
    assert done == []


def test_who_waits_for_a_call_is_told_of_the_end_though_a_duty_fails():
    """A closed link gives up its calls also if what it ends raises, and that comes out."""

    def end(_):
        raise ZeroDivisionError

    link = link_of(SimpleNamespace(end=end))
    call = Call(nothing, again=True)
    link._errands.append(call)
    with pytest.raises(ZeroDivisionError):
        link._drop_errands()
    assert call.wait(0)
    with pytest.raises(BusError, match="is closed"):
        call.result()


def test_a_link_that_gets_no_thread_leaves_nothing_open(monkeypatch):
    """A connection that no thread can keep up is closed, and so are the sockets beside it."""
    closed = []
    link = Link(
        SimpleNamespace(connect=lambda _: Connected(closed)), None, "tests", Backoff(), LOGGER
    )
    monkeypatch.setattr(threading.Thread, "start", cannot_start)
    with pytest.raises(RuntimeError, match="can't start"):
        link.open()
    assert closed == ["close", "collect"]
    assert [each.fileno() for each in link._own] == [-1] * 4


class Connected:
    """Stands for a connection."""

    connected = False
    sock = SimpleNamespace(fileno=lambda: -1)

    def __init__(self, closed):
        self.close = partial(closed.append, "close")
        self.collect = partial(closed.append, "collect")


def cannot_start(_):
    raise RuntimeError("can't start new thread")


def test_a_shutdown_that_is_interrupted_closes_all_the_same():
    """Whatever closing a consumer raises, both connections are closed, and that comes out."""
    closed = []

    def duty(name, *consumers):
        close = partial(closed.append, name)
        link = SimpleNamespace(close=close, is_inherited=lambda: False)
        return SimpleNamespace(link=link, consumers=consumers)

    def interrupted():
        raise KeyboardInterrupt

    bus = connect("amqp://")
    other = SimpleNamespace(close=partial(closed.append, "consumer"))
    bus._publishing = duty("publishing")
    bus._consuming = duty("receiving", SimpleNamespace(close=interrupted), other)
    with pytest.raises(KeyboardInterrupt):
        bus.shutdown()
    assert closed == ["consumer", "publishing", "receiving"]


# -- messages on their way


def test_all_are_told_that_publishing_ends():
    """Each message is given up, also if telling of one before raises; the first error comes out."""
    publishing, told = Publishing(Topology(None, LOGGER)), []

    def tell(error, then):
        told.append(then)
        if then is not None:
            raise then(error)

    publishing._waiting.extend(
        Parcel(None, "", "queue", mandatory=False, then=partial(tell, then=then))
        for then in (LookupError, IndexError, None)
    )
    with pytest.raises(LookupError) as raised:
        publishing.end(BusError("closed"))
    assert raised.type is LookupError
    assert told == [LookupError, IndexError, None]


def test_several_threads_end_publishing():
    """Each message that was on its way when the bus is closed is given up by one thread."""
    publishing = Publishing(Topology(None, LOGGER))
    parcels = [Parcel(None, "", "queue", mandatory=False) for _ in range(3)]
    publishing._unconfirmed = dict(enumerate(parcels))
    given_up = []

    class Interleaved(deque):
        """Another thread ends it just before something is put back."""

        def extendleft(self, parcels):
            parcels = list(parcels)
            given_up.append(parcels)
            if len(given_up) == 1:
                other = threading.Thread(target=publishing.end, args=(BusError("other"),))
                other.start()
                other.join(PATIENCE)
            super().extendleft(parcels)

    publishing._waiting = Interleaved()
    publishing.end(BusError("closed"))
    assert given_up == [parcels[::-1], []]
    assert all(parcel.is_over for parcel in parcels)


# -- consumers


def test_what_is_not_received_is_received_next():
    """A signal while a message is received takes neither that nor its place from the consumer."""
    consuming = SimpleNamespace(link=SimpleNamespace(check_process=nothing))

    def scenario(_, interrupt):
        consumer = consumers.AmqpConsumer((Queue("queue"),), 1, consuming, None)
        deliveries = [Delivery(Message(body=b""), "queue", tag, False, 1) for tag in range(2)]
        consumer._arrived.extend(deliveries)
        received = interrupt(consumer.receive, 0)
        assert (received or consumer.receive(0)) is deliveries[0]
        assert list(consumer._arrived) == deliveries[1:]
        assert list(consumer._unsettled) == [0]

    interrupted_at_each_moment(nullcontext, scenario)


def test_all_consumers_are_told_of_the_end():
    """Each is stopped, also if one before it raises, and that comes out."""
    stopped = []

    def stop():
        raise ZeroDivisionError

    consuming = consumers.Consuming(Topology(None, LOGGER), Backoff(), LOGGER)
    consuming.consumers += [
        SimpleNamespace(stop=stop),
        SimpleNamespace(stop=partial(stopped.append, "stopped")),
    ]
    with pytest.raises(ZeroDivisionError):
        consuming.end(BusError("closed"))
    assert stopped == ["stopped"]


def test_a_listener_ends_once():
    """A listener that several threads close says once that it has ended."""
    ended, inherited = [], []

    def is_inherited():
        if not inherited:
            inherited.append(False)
            other = threading.Thread(target=listener.stop)
            other.start()
            other.join(PATIENCE)
        return False

    link = SimpleNamespace(is_inherited=is_inherited, post=nothing)
    consuming = SimpleNamespace(link=link)
    listener = AmqpListener(Queue("queue"), nothing, ended.append, consuming, None)
    listener.stop()
    assert ended == [None]


class Pause:
    """Holds a link's thread where it declares a queue again."""

    def __init__(self):
        self.queue = None
        self.is_there, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, entity):
        if entity.name == self.queue:
            self.queue = None
            self.is_there.set()
            self.may_go_on.wait(PATIENCE)


@pytest.fixture
def pause():
    pause = Pause()
    yield pause
    pause.may_go_on.set()


@pytest.fixture
def bus(rabbitmq, pause):
    with connect(rabbitmq, on_declare=pause, reconnect=Backoff(initial=0.01, maximum=0.1)) as bus:
        yield bus
        pause.may_go_on.set()


@pytest.fixture
def queues(bus):
    """Return two queues of the test's own."""
    queues = [Queue(f"m3-test-{uuid4().hex}", durable=False) for _ in range(2)]
    yield queues
    bus.delete(*queues)


def lose(bus, pause, queue):
    """Lose the connection that is received on; return while *queue* is declared on the next."""
    pause.queue = queue.name
    bus._consuming.link._sockets[0].shutdown(socket.SHUT_RDWR)
    assert pause.is_there.wait(PATIENCE)


def go_on(bus, pause):
    """Return when the link's thread has done all that was asked of it so far."""
    pause.may_go_on.set()
    bus._consuming.link.call(nothing, PATIENCE)


def bodies_received(bus, queue, count):
    """Publish messages to a queue, and return what another consumer of it receives."""
    for number in range(count):
        bus.publish(Message(body=b"%d" % number), routing_key=queue.name, mandatory=True)
    received = []
    with bus.consumer(queue, prefetch=count) as consumer:
        while len(received) < count and (delivery := consumer.receive(SOON)) is not None:
            received.append(delivery.message.body)
            consumer.ack(delivery)
    return received


@pytest.mark.services
@pytest.mark.parametrize("place", [0, 1])
def test_a_consumer_closed_while_it_is_connected_again(bus, queues, pause, place):
    """A closed consumer keeps no message from others, even if it was just being resumed."""
    first, second = (bus.consumer(queue, prefetch=5) for queue in queues)
    lose(bus, pause, queues[place])
    first.close()
    go_on(bus, pause)
    assert bodies_received(bus, queues[0], 5) == [b"0", b"1", b"2", b"3", b"4"]
    second.close()


@pytest.mark.services
def test_a_consumer_closed_while_its_link_is_busy(bus, queues, pause, monkeypatch):
    """A consumer that could not be closed in time is closed later, and keeps no message."""
    monkeypatch.setattr(consumers, "CLOSING", 0.05)
    consumer = bus.consumer(queues[0], prefetch=5)
    bus._consuming.link.post(lambda _: pause.may_go_on.wait(PATIENCE))
    consumer.close()
    go_on(bus, pause)
    assert bodies_received(bus, queues[0], 5) == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.services
@pytest.mark.parametrize("place", [0, 1])
def test_a_closed_listener_hears_nothing(bus, queues, pause, place):
    """What arrives after a listener was closed is for others, and not heard."""
    heard = []
    listener = bus.listen(queues[0], heard.append, heard.append)
    other = bus.consumer(queues[1])
    lose(bus, pause, queues[place])
    listener.close()
    go_on(bus, pause)
    assert bodies_received(bus, queues[0], 2) == [b"0", b"1"]
    assert heard == [None]
    other.close()


@pytest.mark.services
def test_a_consumer_of_a_bus_that_is_shut_down_just_now(rabbitmq):
    """A bus that was shut down has no connection, and makes none for a consumer."""
    bus = connect(rabbitmq)
    bus.setup()
    receiving = bus._receiving

    def receiving_late():
        bus.shutdown()
        return receiving()

    bus._receiving = receiving_late
    try:
        with pytest.raises(BusError, match="not connected"):
            bus.consumer(Queue(f"m3-test-{uuid4().hex}", durable=False, exclusive=True))
        assert bus._consuming is None
    finally:
        bus.shutdown()
