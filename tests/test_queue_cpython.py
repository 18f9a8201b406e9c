"""CPython's own tests of queue.Queue and queue.SimpleQueue, run on BoundedQueue."""

import gc
import types
import unittest

import pytest

from m3._queue import BoundedQueue
from m3.errors import Empty, Full, ShutDown

suite = pytest.importorskip("test.test_queue", reason="this Python ships without its tests")

# The suite looks up the expected order of items by the name of the class.
Queue = type("Queue", (BoundedQueue,), {})


class TestQueue(suite.QueueTest, unittest.TestCase):
    """BoundedQueue passes the tests of queue.Queue, shutdown included from 3.13 on."""

    queue = types.SimpleNamespace(Queue=Queue, Empty=Empty, Full=Full, ShutDown=ShutDown)


class TestSimpleQueue(suite.BaseSimpleQueueTest, unittest.TestCase):
    """BoundedQueue without a bound passes the tests of queue.SimpleQueue."""

    queue = types.SimpleNamespace(Empty=Empty)
    type2test = BoundedQueue

    @classmethod
    def setUpClass(cls):
        # test_references collects garbage 60 times: not all that other tests have left.
        gc.collect()
        gc.freeze()

    @classmethod
    def tearDownClass(cls):
        gc.unfreeze()

    # Defined on CPython's test case for its C queue, which has more that is not for us.
    test_reentrancy = suite.CSimpleQueueTest.test_reentrancy
