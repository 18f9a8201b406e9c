"""The connector ``parquet``: rows and batches, parts that are whole, going on behind a row."""

import os
import signal
import subprocess
from datetime import date, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3.connectors._parquet import writing
from m3.connectors.parquet import ParquetBackend, ParquetFrontend, RowsPosition
from m3.errors import BatchError, ConfigError, MalformedRecordError, StateError
from m3.pipeline import Pipeline
from m3.stages import Failure

pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
pq = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")


def rows(count, start=0):
    return [{"id": n, "text": f"row {n}"} for n in range(start, start + count)]


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def table(tmp_path):
    """A file of ten rows in row groups of four."""
    path = tmp_path / "table.parquet"
    pq.write_table(pa.Table.from_pylist(rows(10)), path, row_group_size=4)
    return path


# -- frontend ---------------------------------------------------------------


def produced(path, checkpoint=None, **options):
    """Return the frontend, and all it produces with positions, from *checkpoint* on."""
    frontend = ParquetFrontend(path=path, **options)
    frontend.wants_positions = True
    frontend.setup()
    frontend.resume(checkpoint)
    try:
        return frontend, list(frontend.produce())
    finally:
        frontend.cleanup()


@pytest.mark.parametrize("batch_rows", [1, 3, 4, 100])
def test_rows_are_dictionaries(table, read_all, batch_rows):
    """Each row is an item, in order, whatever the sizes of row groups and batches."""
    assert read_all(ParquetFrontend(path=table, batch_rows=batch_rows)) == rows(10)
    columns = read_all(ParquetFrontend(path=table, batch_rows=batch_rows, columns=["id"]))
    assert columns == [{"id": n} for n in range(10)]


def test_batches_are_items_if_wished(table, read_all):
    """With ``as_batches`` Arrow's own batches go through; none is over a row group."""
    batches = read_all(ParquetFrontend(path=table, as_batches=True, batch_rows=3))
    assert [batch.num_rows for batch in batches] == [3, 1, 3, 1, 2]
    assert pa.Table.from_batches(batches).to_pylist() == rows(10)


def test_files_directories_and_patterns(tmp_path, read_all):
    """A directory is read sorted, below it too, without unfinished files; a pattern likewise."""
    for number, name in enumerate(["b", "a", "deep/c", ".hidden", "_skip/d"]):
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"n": [number]}), path)
    (tmp_path / "note.txt").touch()

    def read(path):
        return [item["n"] for item in read_all(ParquetFrontend(path=path))]

    assert read(tmp_path) == [1, 0, 2]
    assert read(f"{tmp_path}/?.parquet") == [1, 0]
    assert read([tmp_path / "b.parquet", str(tmp_path / "deep")]) == [0, 2]
    with pytest.raises(ConfigError, match="no such file"):
        read(f"{tmp_path}/x*.parquet")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "x.parquet")


def test_wrong_input_is_refused_before_the_run(tmp_path, table):
    """A file that is no Parquet, a column that is not there: errors that name them."""
    (tmp_path / "wrong.parquet").write_bytes(b"not at all")
    with pytest.raises(ConfigError, match=r"wrong\.parquet"):
        ParquetFrontend(path=tmp_path / "wrong.parquet").setup()
    with pytest.raises(ConfigError, match="no column 'x'; it has: id, text"):
        ParquetFrontend(path=table, columns=["id", "x"]).setup()
    with pytest.raises(ConfigError, match="batch_rows"):
        ParquetFrontend(path=table, batch_rows=0)


@pytest.mark.parametrize("batch_rows", [1, 3, 100])
@pytest.mark.parametrize("as_batches", [False, True])
def test_a_run_goes_on_behind_any_row(tmp_path, table, batch_rows, as_batches):
    """From each position on, the rest is what it was: across row groups and files."""
    second = tmp_path / "z.parquet"
    pq.write_table(pa.Table.from_pylist(rows(5, 10)), second, row_group_size=2)
    options = {"batch_rows": batch_rows, "as_batches": as_batches}
    frontend, items = produced([table, second], **options)
    for number, item in enumerate(items):
        _, rest = produced([table, second], frontend.checkpoint(tuple(item.position)), **options)
        assert rest == items[number + 1 :]
    if not as_batches:
        assert items[11].position == RowsPosition(str(second), 2, 1, 1)


