"""A thread of m3 dies at a line of m3: at every line that one of its threads comes to."""

import gc
import threading
from pathlib import Path

import pytest
from outcomes import residual
from struck import COUNT, FAILING, NAMES, Bolt, Target, failing_pipelines, pipelines, run

import m3
from m3.engine import event_loop

pytestmark = pytest.mark.once

ROOT = f"{Path(m3.__file__).parent}/"


class Lines:
    """Notes the lines of m3 that its threads come to, and raises at one of them."""

    def __init__(self, target=None):
        self.target = target
        self.seen = {}
        self.is_struck = False

    def trace(self, frame, event, arg):
        name = threading.current_thread().name
        is_ours = frame.f_code.co_filename.startswith(ROOT) and name.startswith("m3-")
        return self.look if is_ours else None

    def look(self, frame, event, arg):
        if event == "line":
            file = frame.f_code.co_filename.removeprefix(ROOT)
            key = (file, frame.f_lineno, threading.current_thread().name)
            self.seen[key] = None
            if key == self.target and not self.is_struck:
                self.is_struck = True
                raise Bolt
        return self.look


def outcome(name, folder, lines):
    """Run a pipeline under *lines*; return what is wrong with its end, or None."""
    folder.mkdir(parents=True)
    answers, errors = [], []
    make = pipelines if name in NAMES else failing_pipelines
    engine = make(Target(-1), folder, answers)[name].engine()
    thread = threading.Thread(target=run, args=(engine, errors), daemon=True)
    threading.settrace(lines.trace)
    try:
        thread.start()
        thread.join(20)
    finally:
        threading.settrace(None)
    if thread.is_alive():
        return "hangs"
    report = engine.report()
    if residual(report):
        return "items are not accounted for"
    if answers and sorted(answers) != list(range(report.produced)):
        return "answers are missing"
    if not errors and lines.is_struck and (report.abandoned or report.produced < COUNT):
        return "items are lost, and the run says that all is well"
    return None


def strike_lines(name, folder, step=1):
    """Strike a pipeline at its lines, or at one of *step*; return what is wrong where."""
    lines = Lines()
    assert outcome(name, folder / "seen", lines) is None
    found = {}
    struck = list(lines.seen)[::step]
    for number, key in enumerate(struck):
        if problem := outcome(name, folder / str(number), Lines(key)):
            found[key] = problem
    gc.collect()  # coroutines that were struck are complained of here, where that is ignored
    print(name, len(struck), "lines,", len(found), "of them bad")
    return found


@pytest.fixture(autouse=True)
def few_last_words(monkeypatch):
    """Wait less for tasks of a loop that was struck."""
    monkeypatch.setattr(event_loop, "LAST_WORDS", 0.02)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*NAMES, *FAILING])
def test_death_at_some_lines(tmp_path, name):
    """Wherever a thread dies, the run ends, fails if anything is lost, and all is accounted for."""
    assert strike_lines(name, tmp_path, step=23) == {}


@pytest.mark.stress
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*NAMES, *FAILING])
def test_death_at_every_line(tmp_path, name):
    """The same at every line that a thread of m3 comes to."""
    assert strike_lines(name, tmp_path) == {}
