"""What the pipelines under the oracle are made of, beside ready-made stages."""

import time

from m3 import Transport

PACE = 0.0005
"""Seconds that each record takes, so that a run lasts long enough to be killed."""


def answered(data):
    """Return the record with its text in capitals; a record is a line or a mapping."""
    if isinstance(data, bytes):
        return data.upper()
    return {"n": int(data["n"]), "text": data["text"].upper()}


def split(line):
    """Return a line as a mapping."""
    number, text = line.split()
    return {"n": int(number), "text": text.decode()}


class Answer(Transport):
    """The transport of every scenario: slow enough to be killed."""

    def transport(self, data):
        time.sleep(PACE)
        return answered(data)


class AnswerRow(Transport):
    """The same from a line to a mapping."""

    def transport(self, data):
        time.sleep(PACE)
        return answered(split(data))
