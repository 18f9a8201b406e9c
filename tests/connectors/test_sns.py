"""Messages published to topics of SNS."""

import json
import secrets

import pytest
from aws_stages import REGION

from m3 import BatchError
from m3.connectors.sns import SnsBackend
from m3.errors import ConfigError
from m3.testing import BackendBattery

pytestmark = pytest.mark.once


def new_topic(aws):
    """Make a topic, and a queue that gets what is published there; return their addresses."""
    name = f"n-{secrets.token_hex(6)}"
    topic = aws.client("SimpleNotificationPool").create_topic(Name=name)["TopicArn"]
    url = aws.client("SqsPool").create_queue(QueueName=name)["QueueUrl"]
    queue = f"arn:aws:sqs:{REGION}:123456789012:{name}"
    aws.client("SimpleNotificationPool").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    return topic, url


def take(client, url):
    """Take one batch of messages from a queue; return what was published."""
    response = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    messages = response.get("Messages", [])
    for each in messages:
        client.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
    return [json.loads(each["Body"])["Message"] for each in messages]


@pytest.mark.usefixtures("on_moto")
@pytest.mark.timeout(300)
class TestSnsBackend(BackendBattery):
    keeps_order = False

    def prepare(self):
        self.topic, self.url = new_topic(self.aws)
        self.seen = []

    def make(self):
        return self.aws.given(SnsBackend(topic=self.topic))

    def read_back(self):
        while found := take(self.aws.client("SqsPool"), self.url):
            self.seen += found
        return self.seen

    def unwritable(self):
        return ""


def test_a_message_that_is_too_long_is_an_error_of_its_item(moto):
    """The others of its call are published."""
    topic, url = new_topic(moto)
    backend = moto.given(SnsBackend(topic=topic))
    backend.setup()
    with pytest.raises(BatchError) as caught:
        backend.process_batch(["short", "x" * 262_145])
    assert caught.value.errors.keys() == {1}
    assert "262,144" in str(caught.value.errors[1])
    assert take(moto.client("SqsPool"), url) == ["short"]


def test_a_fifo_topic_needs_a_group():
    """Without one, no message could be published."""
    with pytest.raises(ConfigError, match="group_id"):
        SnsBackend(topic="arn:aws:sns:eu-west-1:1:orders.fifo")
