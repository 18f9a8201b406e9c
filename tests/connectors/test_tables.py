"""CSV and Parquet in whole pipelines: what comes out, and what is counted."""

import pytest

from m3.connectors.csv import CsvFrontend
from m3.errors import MalformedRecordError, PlanError, StageError
from m3.pipeline import Pipeline


def test_rows_pass_through_both_formats(tmp_path):
    """From CSV to Parquet to CSV, each row is what it was; bad ones are counted as failed."""
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    source, parts, target = tmp_path / "in.csv", tmp_path / "parts", tmp_path / "out.csv"
    good = "".join(f'{n},"line\n{n}"\n' for n in range(5000))
    source.write_text("id,text\n" + good[: len(good) // 2].rpartition('"\n')[0] + '"\nbad\n')
    with source.open("a") as file:
        file.write('x,"y"z\n')
    report = Pipeline("csv", path=source, on_error="skip").backend("parquet", path=parts).run()
    assert (report.failed, report.produced) == (2, report.delivered + 2)
    second = Pipeline("parquet", path=parts).backend("csv", path=target).run()
    assert second.delivered == report.delivered
    kept = source.read_text().removesuffix('bad\nx,"y"z\n')
    assert target.read_text() == kept


def test_a_bad_record_ends_a_run_that_does_not_skip(tmp_path):
    """The error that the caller gets says on which line the record begins."""
    path = tmp_path / "in.csv"
    path.write_text('a,b\n1,2\n\n"x\n",y\n3\n')
    with pytest.raises(StageError, match="line=6") as caught:
        Pipeline("csv", path=path).backend("null").run()
    assert isinstance(caught.value.__cause__, MalformedRecordError)


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_several_workers_are_refused(tmp_path, name):
    """Frontends and backends of both formats have one worker."""
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    with pytest.raises(PlanError, match="1 worker"):
        Pipeline(name, path=tmp_path / "x", workers=2).backend("null").engine()
    with pytest.raises(PlanError, match="1 worker"):
        Pipeline([]).backend(name, path=tmp_path / "x", workers=2).engine()


def test_a_dialect_can_be_given_at_the_shell(tmp_path, run_program):
    """Options are typed with ``--set``; a list of names stands for a header."""
    (tmp_path / "in.csv").write_text("1;2\n")
    done = run_program(
        *("m3", "run", "--frontend", "csv", "--set", "frontend.path=in.csv"),
        *("--set", "frontend.delimiter=;", "--set", 'frontend.header=["a", "b"]'),
        *("--backend", "csv", "--set", "backend.path=-", "--set", 'backend.columns=["b", "a"]'),
    )
    assert (done.returncode, done.stdout) == (0, "b,a\n2,1\n"), done.stderr


def test_the_frontend_of_a_pipe_says_that_it_cannot_go_on(tmp_path):
    """Whether a frontend can go on is known before anything is read."""
    assert CsvFrontend(path=tmp_path / "x.csv").can_resume
    assert not CsvFrontend(path="-").can_resume
    assert not CsvFrontend(path=["/dev/null"]).can_resume