def test_changed_input_is_refused(tmp_path, table):
    """Another file under the name, or other files before it, are errors that say so."""
    frontend, items = produced(table)
    checkpoint = frontend.checkpoint(items[3].position)
    for changed in ({"names": "x"}, {"file": 1}, {"file": -1}):
        with pytest.raises(StateError, match="given other files"):
            produced(table, checkpoint | changed)
    pq.write_table(pa.Table.from_pylist(rows(10, 1)), table, row_group_size=4)
    with pytest.raises(StateError, match=r"table\.parquet"):
        produced(table, checkpoint)
    with pytest.raises(StateError, match="no checkpoint"):
        produced(table, {"row": 1})


def test_a_damaged_row_group_is_one_failure(table, read_all):
    """The rows of other groups are read; the failure says which rows are lost."""
    metadata = pq.read_metadata(table)
    column = metadata.row_group(1).column(1)
    data = bytearray(table.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    table.write_bytes(data)
    items = read_all(ParquetFrontend(path=table))
    (failure,) = [item for item in items if isinstance(item, Failure)]
    assert isinstance(failure.error, MalformedRecordError)
    assert failure.position == (str(table), 5, 4, 0)
    assert [item for item in items if item is not failure] == rows(4) + rows(2, 8)


def test_a_value_that_python_has_not_is_one_failure(tmp_path, read_all):
    """A row that cannot be made into Python's values fails by itself."""
    path = tmp_path / "table.parquet"
    days = pa.array([1, 2**31 - 1, 3], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"day": days}), path)
    first, failure, last = read_all(ParquetFrontend(path=path))
    assert (first, last) == ({"day": date(1970, 1, 2)}, {"day": date(1970, 1, 4)})
    assert failure.position == (str(path), 2, 1, 0)


def test_memory_is_flat(tmp_path, python):
    """A file of many row groups needs the memory of one."""
    path = tmp_path / "large.parquet"
    with pq.ParquetWriter(path, pa.schema([("x", pa.binary())]), compression="none") as writer:
        for _ in range(40):
            values = [os.urandom(1024) for _ in range(4096)]
            writer.write_table(pa.table({"x": values}))
    program = """
import resource, sys
from m3.connectors.parquet import ParquetFrontend
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
frontend = ParquetFrontend(path=sys.argv[1], batch_rows=256)
frontend.setup()
items = frontend.produce()
for _ in range(10_000):
    next(items)
before = peak()
print(sum(1 for _ in items), peak() - before)
"""
    process = python(program, path, stdout=subprocess.PIPE)
    count, growth = process.communicate()[0].split()
    assert int(count) == 40 * 4096 - 10_000
    assert int(growth) < 24


# -- backend ----------------------------------------------------------------


@pytest.fixture
def written(tmp_path, write_all, read_all):
    """Return what writes batches into a directory and reads it back."""

    def written(*batches, **options):
        write_all(ParquetBackend(path=tmp_path / "out", **options), *batches)
        return read_all(ParquetFrontend(path=tmp_path / "out"))

    return written


values = st.fixed_dictionaries(
    {
        "integer": st.integers(-(2**63), 2**63 - 1) | st.none(),
        "real": st.floats(allow_nan=False),
        "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.none(),
        "bytes": st.binary(max_size=5),
        "truth": st.booleans(),
        "list": st.lists(st.integers(-10, 10) | st.none(), max_size=3),
        "time": st.datetimes(),
        "day": st.dates(),
    }
)

