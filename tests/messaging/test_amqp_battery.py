"""The bus on RabbitMQ keeps the promises of all buses."""

import pytest
from rabbitmq import URL

from m3.messaging import connect
from m3.testing import BusBattery

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("rabbitmq")]


class TestAmqp(BusBattery):
    def connect(self):
        return connect(URL)


@pytest.mark.usefixtures("hurried")
class TestAmqpRestless(TestAmqp):
    pass


class TestQuorum(TestAmqp):
    test_declaring_differently_is_an_error = None  # it declares a durable queue as another
    test_requeued_messages_come_first = None  # they come after what is there
    test_a_full_queue_refuses_in_time = None  # it takes a few more
    test_a_full_queue_takes_some_of_several = None  # the same

    def connect(self):
        return connect(URL, queue_type="quorum")

    def queue(self, name="queue", **arguments):
        return super().queue(name, **{"durable": True, **arguments})
