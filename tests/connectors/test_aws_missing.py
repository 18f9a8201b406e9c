"""The connectors of AWS, where boto3 is not installed."""

import subprocess

import pytest

pytestmark = pytest.mark.once

WITHOUT = """
import sys

sys.modules["boto3"] = None  # as if it were not installed
from m3.cli import main

sys.exit(main())
"""

STAGES = {
    "s3": "--frontend s3 --set frontend.bucket=b",
    "sqs": "--frontend sqs --set frontend.queue=q",
    "dynamodb": "--backend dynamodb --set backend.table=t",
    "sns": "--backend sns --set backend.topic=t",
    "kinesis": "--backend kinesis --set backend.stream=s",
}


def test_they_are_listed(python):
    """What there is can be looked up before anything is installed for it."""
    done = python(WITHOUT, "list", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, errors = done.communicate(timeout=50)
    assert (done.returncode, errors) == (0, "")
    assert all(f"  {name}  (m3" in out for name in STAGES)


@pytest.fixture
def without_boto3(python):
    """Return what runs a command of a pipeline with one of the stages."""

    def run(command, name):
        words = STAGES[name].split()
        words += [] if "--frontend" in words else ["--frontend", "stdin"]
        pipe = subprocess.PIPE
        done = python(
            WITHOUT, command, *words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        )
        _, errors = done.communicate(timeout=50)
        return done.returncode, errors

    return run


@pytest.mark.parametrize("command", ["run", "explain"])
@pytest.mark.parametrize("name", STAGES)
def test_what_is_missing_is_told(without_boto3, command, name):
    """One line says which extra brings it, and nothing is started."""
    code, errors = without_boto3(command, name)
    assert code in (1, 2)
    assert "boto3: pip install 'm3-pipeline[aws]'" in errors
    assert "Traceback" not in errors