SCHEMA = pa.schema(
    {
        "integer": pa.int64(),
        "real": pa.float64(),
        "text": pa.string(),
        "bytes": pa.binary(),
        "truth": pa.bool_(),
        "list": pa.list_(pa.int8()),
        "time": pa.timestamp("us"),
        "day": pa.date32(),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    items=st.lists(values, min_size=1, max_size=30),
    size=st.integers(1, 7),
    options=st.sampled_from([{"schema": SCHEMA, "rows_per_group": 3}, {}]),
)
def test_what_is_written_is_read_back_the_same(
    tmp_path_factory, write_all, read_all, items, size, options
):
    """Values of the usual types survive, however the items are gathered and split."""
    path = tmp_path_factory.mktemp("parts")
    batches = [items[at : at + size] for at in range(0, len(items), size)]
    write_all(ParquetBackend(path=path, **options), *batches)
    assert read_all(ParquetFrontend(path=path)) == items


def test_parts_have_their_sizes(tmp_path, write_all):
    """Files and row groups are as long as they were said to be; the last may be shorter."""
    path = tmp_path / "out"
    write_all(ParquetBackend(path=path, rows_per_file=10, rows_per_group=4), rows(7), rows(16, 7))
    assert names(path) == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    sizes = []
    for name in names(path):
        metadata = pq.read_metadata(path / name)
        sizes.append([metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)])
    assert sizes == [[4, 4, 2], [4, 4, 2], [3]]


def test_a_part_is_there_when_it_is_full(tmp_path):
    """Without state, full parts appear at once, and a failed run keeps those, not the last."""
    backend = ParquetBackend(path=tmp_path / "out", rows_per_file=5)
    backend.setup()
    backend.process_batch(rows(7))
    visible = [name for name in names(tmp_path / "out") if not name.startswith(".")]
    assert visible == ["part-00000.parquet"]
    backend.failed = True
    backend.cleanup()
    assert names(tmp_path / "out") == ["part-00000.parquet"]


def test_single_items_make_no_small_row_groups(written, tmp_path):
    """A thousand batches of one item are one row group."""
    assert written(*([item] for item in rows(1000))) == rows(1000)
    assert pq.read_metadata(tmp_path / "out" / "part-00000.parquet").num_row_groups == 1


def test_the_schema_is_widened_by_the_first_rows(written):
    """Until a row group is written: None becomes something, integers reals, columns are added."""
    items = [{"a": None, "b": 1}, {"a": "x", "b": 2.5}, {"a": "y", "b": 3, "c": True}]
    back = written(*([item] for item in items))
    assert back == [{"a": item["a"], "b": item["b"], "c": item.get("c")} for item in items]


def test_items_that_do_not_fit_fail_by_themselves(tmp_path, read_all):
    """Each item that would lose something in a fixed schema is an error; the rest is written."""
    schema = {"id": "int64", "text": "string", "day": "date32"}
    backend = ParquetBackend(path=tmp_path / "out", schema=schema)
    backend.setup()
    bad = [
        1,
        {"id": "x"},
        {"id": 1.5},
        {"id": 2**64},
        {"id": Decimal("1.5")},
        {"x": 1},
        {3: 4},
        {"text": 5},
        {"text": "\ud800"},
        {"day": datetime(2024, 1, 1, 12)},  # noqa: DTZ001
    ]
    good = [{"id": 1, "text": "a"}, {"id": 2.0}, {}]
    with pytest.raises(BatchError) as caught:
        backend.process_batch([good[0], *bad, *good[1:]])
    assert sorted(caught.value.errors) == list(range(1, len(bad) + 1))
    assert "there are: id, text, day" in str(caught.value.errors[6])
    backend.cleanup()
    back = read_all(ParquetFrontend(path=tmp_path / "out"))
    assert back == [
        {"id": 1, "text": "a", "day": None},
        {"id": 2, "text": None, "day": None},
        {"id": None, "text": None, "day": None},
    ]


def test_a_column_without_any_value_has_no_type(tmp_path):
    """When the first rows are written without one, later values fail, and the error says why."""
    backend = ParquetBackend(path=tmp_path / "out", rows_per_group=1)
    backend.setup()
    backend.process_batch([{"a": None}])
    with pytest.raises(BatchError, match=r"'a' is null.*schema"):
        backend.process_batch([{"a": 1}])
    backend.cleanup()


