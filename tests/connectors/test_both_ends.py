"""Input is never emptied by the sink of its own run, and a sink never read by it."""

import json
import os

import pytest

from m3.connectors.csv import CsvBackend, CsvFrontend
from m3.connectors.file import FileBackend, FileFrontend
from m3.connectors.jsonl import JsonlBackend, JsonlFrontend
from m3.connectors.parquet import ParquetFrontend
from m3.errors import BatchError, StageError, StateError
from m3.pipeline import Pipeline

LINES = b'{"n":1}\n{"n":2}\n'


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "both"
    path.write_bytes(LINES)
    return path


def run(tmp_path, frontend, backend, **options):
    """Run a pipeline with state."""
    pipeline = Pipeline(frontend, state=tmp_path / "state").backend(backend, **options)
    return pipeline.run()


@pytest.mark.parametrize(
    ("frontend", "backend", "content"),
    [
        (FileFrontend, FileBackend, LINES),
        (JsonlFrontend, JsonlBackend, LINES),
        (CsvFrontend, CsvBackend, b"n\n1\n"),
        (FileFrontend, JsonlBackend, LINES),
    ],
    ids=["file", "jsonl", "csv", "file to jsonl"],
)
@pytest.mark.parametrize("alias", ["name", "hard link", "symbolic link"])
def test_input_is_not_emptied_by_its_sink(tmp_path, path, frontend, backend, content, alias):
    """With state, a file that is read as well is refused before it is written to."""
    path.write_bytes(content)
    sink = path if alias == "name" else tmp_path / "alias"
    if alias != "name":
        (os.link if alias == "hard link" else os.symlink)(path, sink)
    with pytest.raises(StateError, match=r"(?s)read.*emptied.*keep no state"):
        run(tmp_path, frontend(path=path), backend(path=sink))
    assert path.read_bytes() == content


def test_without_state_a_file_can_be_replaced_by_what_is_made_of_it(path):
    """The sink is put in its place at the end only, so nothing is lost."""
    Pipeline("file", path=path).transport(bytes.upper).backend("file", path=path).run()
    assert path.read_bytes() == LINES.upper()


def test_a_file_of_many_is_not_emptied(tmp_path, path):
    """Neither is one of a directory that is read, nor one that a path with fields leads to."""
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "1"
    source.write_bytes(LINES)
    for sink in (FileBackend(path=source), JsonlBackend(path=f"{tmp_path}/in/{{n}}")):
        with pytest.raises((StageError, StateError), match="in/1 is one of the files that are"):
            run(tmp_path, JsonlFrontend(path=tmp_path / "in"), sink)
        assert source.read_bytes() == LINES


def test_a_file_of_many_is_not_emptied_by_a_backend_that_comes_to_it_late(tmp_path, path):
    """Also when the frontend has read all and is gone, for nothing was committed yet."""
    frontend, backend = JsonlFrontend(path=path), JsonlBackend(path=f"{tmp_path}/{{n}}")
    frontend.setup()
    backend.setup()
    backend.resume(None)
    frontend.cleanup()
    with pytest.raises(BatchError, match="emptied"):
        backend.process_batch([{"n": path.name}, {"n": "other"}])
    assert json.loads((tmp_path / "other").read_bytes()) == {"n": "other"}
    mark = backend.commit()
    backend.failed = True
    backend.cleanup()
    backend = JsonlBackend(path=f"{tmp_path}/{{n}}")
    backend.setup()
    backend.resume(mark)
    backend.cleanup()
    assert path.read_bytes() == LINES


def test_a_run_does_not_go_on_in_its_own_output(tmp_path):
    """A sink in the directory that is read is new in the first run, and refused in the next."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a").write_bytes(b"1\n2\n")
    options = {"path": folder / "z"}
    run(tmp_path, FileFrontend(path=folder), "file", **options)
    assert (folder / "z").read_bytes() == b"1\n2\n"
    with pytest.raises(StateError, match=r"in/z is one of the files that are read.*own output"):
        run(tmp_path, FileFrontend(path=folder), "file", **options)
    assert (folder / "z").read_bytes() == b"1\n2\n"


def test_a_run_with_state_does_not_add_to_what_it_reads(tmp_path, path):
    """It would never come to the end."""
    with pytest.raises(StateError, match="read its own output"):
        run(tmp_path, FileFrontend(path=path), "file", path=path, append=True)
    assert path.read_bytes() == LINES


def test_a_file_that_is_followed_is_not_emptied(tmp_path, path):
    """What the follower has not read yet would be lost."""
    with pytest.raises(StateError, match="would be emptied"):
        run(tmp_path, FileFrontend(path=path, follow=True), "file", path=path)
    assert path.read_bytes() == LINES


def test_a_parquet_file_is_not_emptied(tmp_path, write_all):
    """Whatever is to be written in its place."""
    pytest.importorskip("pyarrow")
    from m3.connectors.parquet import ParquetBackend

    path = tmp_path / "rows.parquet"
    write_all(ParquetBackend(path=path), [{"n": 1}])
    whole = path.read_bytes()
    with pytest.raises(StateError, match="would be emptied"):
        run(tmp_path, ParquetFrontend(path=path), "jsonl", path=path)
    assert path.read_bytes() == whole


def test_what_was_read_before_may_be_emptied(tmp_path, path, read_all):
    """A file is an input as long as its frontend is set up."""
    assert len(read_all(FileFrontend(path=path))) == 2
    backend = FileBackend(path=path)
    backend.setup()
    backend.resume(None)
    backend.cleanup()
    assert path.read_bytes() == b""


def test_a_file_may_be_followed_while_it_is_written_in_the_same_process(path):
    """The sink of one run can be the input of another, which nothing is taken from."""
    mark = written(path).commit()
    frontend = FileFrontend(path=path, follow=True)
    frontend.setup()
    backend = FileBackend(path=path)
    backend.setup()
    backend.resume(mark)
    backend.cleanup()
    frontend.cleanup()
    assert path.read_bytes() == b""


def written(path):
    """Return a backend that has begun to write to a file in place."""
    backend = FileBackend(path=path)
    backend.setup()
    backend.resume(None)
    return backend
