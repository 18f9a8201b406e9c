"""Progress on stderr."""

import io
import queue
import threading

import pytest

from m3.engine.report import Report
from m3.observe.progress import PlainPainter, Progress
from m3.observe.rates import rates_between
from m3.pipeline import Pipeline


@pytest.fixture
def finished():
    """Return the report of a real run."""
    return Pipeline(range(1234), name="demo").transport(str).backend(len).run()


class Recorder:
    """A painter whose pictures can be waited for."""

    period = 0.001

    def __init__(self):
        self.pictures = queue.Queue()

    def paint(self, rates):
        self.pictures.put(rates)

    def close(self):
        self.pictures.put(None)


def test_progress_of_a_running_engine():
    """Pictures come while the engine runs; the last thing is that they are taken away."""
    gate = threading.Event()

    def consume(item):
        gate.wait()

    engine = Pipeline(range(10)).backend(consume).engine()
    recorder = Recorder()
    with Progress(engine.report, recorder):
        engine.start(block=False)
        first = recorder.pictures.get()
        gate.set()
        engine.wait()
    assert isinstance(first.report, Report)
    assert list(recorder.pictures.queue)[-1] is None


def test_no_thread_is_left():
    """The thread of the display ends with its block, also when the block raises."""
    before = threading.active_count()
    engine = Pipeline(range(3)).backend(len).engine()
    with pytest.raises(RuntimeError), Progress(engine.report, Recorder()):
        raise RuntimeError
    assert threading.active_count() == before


def test_closed_stderr_ends_the_display_only():
    """When nobody reads stderr, the display ends and the block goes on."""
    tried = threading.Event()

    class Closed:
        period = 0.001

        def paint(self, rates):
            tried.set()
            raise BrokenPipeError

        def close(self):
            pass

    engine = Pipeline(range(10)).backend(str).engine()
    with Progress(engine.report, Closed()):
        engine.start()
        assert tried.wait(10)


def test_plain_line(monkeypatch, finished):
    """Without a terminal, there is one line for each picture."""
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    painter = PlainPainter(in_place=False)
    painter.paint(rates_between(None, finished))
    painter.close()
    assert stderr.getvalue().startswith("demo: 1,234 produced, 1,234 delivered, ")
    assert stderr.getvalue().count("\n") == 1
    assert "\x1b" not in stderr.getvalue()


def test_plain_line_in_place(monkeypatch, finished):
    """On a terminal, the line is rewritten, and cleared at the end."""
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    painter = PlainPainter(in_place=True)
    painter.paint(rates_between(None, finished))
    painter.close()
    assert stderr.getvalue().count("\r\x1b[K") == 2
    assert "\n" not in stderr.getvalue()


def test_table(finished):
    """The table has a row for each stage, with a bar where there is a queue."""
    rich = pytest.importorskip("rich.console")
    from m3.observe._table import table

    console = rich.Console(file=io.StringIO(), width=100)
    console.print(table(rates_between(None, finished)))
    text = console.file.getvalue()
    assert "demo: 1,234 produced, 1,234 delivered" in text
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["stage", "range", "str", "len"]
