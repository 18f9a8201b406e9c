"""Transports of the pipelines from a bucket through a queue into a table."""

import json
import time

WORK = 0.008
"""Seconds that a record takes."""


def capitals(line):
    """Return the record of a line of JSON, its text in capitals."""
    record = json.loads(line)
    time.sleep(WORK)
    return {**record, "text": record["text"].upper()}


def unpacked(message):
    """Return the record in a message, with the id of that."""
    time.sleep(WORK)
    return {**json.loads(message["body"]), "message": message["id"]}
