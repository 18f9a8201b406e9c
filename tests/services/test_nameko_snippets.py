"""
Every snippet of nameko's page, in today's Python and with ``m3`` for ``nameko``, is run.

Each is executed as it stands there, in a new process; what surrounds it names the
bus, runs the classes where the page does not, lets the clock run a hundred times
as fast, and ends the program with Ctrl-C.
"""

import os
import signal
import subprocess
import sys

import pytest

HELLO = """
class HelloWorld(object):

    def hello(self, name):
        print("Hello, {}!".format(name))

HelloWorld().hello("you")
"""

HELLO_EVENT = """
from m3.services.events import event_handler

class HelloWorld(object):

    @event_handler('friendlyservice', 'hello')
    def hello(self, name):
        print("Hello, {}!".format(name))
"""

FRIENDLY = """
from m3.services.events import Event, EventDispatcher
from m3.services.timer import timer

class HelloEvent(Event):
    type = "hello"

class FriendlyService(object):

    name = "friendlyservice"
    dispatch = EventDispatcher()

    @timer(interval=5)
    def say_hello(self):
        self.dispatch(HelloEvent(self.name))
"""

RUN = """
from m3.services import ServiceRunner

config = {'AMQP_URI': 'amqp://guest:guest@localhost:5672/'}
runner = ServiceRunner(config)
runner.add_service(HelloWorld)
runner.add_service(FriendlyService)
runner.start()
try:
    runner.wait()
except KeyboardInterrupt:
    runner.kill()
"""

ADDER = """
from m3.services.rpc import rpc

class AdderService(object):

    @rpc
    def add(self, x, y):
        return x + y
"""

ADDER_CLIENT = """
import random

from m3.services.rpc import rpc
from m3.services import Service
from m3.services.timer import timer


class RpcClient(object):

    adder = Service('adderservice')

    @timer(interval=2)
    def add(self):
        x = random.randint(0, 10)
        y = random.randint(0, 10)
        res = self.adder.add(x, y)
        print("{} + {} = {}".format(x, y, res))
"""

MESSAGING_IMPORTS = """
import uuid

from m3.messaging import Exchange, Queue
from m3.services import AttributeDependency, Publisher, consume
from m3.services.timer import timer
"""

MESSAGING = """
demo_ex = Exchange('demo_ex', durable=False, auto_delete=True)
demo_queue = Queue('demo_queue', exchange=demo_ex, durable=False,
                   auto_delete=True)

class MessagingPublisher(object):
    ''' Publish messages to the ``demo_ex`` exchange every two seconds.
    '''
    publish = Publisher(exchange=demo_ex)

    @timer(interval=2)
    def send_msg(self):
        msg = "log-{}".format(uuid.uuid4())
        self.publish(msg)

class MessagingConsumer(object):
    ''' Consume messages from a queue bound to the ``demo_ex`` exchange.
    '''
    @consume(demo_queue)
    def process(self, payload):
        print(payload)
"""

LOG_FILE = """
class LogFile(AttributeDependency):

    # called at dependency creation time (i.e. service definition)
    def __init__(self, path):
        self.path = path

    # called when the service container starts
    def start(self, srv_ctx):
        self.file_handle = open(self.path, 'w')

    # called when the service container stops
    def stop(self, srv_ctx):
        self.file_handle.close()

    # called before this dependency's service handles any call
    def acquire_injection(self, worker_ctx):
        def log(msg):
            self.file_handle.write(msg + "\\n")
        return log

    # called after this dependency's service handles a call
    def release_injection(self, worker_ctx):
        self.file_handle.flush()
"""

LOGGING_CONSUMER = """
class MessagingConsumer(object):

    log = LogFile('/var/log/nameko.log')

    @consume(demo_queue)
    def process(self, payload):
        self.log(payload)
"""

FAST = """
import functools, time
import m3.services.container
from m3.services.clock import Alarm, Clock

print = functools.partial(print, flush=True)

class FastAlarm(Alarm):
    def wait(self, due):
        return super().wait(due / 100)

class FastClock(Clock):
    monotonic = staticmethod(lambda: time.monotonic() * 100)
    alarm = staticmethod(FastAlarm)

m3.services.container.Clock = FastClock
"""

BROKER = "amqp://guest:guest@localhost:5672/"


def running(*services):
    """Return the page's way to run services, for others than it does."""
    names = "".join(f"runner.add_service({name})\n" for name in services)
    return RUN.replace(
        "runner.add_service(HelloWorld)\nrunner.add_service(FriendlyService)\n", names
    )


@pytest.fixture
def lines(bus_url, tmp_path):
    """Return a function that runs a program until it has printed lines, ends it, returns them."""

    def lines(program, count=3):
        text = FAST + program.replace(BROKER, bus_url).replace("/var/log/", f"{tmp_path}/")
        child = subprocess.Popen(
            [sys.executable, "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        with child:
            printed = [child.stdout.readline() for _ in range(count)]
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=30)
        assert (child.returncode, err) == (0, "")
        return printed

    return lines


def test_hello(run_program):
    """The business logic is a bare class."""
    assert run_program(sys.executable, "-c", HELLO).stdout == "Hello, you!\n"


def test_two_services_interact(lines):
    """One service dispatches an event every five seconds, the other is called with it."""
    assert lines(HELLO_EVENT + FRIENDLY + RUN) == ["Hello, friendlyservice!\n"] * 3


def test_rpc(lines):
    """A service without a name is known by that of its class; a proxy calls its method."""
    for line in lines(ADDER + ADDER_CLIENT + running("AdderService", "RpcClient")):
        x, _, y, _, total = line.split()
        assert int(x) + int(y) == int(total)


def test_messaging(lines):
    """What is published to an exchange is consumed from a queue that is bound to it."""
    program = MESSAGING_IMPORTS + MESSAGING + running("MessagingConsumer", "MessagingPublisher")
    printed = lines(program)
    assert all(line.startswith("log-") for line in printed)
    assert len(set(printed)) == 3


def test_a_dependency_of_ones_own(lines, tmp_path):
    """A dependency is opened when the container starts, flushed after calls, and closed."""
    told = LOG_FILE.replace(
        "self.file_handle.flush()", "self.file_handle.flush()\n        print('flushed')"
    )
    services = MESSAGING_IMPORTS + MESSAGING + told + LOGGING_CONSUMER
    lines(services + running("MessagingConsumer", "MessagingPublisher"))
    logged = (tmp_path / "nameko.log").read_text().splitlines()
    assert len(logged) >= 3
    assert all(line.startswith("log-") for line in logged)
