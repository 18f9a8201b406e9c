"""
Every snippet of AIOConductor's page, with ``m3`` for ``aioconductor``, is run.

Each is executed as it stands there, in a new process; what surrounds it lets
its components say what happens to them, and ends the service with a signal.
"""

import os
import signal
import subprocess
import sys

import pytest

FIRST = '''
from m3 import Conductor, Component

class Database(Component):

    async def setup(self):
        """ Setup database """

    async def shutdown(self):
        """ Shutdown database """

class MessageQueue(Component):

    async def setup(self):
        """ Setup message queue """

    async def shutdown(self):
        """ Shutdown message queue """

class WebAPI(Component):

    db: Database         # Dependencies are declared by type annotations.
    queue: MessageQueue  # Real instances of the components will be injected
                         # during setup routine.

    async def setup(self):
        """ Setup web API """

    async def shutdown(self):
        """ Shutdown web API """

class BackgroundWorkers(Component):

    db: Database
    queue: MessageQueue

    async def setup(self):
        """ Setup background workers """

    async def shutdown(self):
        """ Shutdown background workers """

conductor = Conductor(config={})
conductor.add(WebAPI)
conductor.add(BackgroundWorkers)
conductor.serve()
'''

SECOND = '''
class MessageQueueMock(Component):
    async def setup(self):
        """ Setup message queue mock """

    async def shutdown(self):
        """ Shutdown message queue mock """

conductor = Conductor(config={})

conductor.patch(MessageQueue, MessageQueueMock)
# An instance of ``MessageQueueMock`` will be injected into
# ``WebAPI`` and ``BackgroundWorkers``, instead of ``MessageQueue``.

conductor.add(WebAPI)
conductor.add(BackgroundWorkers)
conductor.serve()
'''

OBSERVED = """
import logging, sys
from m3.components import lifecycle

def told(act, sign):
    async def tell(node):
        error = await act(node)
        print(sign + node.name, flush=True)
        return error
    return tell

lifecycle.set_up = told(lifecycle.set_up, "+")
lifecycle.shut_down = told(lifecycle.shut_down, "-")
"""


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def serve(request):
    """Return a function that runs a program until it serves, ends it, and returns its lines."""

    def serve(program):
        child = subprocess.Popen(
            [sys.executable, "-c", OBSERVED + program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        with child:
            lines = [child.stdout.readline() for _ in range(4)]
            child.send_signal(request.param)
            out, err = child.communicate(timeout=30)
        assert (child.returncode, err) == (0, "")
        return [line.strip() for line in [*lines, *out.splitlines()]]

    return serve


def test_serve(serve):
    """What is needed comes up first and goes down last; a signal ends the service."""
    lines = serve(FIRST)
    assert [set(lines[:2]), set(lines[2:4]), set(lines[4:6]), set(lines[6:])] == [
        {"+Database", "+MessageQueue"},
        {"+WebAPI", "+BackgroundWorkers"},
        {"-WebAPI", "-BackgroundWorkers"},
        {"-Database", "-MessageQueue"},
    ]


def test_patch(serve):
    """The mock is started instead of the queue."""
    classes = FIRST.partition("conductor = ")[0]
    lines = serve(classes + SECOND)
    assert [set(lines[:2]), set(lines[6:])] == [
        {"+Database", "+MessageQueueMock"},
        {"-Database", "-MessageQueueMock"},
    ]