def test_items_that_fit_no_schema_together_fail_by_themselves(written, tmp_path):
    """Without a schema, the first item decides between two that exclude each other."""
    backend = ParquetBackend(path=tmp_path / "out")
    backend.setup()
    with pytest.raises(BatchError) as caught:
        backend.process_batch([{"a": 2**53 + 1}, {"a": "x"}, {"a": 0.5}, {}, {"a": 3}])
    assert sorted(caught.value.errors) == [1, 2, 3]
    backend.cleanup()
    table = pq.read_table(tmp_path / "out")
    assert table.to_pylist() == [{"a": 2**53 + 1}, {"a": 3}]


def test_a_column_that_needs_values(tmp_path):
    """A missing value where the schema allows none is an error of the item."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    backend = ParquetBackend(path=tmp_path / "out", schema=schema)
    backend.setup()
    with pytest.raises(BatchError, match="needs a value"):
        backend.process_batch([{"id": 1}, {"id": None}])
    backend.cleanup()


def test_batches_of_arrow_are_written(table, tmp_path, read_all, write_all):
    """What was read ``as_batches`` goes through as it is; other columns are refused."""
    batches = read_all(ParquetFrontend(path=table, as_batches=True))
    write_all(ParquetBackend(path=tmp_path / "out"), batches[:2], batches[2:])
    assert read_all(ParquetFrontend(path=tmp_path / "out")) == rows(10)
    backend = ParquetBackend(path=tmp_path / "other", schema={"id": "int64"})
    backend.setup()
    with pytest.raises(BatchError, match="text"):
        backend.process_batch(batches)
    backend.cleanup()


def test_one_file_appears_at_the_end(tmp_path, write_all, read_all):
    """A path that ends with .parquet is one file, replaced as a whole or not at all."""
    path = tmp_path / "out.parquet"
    write_all(ParquetBackend(path=path, rows_per_file=2), rows(5))
    assert read_all(ParquetFrontend(path=path)) == rows(5)
    path.chmod(0o600)
    write_all(ParquetBackend(path=path), rows(3), failed=True)
    assert read_all(ParquetFrontend(path=path)) == rows(5)
    write_all(ParquetBackend(path=path), rows(3))
    assert read_all(ParquetFrontend(path=path)) == rows(3)
    assert path.stat().st_mode & 0o777 == 0o600
    write_all(ParquetBackend(path=path))
    assert read_all(ParquetFrontend(path=path)) == []
    assert names(tmp_path) == ["out.parquet"]


def test_one_file_is_refused_where_state_is_kept(tmp_path, run_program):
    """Nothing of one file is durable before its end: who explains, and who runs, says so."""
    (tmp_path / "in.jsonl").write_text('{"a": 1}\n')
    pipeline = (
        *("--frontend", "jsonl", "--set", "frontend.path=in.jsonl", "--state", "state"),
        *("--backend", "parquet", "--set", "backend.path=out.parquet"),
    )
    for command in ("explain", "run"):
        done = run_program("m3", command, *pipeline)
        assert done.returncode == 2, done.stderr
        assert "'parquet' keeps what it got only when the run has ended well" in done.stderr
        assert "effectively once" not in done.stdout + done.stderr
    with pytest.raises(ConfigError, match="a directory of parts"):
        (
            Pipeline("jsonl", path=tmp_path / "in.jsonl", state=tmp_path / "state")
            .backend("parquet", path=tmp_path / "out.parquet")
            .run()
        )
    assert not (tmp_path / "out.parquet").exists()


def test_a_directory_with_parts_is_not_mixed_up(tmp_path, write_all, read_all):
    """Parts that are there are neither replaced nor added to, unless ``append`` says so."""
    path = tmp_path / "out"
    write_all(ParquetBackend(path=path), rows(2))
    with pytest.raises(ConfigError, match="append"):
        ParquetBackend(path=path).setup()
    write_all(ParquetBackend(path=path, append=True), rows(3, 2))
    assert read_all(ParquetFrontend(path=path)) == rows(5)


def test_a_second_writer_is_refused(tmp_path):
    """Two runs cannot write parts into one directory at a time."""
    first = ParquetBackend(path=tmp_path / "out")
    first.setup()
    with pytest.raises(StateError, match="another run"):
        ParquetBackend(path=tmp_path / "out").setup()
    first.cleanup()
    second = ParquetBackend(path=tmp_path / "out")
    second.setup()
    second.cleanup()


@pytest.mark.parametrize(
    "options",
    [
        {"schema": {"a": "nonsense"}},
        {"schema": "a: int64"},
        {"schema": {}},
        {"compression": "nonsense"},
        {"rows_per_file": 0},
        {"rows_per_group": 0},
        {"path": "x.parquet", "append": True},
        {"path": "x/{a}.parquet"},
        {"path": "x/{}"},
    ],
)
def test_impossible_options_are_refused(options):
    """What cannot work is an error when the stage is made."""
    with pytest.raises(ConfigError):
        ParquetBackend(**{"path": "x", **options})


# -- a path with fields -----------------------------------------------------


def places(folder):
    """Return the ids of the rows of each part, by the part's path."""
    return {
        str(path.relative_to(folder)): pq.read_table(path, partitioning=None)
        .column("id")
        .to_pylist()
        for path in sorted(folder.rglob("*.parquet"))
    }


