"""
Add up what .ci/run did; the last line is ``N passed, N failed``.

Usage: summary.py FOLDER STEP=STATUS=SECONDS...

A step that left a JUnit file NAME.xml in the folder counts with its tests, any
other step as one.  A step of tests that left no such file was cut off: one failed.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree as ET


def counted(results: Path, step: str, status: int) -> tuple[int, int]:
    """Return how many checks of *step* passed, and how many failed."""
    report = results / f"{step.removeprefix('tests-')}.xml"
    if not step.startswith("tests-") or not report.exists():
        return (1, 0) if status == 0 else (0, 1)
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    tests, skipped, failures, errors = (
        int(suite.attrib[name]) for name in ("tests", "skipped", "failures", "errors")
    )
    failed = failures + errors
    return tests - skipped - failed, failed or int(status != 0)


def main() -> int:
    """Print a line per step and the sum; return the exit status."""
    results = Path(sys.argv[1])
    print()
    total_passed = total_failed = 0
    for outcome in sys.argv[2:]:
        step, status, seconds = outcome.rsplit("=", 2)
        passed, failed = counted(results, step, int(status))
        total_passed += passed
        total_failed += failed
        print(f"{step:24} {passed:6} passed {failed:4} failed {seconds:>5} s")
    print(f"{total_passed} passed, {total_failed} failed")
    return min(total_failed, 1)


if __name__ == "__main__":
    sys.exit(main())
