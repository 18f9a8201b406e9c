"""A thread of m3 dies at a line of m3: at every line that one of its threads comes to."""

import threading
from pathlib import Path

import pytest
from outcomes import residual
from struck import COUNT, Bolt, Target, pipelines, run

import m3

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
    engine = pipelines(Target(-1), folder, answers)[name].engine()
    thread = threading.Thread(target=run, args=(engine, errors), daemon=True)
    threading.settrace(lines.trace)
    try:
        thread.start()
        thread.join(3)
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


@pytest.mark.stress
@pytest.mark.timeout(3600)
@pytest.mark.xfail(reason="a thread that dies in m3's own code may be missed", strict=False)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["call", "answered", "state", "retry", "async", "ordered"])
def test_death_at_every_line(tmp_path, name):
    """Wherever a thread dies, the run ends, fails if anything is lost, and all is accounted for."""
    lines = Lines()
    assert outcome(name, tmp_path / "seen", lines) is None
    found = {}
    for number, key in enumerate(lines.seen):
        if problem := outcome(name, tmp_path / str(number), Lines(key)):
            found[key] = problem
    print(name, len(lines.seen), "lines,", len(found), "of them bad")
    for (file, line, thread), problem in sorted(found.items()):
        print(f"  {file}:{line} in {thread}: {problem}")
    assert not found