def visits(*days):
    return [{"id": number, "day": day} for number, day in enumerate(days)]


def test_each_directory_has_its_parts(tmp_path, write_all, read_all):
    """Items go where their fields say, below the root whatever they say; all are read again."""
    backend = ParquetBackend(path=f"{tmp_path}/out/day={{day}}/", rows_per_file=2)
    write_all(backend, visits("a", "b", "a", "a", "../../x", "b"))
    assert places(tmp_path) == {
        "out/day=a/part-00000.parquet": [0, 2],
        "out/day=b/part-00001.parquet": [1, 5],
        "out/day=a/part-00002.parquet": [3],
        "out/day=%2E.%2F..%2Fx/part-00003.parquet": [4],
    }
    read = read_all(ParquetFrontend(path=tmp_path / "out"))
    assert sorted(item["id"] for item in read) == [0, 1, 2, 3, 4, 5]
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_file()] == []


def test_items_that_do_not_fit_into_directories_fail_by_themselves(tmp_path):
    """One without the field, one that is no mapping, one that its directory's schema refuses."""
    backend = ParquetBackend(path=f"{tmp_path}/{{day}}", schema={"id": "int64", "day": "string"})
    backend.setup()
    items = [{"id": 1}, 2, {"id": 3, "day": "a"}, {"id": "x", "day": "a"}, {"id": 4, "day": "b"}]
    with pytest.raises(BatchError) as caught:
        backend.process_batch(items)
    assert sorted(caught.value.errors) == [0, 1, 3]
    backend.cleanup()
    assert places(tmp_path) == {"a/part-00000.parquet": [3], "b/part-00001.parquet": [4]}


def test_no_symbolic_link_leads_parts_out_of_the_root(tmp_path, write_all):
    """Neither to write there nor to remove what is there."""
    outside, root = tmp_path / "outside", tmp_path / "out"
    write_all(ParquetBackend(path=outside), rows(1))
    root.mkdir()
    (root / "a").symlink_to(outside)
    before = (outside / "part-00000.parquet").read_bytes()
    backend = ParquetBackend(path=f"{root}/{{day}}")
    backend.setup()
    backend.process_batch(visits("a"))
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        backend.commit()
    backend.failed = True
    backend.cleanup()
    assert names(outside) == ["part-00000.parquet"]
    assert (outside / "part-00000.parquet").read_bytes() == before


def test_many_directories_are_written_with_few_files_open(tmp_path, monkeypatch, write_all):
    """The part that was not used for longest ends, and another follows it; rows waiting too."""
    monkeypatch.setattr(writing, "MOST_OPEN", 3)
    monkeypatch.setattr(writing, "GROUP_SIZE", 200)
    items = visits(*(f"{number % 10}" for number in range(100)))
    batches = [items[start : start + 5] for start in range(0, 100, 5)]
    write_all(ParquetBackend(path=f"{tmp_path}/{{day}}"), *batches)
    found = places(tmp_path)
    assert sorted(number for ids in found.values() for number in ids) == list(range(100))
    assert len(found) > 10
    for path, ids in found.items():
        assert {str(number % 10) for number in ids} == {path.split("/")[0]}


