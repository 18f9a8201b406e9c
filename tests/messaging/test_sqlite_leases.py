"""What becomes of an exclusive queue when the process that has it is stuck."""

import signal
import subprocess
import sys

import pytest

from m3.errors import BusError
from m3.messaging import Message, Queue, connect

LEASE = 0.5
SEAT = Queue("seat", durable=False, exclusive=True)

HOLD = """
import os, sys
from m3.errors import BusError
from m3.messaging import Queue, connect
with connect(sys.argv[1], lease=float(sys.argv[2])) as bus:
    consumer = bus.consumer(Queue("seat", durable=False, exclusive=True))
    os.write(1, b"seated\\n")
    for _ in range(2):
        try:
            word = consumer.receive(20).message.body
        except BusError as error:
            word = b"refused" if "exclusive" in str(error) else b"failed"
        os.write(1, word + b"\\n")
    consumer.close()
"""


def test_an_exclusive_queue_has_one_consumer_also_after_a_lease(tmp_path):
    """Who was stuck, and has lost the queue to another, receives an error and no message of it."""
    url = f"sqlite:///{tmp_path}/bus.db"
    command = [sys.executable, "-c", HOLD, url, str(LEASE)]
    with (
        connect(url, lease=LEASE) as bus,
        subprocess.Popen(command, stdout=subprocess.PIPE) as holder,
    ):
        try:
            assert holder.stdout.readline() == b"seated\n"
            with pytest.raises(BusError, match="exclusive"):
                bus.consumer(SEAT)
            holder.send_signal(signal.SIGSTOP)
            consumer = seated(bus)
            holder.send_signal(signal.SIGCONT)
            assert holder.stdout.read().split() == [b"refused", b"refused"]
            bus.publish(Message(body=b"mine"), routing_key="seat", mandatory=True)
            assert consumer.receive(20).message.body == b"mine"
        finally:
            holder.kill()


def seated(bus):
    """Return the consumer of the queue once there is no other: when a lease is over."""
    waiting = bus.consumer(Queue("watch"))
    while True:
        try:
            return bus.consumer(SEAT)
        except BusError:
            waiting.receive(LEASE / 5)
