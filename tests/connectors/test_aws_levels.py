"""What the connectors of AWS promise about delivery."""

import pytest

from m3 import Pipeline
from m3.engine.delivery import levels, lowest

pytest.importorskip("boto3")

FILE = ("file", {"path": "in"})
S3 = ("s3", {"bucket": "b"})
SQS = ("sqs", {"queue": "q"})


@pytest.mark.parametrize(
    ("frontend", "backend", "keeps_state", "level"),
    [
        (S3, ("null", {}), False, "at_most_once"),
        (S3, ("s3", {"bucket": "b", "prefix": "out/"}), True, "effectively_once"),
        (S3, ("s3", {"bucket": "b", "key": "{id}"}), True, "effectively_once"),
        (FILE, ("dynamodb", {"table": "t"}), True, "effectively_once"),
        (FILE, ("sqs", {"queue": "q"}), True, "at_least_once"),
        (FILE, ("sns", {"topic": "t"}), True, "at_least_once"),
        (FILE, ("kinesis", {"stream": "s"}), True, "at_least_once"),
        (SQS, ("dynamodb", {"table": "t"}), False, "at_least_once"),
        (SQS, ("s3", {"bucket": "b", "prefix": "out/"}), False, "at_least_once"),
        (SQS, ("s3", {"bucket": "b", "prefix": "out/"}), True, "at_least_once"),
    ],
)
def test_a_pipeline_says_what_it_can_promise(frontend, backend, keeps_state, level):
    """The level is that of the weaker of the two."""
    (source, source_options), (sink, sink_options) = frontend, backend
    state = {"state": "unused"} if keeps_state else {}
    pipeline = Pipeline(source, **source_options, **state).backend(sink, **sink_options)
    assert lowest(levels(pipeline.plan())).level == level