def test_parts_in_all_directories_are_gone_back_from(tmp_path):
    """With state, what came behind the mark is removed wherever it is; a lost part is noticed."""
    path = f"{tmp_path}/{{day}}"
    backend = begun(path, None)
    backend.process_batch(visits("a", "b"))
    mark = backend.commit()
    backend.process_batch(visits("b", "c"))
    backend.commit()
    backend.process_batch(visits("a"))
    backend.failed = True
    backend.cleanup()
    assert len(places(tmp_path)) == 4
    backend = begun(path, mark)
    assert places(tmp_path) == {"a/part-00000.parquet": [0], "b/part-00001.parquet": [1]}
    backend.process_batch([{"id": 7, "day": "c"}])
    mark = backend.commit()
    backend.cleanup()
    assert places(tmp_path)["c/part-00002.parquet"] == [7]
    (tmp_path / "b" / "part-00001.parquet").unlink()
    with pytest.raises(StateError, match="part-00001"):
        begun(path, mark)


# -- what fails -------------------------------------------------------------


def test_what_could_not_be_written_is_not_forgotten(tmp_path, python):
    """When the disk is full, all that follows fails too, for items before were taken over."""
    program = """
import os, resource, signal, sys
from m3.connectors.parquet import ParquetBackend
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
backend = ParquetBackend(path=sys.argv[1], rows_per_group=4, compression="none")
backend.setup()
backend.process_batch([{"a": "x"}])
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for size in (100_000, 1):
    try:
        backend.process_batch([{"a": os.urandom(size).hex()}] * 3)
    except OSError as error:
        print("failed")
try:
    backend.cleanup()
except OSError as error:
    print("failed")
"""
    process = python(program, tmp_path / "out", stdout=subprocess.PIPE)
    assert process.communicate()[0] == b"failed\n" * 3
    assert names(tmp_path / "out") == []


# -- with state -------------------------------------------------------------


def begun(path, mark, **options):
    backend = ParquetBackend(path=path, **options)
    backend.setup()
    try:
        backend.resume(mark)
    except BaseException:
        backend.failed = True
        backend.cleanup()
        raise
    return backend


def end(backend, *, failed=False):
    backend.failed = failed
    backend.cleanup()


def test_a_run_goes_on_where_it_committed(tmp_path, read_all):
    """Parts end at commits; what came later is removed, what came before stays."""
    path = tmp_path / "out"
    backend = begun(path, None, rows_per_file=4)
    assert backend.commit()["next"] == 0
    backend.process_batch(rows(10))
    assert not [name for name in names(path) if name.startswith("part")]
    mark = backend.commit()
    assert mark["next"] == 3
    assert backend.commit() == mark
    backend.process_batch(rows(5, 100))
    backend.commit()
    backend.process_batch(rows(5, 200))
    end(backend, failed=True)
    backend = begun(path, mark)
    assert read_all(ParquetFrontend(path=path)) == rows(10)
    backend.process_batch(rows(5, 10))
    backend.commit()
    end(backend)
    assert read_all(ParquetFrontend(path=path)) == rows(15)


def test_without_a_mark_our_parts_are_removed(tmp_path, read_all):
    """A run that died before its first checkpoint was kept leaves nothing behind."""
    path = tmp_path / "out"
    backend = begun(path, None)
    backend.process_batch(rows(3))
    backend.commit()
    end(backend, failed=True)
    backend = begun(path, None)
    assert names(path) == [".m3-writer"]
    end(backend)
    with pytest.raises(ConfigError, match="no such file"):
        read_all(ParquetFrontend(path=path))


