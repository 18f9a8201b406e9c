"""Items put into tables of DynamoDB."""

import secrets
from decimal import Decimal

import pytest

from m3 import BatchError
from m3.connectors.dynamodb import DynamodbBackend
from m3.testing import BackendBattery

pytestmark = pytest.mark.once

ROWS = [{"id": f"{number:02}", "number": number} for number in range(10)]


def new_table(client):
    """Make a table with the key ``id``; return its name."""
    name = f"t-{secrets.token_hex(6)}"
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


def rows_of(client, table):
    """Return the rows of a table, each as it is typed."""
    pages = client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [row for page in pages for row in page["Items"]]


@pytest.mark.usefixtures("on_moto")
@pytest.mark.timeout(300)
class TestDynamodbBackend(BackendBattery):
    keeps_order = False

    def prepare(self):
        self.client = self.aws.client("DynamoDBPool")
        self.table = new_table(self.client)

    def make(self):
        return self.aws.given(DynamodbBackend(table=self.table))

    def items(self):
        return ROWS

    def read_back(self):
        rows = rows_of(self.client, self.table)
        return [{"id": row["id"]["S"], "number": int(row["number"]["N"])} for row in rows]

    def unwritable(self):
        return {"number": 1}


class Calls:
    """Stands before a client: keeps the sizes of its batches, and may answer in its place."""

    def __init__(self, client, answer=lambda call, response: response):
        self.client = client
        self.answer = answer
        self.sizes = []
        self.meta = client.meta

    def batch_write_item(self, RequestItems):  # noqa: N803 - AWS's name
        ((table, requests),) = RequestItems.items()
        self.sizes.append(len(requests))
        kept, response = self.answer(requests, {})
        if kept:
            self.client.batch_write_item(RequestItems={table: kept})
        return {"UnprocessedItems": {table: response} if response else {}}


@pytest.fixture
def table(moto):
    return new_table(moto.client("DynamoDBPool"))


@pytest.fixture
def backend(moto, table):
    backend = moto.given(DynamodbBackend(table=table))
    backend.setup()
    yield backend
    backend.cleanup()


@pytest.fixture
def stored(moto, table):
    """Return what returns the rows of the table by their keys."""
    client = moto.client("DynamoDBPool")
    return lambda: {row["id"]["S"]: row for row in rows_of(client, table)}


def test_a_call_has_25_items(backend, stored):
    """A batch of any size is split into calls as the service takes them."""
    calls = backend._client = Calls(backend._client, lambda requests, _: (requests, []))
    backend.process_batch([{"id": str(number)} for number in range(60)])
    assert calls.sizes == [25, 25, 10]
    assert len(stored()) == 60


def test_what_is_not_processed_is_sent_again(backend, stored, instant):
    """Unprocessed items are sent again, and only these."""
    calls = Calls(backend._client, lambda requests, _: (requests[:1], requests[1:]))
    instant(backend)._client = calls
    backend.process_batch([{"id": str(number)} for number in range(3)])
    assert calls.sizes == [3, 2, 1]
    assert len(stored()) == 3


def test_what_is_never_processed_is_an_error_of_its_item(backend, stored, instant):
    """After so many attempts an item fails by itself, and the others are there."""

    def refuse_first(requests, _):
        first = [each for each in requests if each["PutRequest"]["Item"]["id"]["S"] == "0"]
        return [each for each in requests if each not in first], first

    instant(backend)._client = Calls(backend._client, refuse_first)
    with pytest.raises(BatchError) as caught:
        backend.process_batch([{"id": str(number)} for number in range(3)])
    assert caught.value.errors.keys() == {0}
    assert "Unprocessed" in str(caught.value.errors[0])
    assert stored().keys() == {"1", "2"}


def test_the_last_of_several_items_with_a_key_counts(backend, stored):
    """A call may not have a key twice: what is replaced by a later item is not sent."""
    backend.process_batch([{"id": "a", "n": 1}, {"id": "b"}, {"id": "a", "n": 2}])
    assert stored()["a"]["n"] == {"N": "2"}
    assert len(stored()) == 2


def test_what_is_replaced_shares_the_fate_of_its_successor(backend, instant):
    """An item whose successor is not stored is not delivered either."""
    instant(backend)._client = Calls(backend._client, lambda requests, _: ([], requests))
    with pytest.raises(BatchError) as caught:
        backend.process_batch([{"id": "a", "n": 1}, {"id": "a", "n": 2}])
    assert caught.value.errors.keys() == {0, 1}


def test_what_the_service_refuses_fails_alone(backend, stored):
    """Where a call fails because of one item, the others are stored all the same."""
    items = [{"id": str(number)} for number in range(5)]
    with pytest.raises(BatchError) as caught:
        backend.process_batch([*items[:3], {"id": ""}, *items[3:]])
    assert caught.value.errors.keys() == {3}
    assert len(stored()) == 5


def test_values_come_back_as_they_were(backend, stored):
    """Each kind of value has its type, and floats are exact decimals."""
    values = {
        "text": ("x", {"S": "x"}),
        "float": (0.1, {"N": "0.1"}),
        "decimal": (Decimal("1.50"), {"N": "1.50"}),
        "yes": (True, {"BOOL": True}),
        "none": (None, {"NULL": True}),
        "bytes": (b"\0", {"B": b"\0"}),
        "list": ([1, "a"], {"L": [{"N": "1"}, {"S": "a"}]}),
        "map": ({"a": 1}, {"M": {"a": {"N": "1"}}}),
        "set": ({"a"}, {"SS": ["a"]}),
    }
    backend.process_batch([{"id": "1", **{name: value for name, (value, _) in values.items()}}])
    (row,) = stored().values()
    assert row == {"id": {"S": "1"}, **{name: typed for name, (_, typed) in values.items()}}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), "no number"),
        (10**38 + 1, "more"),
        (Decimal("1e126"), "beyond"),
        (object(), "no value"),
        (set(), "at least one"),
        ("x" * 410_000, "409,600"),
    ],
)
def test_a_value_that_the_table_cannot_have_is_an_error_of_its_item(backend, stored, value, says):
    """It says why, and the others are stored."""
    with pytest.raises(BatchError) as caught:
        backend.process_batch([{"id": "bad", "value": value}, {"id": "good"}])
    assert says in str(caught.value.errors[0])
    assert stored().keys() == {"good"}
