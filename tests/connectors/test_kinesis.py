"""Records put into streams of Kinesis."""

import secrets
from types import SimpleNamespace

import pytest

from m3 import BatchError
from m3.connectors.kinesis import KinesisBackend
from m3.testing import BackendBattery

pytestmark = pytest.mark.once


def new_stream(client):
    """Make a stream with one shard; return its name."""
    name = f"k-{secrets.token_hex(6)}"
    client.create_stream(StreamName=name, ShardCount=1)
    return name


def records_of(client, stream):
    """Return the records of a stream."""
    shard = client.describe_stream(StreamName=stream)["StreamDescription"]["Shards"][0]["ShardId"]
    place = client.get_shard_iterator(
        StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    return client.get_records(ShardIterator=place)["Records"]


@pytest.mark.usefixtures("on_moto")
@pytest.mark.timeout(300)
class TestKinesisBackend(BackendBattery):
    def prepare(self):
        self.client = self.aws.client("KinesisPool")
        self.stream = new_stream(self.client)

    def make(self):
        return self.aws.given(KinesisBackend(stream=self.stream))

    def read_back(self):
        return [each["Data"].decode() for each in records_of(self.client, self.stream)]

    def unwritable(self):
        return float("nan")


class Shard:
    """A client that refuses the records of some keys so many times; its own pool as well."""

    def __init__(self, refusals):
        self.meta = SimpleNamespace(region_name="somewhere")
        self.regions = SimpleNamespace(default=self)
        self.slowed = []
        self.refusals = refusals
        self.calls = []

    def put_records(self, Records, **_):  # noqa: N803 - AWS's name
        self.calls.append([each["Data"] for each in Records])
        return {"Records": [self.answer(each["PartitionKey"]) for each in Records]}

    def limiter(self, region):
        return SimpleNamespace(slow_down=lambda: self.slowed.append(region))

    def answer(self, key):
        if self.refusals.get(key, 0):
            self.refusals[key] -= 1
            return {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow"}
        return {"SequenceNumber": "1", "ShardId": "0"}


def given(refusals, instant, **options):
    backend = instant(KinesisBackend(stream="s", **options))
    backend.kinesis = Shard(refusals)
    backend.setup()
    return backend


def test_only_what_was_refused_is_put_again(instant):
    """After a partial failure, the records that were taken are not put twice."""
    backend = given({"b": 2}, instant, partition_key=lambda item: item)
    backend.process_batch(["a", "b", "c"])
    assert backend.kinesis.calls == [[b"a", b"b", b"c"], [b"b"], [b"b"]]


def test_throttled_records_slow_down_all_who_use_the_service(instant):
    """What a shard refuses is told to the limit that all stages share."""
    backend = given({"b": 1}, instant, partition_key=lambda item: item)
    backend.process_batch(["a", "b"])
    assert backend.kinesis.slowed == ["somewhere"]


def test_what_is_refused_for_ever_is_an_error_of_its_item(instant):
    """The error says what the service has said."""
    backend = given({"b": 99}, instant, partition_key=lambda item: item)
    with pytest.raises(BatchError) as caught:
        backend.process_batch(["a", "b", "c"])
    assert caught.value.errors.keys() == {1}
    assert "ProvisionedThroughputExceededException: slow" in str(caught.value.errors[1])


def test_a_call_is_no_larger_than_the_service_takes(instant):
    """At most 500 records, and 10 MiB with their keys."""
    backend = given({}, instant)
    backend.process_batch([f"{number}" for number in range(501)])
    assert [len(call) for call in backend._client.calls] == [500, 1]
    backend._client.calls.clear()
    backend.process_batch(["x" * 6_000_000, "y" * 6_000_000])
    assert [len(call) for call in backend._client.calls] == [1, 1]


def test_the_partition_key_is_that_of_the_item(moto):
    """It is made of the item's fields, or is the same for the same record."""
    client = moto.client("KinesisPool")
    stream = new_stream(client)
    for key in ("customer {customer}", None):
        backend = moto.given(KinesisBackend(stream=stream, partition_key=key))
        backend.setup()
        backend.process_batch([{"customer": 7}, {"customer": 7}])
    keys = [each["PartitionKey"] for each in records_of(client, stream)]
    assert keys[:2] == ["customer 7"] * 2
    assert keys[2] == keys[3] != "customer 7"
