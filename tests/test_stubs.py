"""The stubs of the compiled modules say what was compiled."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

PACKAGE = Path(__file__).parent.parent / "m3"
STUBS = sorted(path.stem for path in PACKAGE.glob("*.pyi"))

pytest.importorskip("mypy", reason="mypy.stubtest checks the stubs")


def test_compiled_modules_have_stubs():
    """Type checkers see every compiled module, and no module that is not there."""
    assert sorted(path.stem for path in PACKAGE.glob("*.pyx")) == STUBS


@pytest.mark.timeout(300)
def test_stubs_match_modules():
    """Names, signatures and defaults of a stub are those of the compiled module."""
    modules = [f"m3.{name}" for name in STUBS]
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "--ignore-disjoint-bases", *modules],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
