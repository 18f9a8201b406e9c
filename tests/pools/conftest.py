"""What the tests of backend pools share: configurations and modules that end with a test."""

import sys
import threading
from textwrap import dedent

import pytest

from m3 import configure


@pytest.fixture(autouse=True)
def unconfigured():
    """Begin with nothing configured, and leave nothing behind."""
    with configure():
        yield


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module, which is importable during the test."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(dedent(text))
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture(params=[None, 1e-6], ids=["usual", "switching"])
def race(request):
    """Return a function that calls others in threads, all at once, and returns their results."""
    interval = sys.getswitchinterval()

    def run(*calls):
        start = threading.Barrier(len(calls))
        results = [None] * len(calls)

        def body(index, call):
            start.wait()
            results[index] = call()

        threads = [threading.Thread(target=body, args=pair) for pair in enumerate(calls)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    sys.setswitchinterval(request.param or interval)
    yield run
    sys.setswitchinterval(interval)
