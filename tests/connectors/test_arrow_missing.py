"""The stages that need an optional package say so, and how to get it."""

import subprocess

import pytest

PROGRAM = """
import sys
sys.modules["pyarrow"] = None
from m3.errors import MissingExtraError
from m3.connectors.parquet import ParquetBackend, ParquetFrontend
try:
    {stage}(path="x")
except MissingExtraError as error:
    print(error)
"""


@pytest.mark.parametrize("stage", ["ParquetFrontend", "ParquetBackend"])
def test_without_pyarrow_the_error_says_what_to_install(python, stage):
    """The module can be imported without pyarrow; making the stage names the extra."""
    process = python(PROGRAM.format(stage=stage), stdout=subprocess.PIPE)
    assert process.communicate()[0].endswith(b"pip install 'm3-pipeline[arrow]'\n")