def test_parts_of_others_are_never_removed(tmp_path, write_all, read_all):
    """Going back touches our parts alone, whatever was added before and in between."""
    path = tmp_path / "out"
    write_all(ParquetBackend(path=path), rows(1))
    with pytest.raises(ConfigError, match="append"):
        begun(path, None)
    backend = begun(path, None, append=True)
    backend.process_batch(rows(1, 1))
    mark = backend.commit()
    backend.process_batch(rows(1, 50))
    backend.commit()
    end(backend, failed=True)
    write_all(ParquetBackend(path=path, append=True), rows(1, 2))
    backend = begun(path, mark, append=True)
    backend.process_batch(rows(1, 3))
    backend.commit()
    end(backend)
    assert read_all(ParquetFrontend(path=path)) == rows(4)


def test_a_missing_part_is_refused(tmp_path):
    """Somebody removed what was committed: the run does not go on, and removes nothing."""
    path = tmp_path / "out"
    backend = begun(path, None, rows_per_file=2)
    backend.process_batch(rows(4))
    mark = backend.commit()
    end(backend)
    (path / "part-00000.parquet").unlink()
    with pytest.raises(StateError, match="part-00000"):
        begun(path, mark)
    with pytest.raises(StateError, match="checkpoint"):
        begun(path, {"next": 1})
    assert names(path) == [".m3-writer", "part-00001.parquet"]


def test_a_directory_of_a_run_with_state_is_not_written_without(tmp_path):
    """Without state, the parts of one that had it are as those of anybody else."""
    path = tmp_path / "out"
    backend = begun(path, None)
    backend.process_batch(rows(1))
    backend.commit()
    end(backend)
    backend = ParquetBackend(path=path)
    backend.setup()
    with pytest.raises(ConfigError, match="append"):
        backend.process_batch(rows(1))
    end(backend, failed=True)


COPY = """
import json, os, random, sys
from m3.connectors.parquet import ParquetBackend, ParquetFrontend
source, target, state = sys.argv[1:]
checkpoint = mark = None
if os.path.exists(state):
    checkpoint, mark = json.load(open(state))
frontend = ParquetFrontend(path=source)
backend = ParquetBackend(path=target, rows_per_file=70, rows_per_group=30)
frontend.wants_positions = True
frontend.setup(), backend.setup()
frontend.resume(checkpoint), backend.resume(mark)
print("begun", flush=True)
def keep(position):
    pair = [frontend.checkpoint(position), backend.commit()]
    with open(state + ".new", "w") as file:
        json.dump(pair, file)
    os.replace(state + ".new", state)
for number, item in enumerate(frontend.produce(), 1):
    backend.process_batch([item.value])
    if number % 100 == 0:
        keep(item.position)
keep(item.position)
backend.cleanup()
print("end", flush=True)
"""


def test_kills_lose_and_repeat_nothing(tmp_path, python, read_all):
    """Killed with SIGKILL at any moment, no half part is seen, and all rows come once."""
    source, target = tmp_path / "source.parquet", tmp_path / "target"
    pq.write_table(pa.Table.from_pylist(rows(3000)), source, row_group_size=500)
    killed = 0
    for attempt in range(40):
        process = python(COPY, source, target, tmp_path / "state", stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"begun\n"
        try:
            process.wait(timeout=0.02 * (attempt + 1))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=20)
            killed += 1
        for part in target.glob("part-*.parquet"):
            assert pq.read_table(part).num_rows > 0
        if process.returncode == 0:
            break
    assert killed
    assert read_all(ParquetFrontend(path=target)) == rows(3000)
    assert not list(target.glob("*.tmp"))


def test_no_descriptor_is_left(tmp_path, read_all, write_all, descriptors):
    """Runs, failed ones too, leave as many descriptors open as there were."""

    def run(number):
        path = tmp_path / str(number)
        write_all(ParquetBackend(path=path), rows(3), failed=number % 2 == 0)
        write_all(ParquetBackend(path=path, append=True), rows(3))
        read_all(ParquetFrontend(path=path))

    run(0)
    before = descriptors()
    for number in range(1, 10):
        run(number)
    assert descriptors() == before
