"""
From a bucket through a queue into a table, by two commands that are killed.

``pytest -m stress tests/oracle/test_queue.py -rP`` runs the long one, and tells of it.
"""

import json
from random import Random

import pytest
from aws_stages import REGION
from issued import answers, text
from killing import Run

pytestmark = pytest.mark.once

BUCKET, QUEUE, RECORDS, MESSAGES = "oracle", "oracle", "records", "messages"
PER_OBJECT = 100
VISIBILITY = 3
"""Seconds until what a killed run had taken comes again."""

# moto's queue becomes slow when it is long, so storing is faster than sending.

SENDING = f"""
state = "state"
checkpoint_interval = 0.05
frontend = {{ use = "s3", bucket = "{BUCKET}", prefix = "in/" }}
transport = {{ use = "queue_stages:capitals", workers = 2 }}
backend = {{ use = "sqs", queue = "{QUEUE}" }}

[resources.s3]
regions = ["{REGION}"]

[resources.sqs]
regions = ["{REGION}"]
"""

STORING = f"""
[frontend]
use = "sqs"
queue = "{QUEUE}"
form = "message"
visibility = {VISIBILITY}
idle_timeout = {2 * VISIBILITY}

[transport]
use = "queue_stages:unpacked"
workers = 8

[[backend]]
use = "dynamodb"
table = "{RECORDS}"

[[backend]]
use = "dynamodb"
table = "{MESSAGES}"
"""


@pytest.fixture
def services(aws, moto, monkeypatch):
    """Make an empty bucket, queue and tables; return clients of S3 and DynamoDB."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    location = {"LocationConstraint": REGION}
    moto.client("S3Pool").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
    moto.client("SqsPool").create_queue(QueueName=QUEUE)
    for table, key, kind in ((RECORDS, "n", "N"), (MESSAGES, "message", "S")):
        moto.client("DynamoDBPool").create_table(
            TableName=table,
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind}],
            BillingMode="PAY_PER_REQUEST",
        )
    return moto.client("S3Pool"), moto.client("DynamoDBPool")


def issue(s3, count):
    """Write numbered records into objects of many lines."""
    for first in range(0, count, PER_OBJECT):
        numbers = range(first, min(first + PER_OBJECT, count))
        lines = [json.dumps({"n": number, "text": text(number)}) for number in numbers]
        s3.put_object(Bucket=BUCKET, Key=f"in/{first:06}", Body="\n".join(lines).encode())


def rows(dynamodb, table):
    """Return the records of a table."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    found = (row for page in pages for row in page["Items"])
    return [(int(row["n"]["N"]), row["text"]["S"]) for row in found]


class Command:
    """A command that is started again as often as it was killed."""

    def __init__(self, folder, configuration):
        self.folder = folder
        folder.mkdir()
        (folder / "pipeline.toml").write_text(configuration)
        self.start()

    def start(self):
        self.run = Run(self.folder, ["run", "pipeline.toml", "--quiet"])

    def kill(self):
        """Kill it, and start it again; return whether it had not ended by itself before."""
        was_killed = self.run.kill()
        self.start()
        return was_killed

    def finish(self):
        """Wait for its end, which has to be a good one."""
        self.run.join(0)


@pytest.mark.parametrize(
    ("kills", "records", "seed"),
    [
        pytest.param(5, 1000, 5, marks=pytest.mark.timeout(180)),
        pytest.param(50, 2000, 1, marks=[pytest.mark.stress, pytest.mark.timeout(1800)]),
    ],
)
def test_nothing_is_lost_between_a_bucket_and_a_table(services, tmp_path, kills, records, seed):
    """However often both commands are killed, every record is in the table, once, as it should."""
    s3, dynamodb = services
    issue(s3, records)
    chance = Random(seed)
    commands = [
        Command(tmp_path / "sending", SENDING),
        Command(tmp_path / "storing", STORING),
    ]
    done = 0
    while done < kills:
        command = commands[done % 2]
        command.run.sleep_until(chance.uniform(0.2, 3.5))
        done += command.kill()
    for command in commands:
        command.finish()
    assert sorted(rows(dynamodb, RECORDS)) == sorted(answers(records))
    sent = rows(dynamodb, MESSAGES)
    assert set(sent) == answers(records)
    print(f"{kills} kills, {records} records: missing 0, sent twice {len(sent) - records}")
