"""The connector ``sqlite``: what SQLite does in its own way, and its files."""

import os
import random
import sqlite3
import subprocess
import threading
from contextlib import closing, suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

import pytest
from databases import opened
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from m3.connectors.sqlite import SqliteBackend, SqliteFrontend
from m3.errors import BatchError, ConfigError, StageError, StateError
from m3.pipeline import Pipeline
from m3.stages import Item

NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12
)
VALUES = st.none() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary() | st.booleans()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.db"


def rows(path, statement="SELECT * FROM items"):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def run_sql(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


# -- writing: items, columns, types -----------------------------------------------


def test_the_first_batch_makes_the_table(path, write_all):
    """Each column has the type of its values; None says nothing, and mixed values have none."""
    first = {"i": None, "r": 0.5, "t": "x", "b": b"x", "m": 1, "n": None, "o": True}
    second = {"i": 1, "r": None, "t": "y", "b": b"", "m": "1", "n": None, "late": 7}
    write_all(SqliteBackend(path=path), [first, second])
    declared = rows(path, "SELECT name, type FROM pragma_table_info('items')")
    assert dict(declared) == {
        "i": "INTEGER",
        "r": "REAL",
        "t": "TEXT",
        "b": "BLOB",
        "m": "",
        "n": "",
        "o": "INTEGER",
        "late": "INTEGER",
    }
    assert rows(path) == [
        (None, 0.5, "x", b"x", 1, None, 1, None),
        (1, None, "y", b"", "1", None, None, 7),
    ]


def test_a_key_that_is_no_column_is_an_error_of_the_item(path, write_all):
    """Items that do not fit the table fail alone; a key that is missing is NULL."""
    with pytest.raises(BatchError) as caught:
        write_all(
            SqliteBackend(path=path), [{"a": 1, "b": 2}], [{"a": 3, "c": 4}, {"a": 5}, {7: 8}]
        )
    assert "no column 'c'; it has 'a, b'" in str(caught.value.errors[0])
    assert "no column 7" in str(caught.value.errors[2])
    assert rows(path) == [(1, 2), (5, None)]


def test_an_item_that_is_no_mapping_goes_into_the_column_value(path, write_all):
    """Lines of a file need no transport to be stored."""
    write_all(SqliteBackend(path=path), [b"line", "text", 1, None, [1, 2]])
    assert rows(path, "SELECT value FROM items") == [
        (b"line",),
        ("text",),
        (1,),
        (None,),
        ("[1,2]",),
    ]


def test_values_of_other_types_are_stored_as_text(path, write_all):
    """Times are ISO 8601, decimals and UUIDs are their text, lists and mappings are JSON."""
    uuid = UUID("12345678123456781234567812345678")
    item = {
        "day": date(2026, 2, 3),
        "naive": datetime(2026, 2, 3, 4, 5, 6),  # noqa: DTZ001 - as it is, so it stays
        "aware": datetime(2026, 2, 3, 4, 5, 6, 7, UTC),
        "time": time(4, 5),
        "decimal": Decimal("1.10"),
        "uuid": uuid,
        "list": [1, "ä", None],
        "tuple": (1, 2),
        "dict": {"a": [True]},
        "buffer": bytearray(b"x"),
        "infinite": float("-inf"),
    }
    write_all(SqliteBackend(path=path), [item])
    assert rows(path) == [
        (
            "2026-02-03",
            "2026-02-03T04:05:06",
            "2026-02-03T04:05:06.000007+00:00",
            "04:05:00",
            "1.10",
            str(uuid),
            '[1,"ä",null]',
            "[1,2]",
            '{"a":[true]}',
            b"x",
            float("-inf"),
        )
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), "'v': SQLite cannot hold a object"),
        (2**63, "too large|64 bits"),
        (-(2**63) - 1, "too large|64 bits"),
        (float("nan"), "'v': it is NaN"),
        ([float("nan")], "'v'.*not JSON compliant"),
        ("\ud800", "surrogates"),
        ({1, 2}, "cannot hold a set"),
        (1j, "cannot hold a complex"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_value_that_cannot_be_stored_is_an_error_of_the_item(
    path, write_all, value, reason, is_first
):
    """It fails by itself, with a reason, and the others of its batch are stored."""
    batches = [[{"v": 1}, {"v": value}, {"v": 2}]]
    if not is_first:
        batches.insert(0, [{"v": 0}])
    with pytest.raises(BatchError) as caught:
        write_all(SqliteBackend(path=path), *batches)
    assert list(caught.value.errors) == [1]
    with pytest.raises(Exception, match=reason):
        raise caught.value.errors[1]
    assert [value for (value,) in rows(path)][-2:] == [1, 2]


def test_names_that_are_one_column_to_sqlite_are_refused(path, write_all):
    """SQLite does not tell ``a`` from ``A``; the item with the second spelling fails."""
    with pytest.raises(BatchError) as caught:
        write_all(
            SqliteBackend(path=path), [{"a": 1}, {"A": 2}, {"b": 3, "B": 4}, {"ä": 5, "Ä": 6}]
        )
    assert "'a' and 'A' are the same column" in str(caught.value.errors[1])
    assert list(caught.value.errors) == [1, 2]
    assert rows(path) == [(1, None, None), (None, 5, 6)]


@pytest.mark.parametrize("item", [{}, {"": 1}, {"a\0b": 1}, {"\ud800": 1}, {None: 1}])
def test_a_key_that_can_be_no_column_is_an_error_of_the_item(path, write_all, item):
    """No name reaches a statement that cannot be one; the table is made by the others."""
    backend = SqliteBackend(path=path)
    with pytest.raises(BatchError) as caught:
        write_all(backend, [item])
    assert "column" in str(caught.value.errors[0])
    with pytest.raises(BatchError):
        write_all(backend, [item, {"a": 1}])
    assert rows(path) == [(1,)]


def test_columns_that_are_declared_are_not_guessed(path, write_all):
    """With ``columns`` the table is there before the first item, as it was said."""
    backend = SqliteBackend(path=path, columns={"zip": "TEXT", "n": "", "d": "DECIMAL(10, 2)"})
    opened(backend).cleanup()
    assert rows(path, "SELECT name, type FROM pragma_table_info('items')") == [
        ("zip", "TEXT"),
        ("n", ""),
        ("d", "DECIMAL(10, 2)"),
    ]
    with pytest.raises(BatchError, match="no column 'other'"):
        write_all(backend, [{"zip": "02134", "n": "007"}, {"other": 1}, {}])
    assert rows(path) == [("02134", "007", None), (None, None, None)]


def test_a_table_that_must_be_there_is_looked_for(path, write_all):
    """With ``create=False`` neither the database nor the table is made."""
    with pytest.raises(sqlite3.OperationalError, match=r"out\.db: unable to open"):
        SqliteBackend(path=path, create=False).setup()
    run_sql(path, "CREATE TABLE other (a)")
    with pytest.raises(ConfigError, match="no table 'items', and create=False"):
        SqliteBackend(path=path, create=False).setup()
    run_sql(path, "CREATE TABLE items (a)")
    write_all(SqliteBackend(path=path, create=False), [{"a": 1}])
    assert rows(path) == [(1,)]


def test_defaults_and_generated_columns_of_a_table_are_left_to_it(path, write_all):
    """A key that is missing is the column's default; a generated column cannot be written."""
    run_sql(
        path,
        "CREATE TABLE items (id INTEGER PRIMARY KEY, a, b NOT NULL DEFAULT 'x', "
        "c AS (a || b) STORED)",
    )
    items = [{"a": 1}, {"a": 2, "b": "y"}, {"id": 9}, {}, {"b": None}, {"c": 1}]
    with pytest.raises(BatchError) as caught:
        write_all(SqliteBackend(path=path), items)
    assert list(caught.value.errors) == [4, 5]
    assert rows(path) == [
        (1, 1, "x", "1x"),
        (2, 2, "y", "2y"),
        (9, None, "x", None),
        (10, None, "x", None),
    ]


@pytest.mark.parametrize("name", ["ROWID", " ", "ä€😀", "\u202e"])
def test_names_that_no_other_database_takes_are_names(path, name, write_all, read_all):
    """Tables and columns of any name hold what was put in, under exactly that name."""
    items = [{name: 1, "x" + name: "a"}, {name: 2, "x" + name: "b"}]
    write_all(SqliteBackend(path=path, table=name, key=name), items, items)
    assert rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'") == [(name,)]
    assert read_all(SqliteFrontend(path=path, table=name)) == items
    assert read_all(SqliteFrontend(path=path, table=name, key=name, page_size=1)) == items


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(table=NAMES, items=st.lists(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4)))
@example(table="sqlite", items=[{"İ": 1, "i̇": 2}])
@example(table="\u017fqlite_x", items=[{"K": 1, "k": 2}])
def test_names_and_values_come_back_as_they_were(tmp_path, table, items, read_all):
    """Whatever the names and values are, what was accepted is read back equal."""
    path = tmp_path / "fuzz.db"
    for name in os.listdir(tmp_path):
        os.unlink(tmp_path / name)
    try:
        backend = SqliteBackend(path=path, table=table)
    except ConfigError:
        assert table.lower().startswith("sqlite_") or table.lower() == "m3_checkpoints"
        return
    backend.setup()
    failed = {}
    try:
        backend.process_batch(items)
    except BatchError as error:
        failed = error.errors
    finally:
        backend.cleanup()
    assert all("same column" in str(error) for error in failed.values())
    kept = [item for index, item in enumerate(items) if index not in failed]
    if not kept:
        return
    read = read_all(SqliteFrontend(path=path, table=table))
    for item, row in zip(kept, read, strict=True):
        assert {name: row[name] for name in item} == item
        assert all(row[name] is None for name in row.keys() - item.keys())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": ""}, "one character at least"),
        ({"table": "a\0b"}, "NUL"),
        ({"table": "SQLite_stat1"}, "SQLite keeps names"),
        ({"table": "M3_checkpoints"}, "m3 keeps its checkpoints"),
        ({"key": []}, "no column is named"),
        ({"key": ["a", "a"]}, "two columns 'a'"),
        ({"key": ["a", 1]}, "key=1: a name in a database is text"),
        ({"columns": {"a": "TEXT); DROP TABLE x"}}, "is no type"),
        ({"columns": {"": "TEXT"}}, "one character"),
        ({"columns": {"a": ""}, "key": "b"}, "not one of the columns"),
    ],
)
def test_options_that_cannot_work_are_refused(path, options, message):
    """They are refused when the stage is made; nothing is opened."""
    with pytest.raises(ConfigError, match=message):
        SqliteBackend(path=path, **options)
    assert not path.exists()


@pytest.mark.parametrize("path", [":memory:", ""])
def test_a_database_without_a_file_is_refused(path):
    """What would be gone after the run is no place to put anything."""
    with pytest.raises(ConfigError, match="has a file"):
        SqliteBackend(path=path).setup()


def test_a_path_is_a_path_whatever_is_in_it(tmp_path, write_all, read_all):
    """``?``, ``#`` and ``%`` in a path are part of it."""
    path = tmp_path / "a?mode=memory#%20ä.db"
    write_all(SqliteBackend(path=path), [{"a": 1}])
    assert path.exists()
    assert read_all(SqliteFrontend(path=path, table="items")) == [{"a": 1}]


# -- writing: keys ----------------------------------------------------------------


def test_an_update_leaves_defaults_that_the_item_does_not_name(path, write_all):
    """An upsert writes the columns of the insert, so a default does not overwrite a value."""
    run_sql(path, "CREATE TABLE items (id INTEGER PRIMARY KEY, k UNIQUE, n DEFAULT 5, v)")
    backend = SqliteBackend(path=path, key="k")
    write_all(backend, [{"id": 7, "k": "a", "n": 1, "v": 1}, {"k": "a", "v": 2}])
    assert rows(path) == [(7, "a", 1, 2)]


# -- writing: what fails and what does not ----------------------------------------


@pytest.mark.parametrize("key", [None, "state"])
def test_rows_that_the_table_refuses_are_found_and_the_rest_stored(path, key):
    """Constraints of every kind are errors of their items, in any number and place."""
    run_sql(
        path,
        "CREATE TABLE items (id INTEGER PRIMARY KEY, u UNIQUE, n NOT NULL, c CHECK (c < 10), "
        "j CHECK (json_extract(j, '$.a') IS NOT 0))",
        "CREATE TRIGGER no BEFORE INSERT ON items WHEN new.u = 'no' "
        "BEGIN SELECT RAISE(ABORT, 'it says no'); END",
    )
    good = {"n": 1, "c": 1}
    bad = [
        {"id": "x", **good},
        {"u": "twice", **good},
        {"c": 1},
        {"n": 1, "c": 10},
        {"u": "no", **good},
        {"j": "no json", **good},
        {"j": '{"a":0}', **good},
        {"id": 2**70, **good},
    ]
    items = [{"u": "twice", **good}] + [{**good} for _ in range(300)]
    places = random.Random(5).sample(range(1, 300), len(bad))
    for place, item in sorted(zip(places, bad, strict=True)):
        items[place] = item
    backend = opened(SqliteBackend(path=path), key)
    with pytest.raises(BatchError) as caught:
        backend.process_batch(items)
    if key:
        backend.commit_with(key, "1")
    backend.cleanup()
    assert list(caught.value.errors) == sorted(places)
    messages = " ".join(map(str, caught.value.errors.values()))
    for part in (
        "UNIQUE",
        "NOT NULL",
        "CHECK",
        "it says no",
        "datatype mismatch",
        "malformed JSON",
    ):
        assert part in messages
    assert rows(path, "SELECT count(*) FROM items") == [(301 - len(bad),)]


def test_a_trigger_that_cannot_run_is_no_error_of_an_item(path, write_all):
    """What is wrong whatever the item is, raises, and nothing of the batch is stored."""
    run_sql(
        path,
        "CREATE TABLE items (a)",
        "CREATE TRIGGER broken AFTER INSERT ON items BEGIN INSERT INTO gone VALUES (1); END",
    )
    with pytest.raises(sqlite3.OperationalError, match=r"out\.db: no such table: main\.gone"):
        write_all(SqliteBackend(path=path), [{"a": 1}])


@pytest.mark.parametrize("state", [False, True])
def test_a_full_database_takes_nothing_of_the_batch(path, state):
    """It raises as a whole; the next batch, when there is room, is stored with all before."""
    backend = opened(SqliteBackend(path=path), "state" if state else None)
    backend.process_batch([{"a": "first"}])
    backend._table._connection.execute("PRAGMA max_page_count = 8")
    with pytest.raises(sqlite3.OperationalError, match=r"out\.db: database or disk is full"):
        backend.process_batch([{"a": "x" * 1000}] * 100)
    backend._table._connection.execute("PRAGMA max_page_count = 1000")
    if state:  # SQLite has undone the whole transaction, the first batch too
        with pytest.raises(StateError, match="was lost"):
            backend.process_batch([{"a": "second"}])
        with pytest.raises(StateError, match="was lost"):
            backend.commit_with("state", "2")
        backend.cleanup()
        assert rows(path, "SELECT name FROM sqlite_master WHERE name = 'items'") == []
        return
    backend.process_batch([{"a": "second"}])
    backend.cleanup()
    assert rows(path) == [("first",), ("second",)]


FULL_DISK = """
import resource, signal, sys
from m3.connectors.sqlite import SqliteBackend
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
backend = SqliteBackend(path=sys.argv[1])
backend.setup()
stored = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    while True:
        backend.process_batch([{"a": "x" * 100, "n": stored + i} for i in range(100)])
        stored += 100
except Exception as error:
    print(stored, type(error).__name__, error)
"""


def test_a_full_disk_loses_nothing_that_was_delivered(path, python):
    """When the system takes no more bytes, all batches before are whole."""
    process = python(FULL_DISK, path, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=30)
    stored, kind, message = output.split(maxsplit=2)
    assert (kind, str(path) in message) == ("OperationalError", True)
    assert int(stored) > 0
    assert rows(path, "SELECT count(*), max(n) FROM items") == [(int(stored), int(stored) - 1)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_damaged_database_is_refused(path):
    """A file that is no database is named in the error, and left as it is."""
    path.write_bytes(b"no database" * 100)
    with pytest.raises(sqlite3.DatabaseError, match=r"out\.db: file is not a database"):
        SqliteBackend(path=path).setup()
    assert path.read_bytes() == b"no database" * 100


WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO items VALUES (100)")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
print("free", flush=True)
"""


@pytest.mark.parametrize("state", [False, True])
def test_another_process_that_writes_is_waited_for(path, python, state):
    """As long as ``busy_timeout`` says; then it raises, and the batch can be given again."""
    run_sql(path, "CREATE TABLE items (a)")
    backend = opened(SqliteBackend(path=path, busy_timeout=0.05), "state" if state else None)
    process = python(WRITER, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(sqlite3.OperationalError, match=r"another process.*busy_timeout=0\.05 s"):
        backend.process_batch([{"a": 1}])
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "free\n"
    backend.process_batch([{"a": 1}])
    if state:
        backend.commit_with("state", "1")
    backend.cleanup()
    assert rows(path) == [(100,), (1,)]


def test_the_lock_is_waited_for_and_taken(path, python):
    """A batch that comes while another process writes is stored as soon as that is done."""
    run_sql(path, "CREATE TABLE items (a)")
    backend = opened(SqliteBackend(path=path, busy_timeout=20))
    process = python(WRITER, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    thread = threading.Thread(target=backend.process_batch, args=[[{"a": 1}]])
    thread.start()
    process.stdin.write("\n")
    process.stdin.flush()
    thread.join(timeout=20)
    backend.cleanup()
    assert rows(path) == [(100,), (1,)]


def test_a_transaction_that_the_table_itself_undoes_is_noticed(path):
    """ON CONFLICT ROLLBACK takes earlier batches with it: the run must not go on."""
    run_sql(path, "CREATE TABLE items (a UNIQUE ON CONFLICT ROLLBACK)")
    backend = opened(SqliteBackend(path=path), "state")
    backend.process_batch([{"a": 1}])
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        backend.process_batch([{"a": 2}, {"a": 2}])
    with pytest.raises(StateError, match="goes on from that checkpoint"):
        backend.process_batch([{"a": 3}])
    backend.cleanup()
    assert rows(path) == []


def test_the_database_is_set_up_to_be_durable(path):
    """WAL and ``synchronous=FULL`` (2), so that what is committed is on the disk."""
    backend = opened(SqliteBackend(path=path))
    connection = backend._table._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    backend.cleanup()


# -- writing: state ---------------------------------------------------------------


def test_a_failed_batch_leaves_the_transaction_as_it_was(path):
    """With state, a batch that raises is undone alone, and what came before is kept."""
    run_sql(path, "CREATE TABLE items (a)", "CREATE TABLE gone (b)")
    run_sql(
        path,
        "CREATE TRIGGER broken AFTER INSERT ON items WHEN new.a = 2 "
        "BEGIN INSERT INTO gone VALUES (new.a); END",
    )
    backend = opened(SqliteBackend(path=path), "run")
    backend.process_batch([{"a": 1}])
    backend._table._connection.execute("ALTER TABLE gone RENAME TO kept")
    backend._table._connection.execute("DROP TABLE kept")
    with pytest.raises(sqlite3.OperationalError):
        backend.process_batch([{"a": 3}, {"a": 2}])
    backend.commit_with("run", "1")
    backend.cleanup()
    assert rows(path) == [(1,)]


# -- reading ----------------------------------------------------------------------


@pytest.fixture
def numbers(path):
    """A table of 25 rows, of which some were deleted."""
    run_sql(
        path,
        "CREATE TABLE items (n INTEGER, t TEXT)",
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 30) "
        "INSERT INTO items SELECT n, 'text ' || n FROM c",
        "DELETE FROM items WHERE n % 6 = 0",
    )
    return path


@pytest.mark.parametrize("page_size", [1, 2, 7, 24, 25, 26, 1000])
def test_a_table_is_read_by_rowid(numbers, read_all, page_size):
    """Without a key of its own, each row comes once and in order, however the pages fall."""
    items = read_all(SqliteFrontend(path=numbers, table="items", page_size=page_size))
    assert items == [{"n": n, "t": f"text {n}"} for n in range(1, 31) if n % 6]


@pytest.mark.parametrize("page_size", [1, 4, 1000])
def test_a_run_goes_on_behind_any_rowid(numbers, read_all, page_size):
    """From the checkpoint of each position, exactly the rest is read."""
    frontend = SqliteFrontend(path=numbers, table="items", page_size=page_size)
    frontend.wants_positions = True
    items = read_all(frontend)
    assert all(type(item) is Item for item in items)
    for index, item in enumerate(items):
        frontend.setup()
        frontend.resume(frontend.checkpoint(item.position))
        assert list(frontend.produce()) == items[index + 1 :]
        frontend.cleanup()


def test_positions_are_keys(numbers, read_all):
    """One column's value, or a tuple of several."""
    frontend = SqliteFrontend(path=numbers, table="items", key="t")
    frontend.wants_positions = True
    assert read_all(frontend)[0].position == "text 1"
    frontend = SqliteFrontend(path=numbers, query="SELECT n, t FROM items", key=["n", "t"])
    frontend.wants_positions = True
    assert read_all(frontend)[0].position == (1, "text 1")


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("collation", "twins"),
    [("NOCASE", ["c", "C"]), ("RTRIM", ["c", "c  "])],
)
def test_a_collation_that_takes_keys_for_equal_is_noticed(path, page_size, collation, twins):
    """Rows whose keys the database takes for equal are never lost between two pages."""
    run_sql(path, f"CREATE TABLE items (k TEXT COLLATE {collation})")
    with closing(sqlite3.connect(path)) as connection:
        keys = ["a", "b", *twins, "d"]
        connection.executemany("INSERT INTO items VALUES (?)", [(key,) for key in keys])
        connection.commit()
    frontend = SqliteFrontend(path=path, table="items", key="k", page_size=page_size)
    frontend.setup()
    with suppress(ConfigError):
        assert sorted(item["k"] for item in frontend.produce()) == sorted(keys)
        # The two came in one page, in which they can be told apart.
        frontend.resume(frontend.checkpoint(twins[0]))
        list(frontend.produce())
        pytest.fail("a row was lost")
    frontend.cleanup()


def test_a_query_with_a_key_goes_on(numbers, read_all):
    """A query is read by key like a table, comments and a semicolon at its end or not."""
    query = "SELECT n * 2 AS double, t FROM items WHERE n > 3 ORDER BY t -- the end\n;"
    frontend = SqliteFrontend(path=numbers, query=query, key="double", page_size=3)
    assert frontend.can_resume is True
    assert [item["double"] for item in read_all(frontend)] == [n * 2 for n in range(4, 31) if n % 6]


def test_a_view_needs_a_key(numbers, read_all):
    """A view has no rowid: it is streamed, or read by a key that is named."""
    run_sql(numbers, "CREATE VIEW view AS SELECT n FROM items")
    frontend = SqliteFrontend(path=numbers, table="view", page_size=2)
    assert len(read_all(frontend)) == 25
    assert frontend.can_resume is False
    frontend = SqliteFrontend(path=numbers, table="view", key="n", page_size=2)
    assert len(read_all(frontend)) == 25
    assert frontend.can_resume is True


def test_columns_called_like_the_rowid_are_columns(path, read_all):
    """The rowid has three names, and columns may take them."""
    run_sql(path, "CREATE TABLE items (rowid, _ROWID_)", "INSERT INTO items VALUES (3, 1), (2, 2)")
    items = read_all(SqliteFrontend(path=path, table="items", page_size=1))
    assert items == [{"rowid": 3, "_ROWID_": 1}, {"rowid": 2, "_ROWID_": 2}]
    run_sql(path, "CREATE TABLE three (rowid, _rowid_, oid)", "INSERT INTO three VALUES (1, 2, 3)")
    frontend = SqliteFrontend(path=path, table="three")
    assert read_all(frontend) == [{"rowid": 1, "_rowid_": 2, "oid": 3}]
    assert frontend.can_resume is False


@pytest.mark.parametrize(
    "options",
    [{"table": "items"}, {"query": "SELECT * FROM items"}, {"table": "items", "key": "k"}],
)
def test_text_that_is_not_utf_8_comes_as_bytes(path, read_all, options):
    """Nothing that is in a table keeps its other rows from being read."""
    run_sql(path, "CREATE TABLE items (k, t TEXT)")
    run_sql(path, "INSERT INTO items VALUES (1, 'ä'), (2, CAST(x'61ff' AS TEXT)), (3, 'c')")
    items = read_all(SqliteFrontend(path=path, page_size=1, **options))
    assert [item["t"] for item in items] == ["ä", b"a\xff", "c"]


CRASHED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN")
connection.executemany("UPDATE items SET t = ? WHERE n = ?", [("x" * 500, n) for n in range(30)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_database_left_by_a_crash_is_read_as_it_was(numbers, read_all, python):
    """What another program had not committed when it died is undone first."""
    python(CRASHED, numbers).wait()
    assert numbers.with_name("out.db-journal").stat().st_size > 0
    items = read_all(SqliteFrontend(path=numbers, table="items"))
    assert items == [{"n": n, "t": f"text {n}"} for n in range(1, 31) if n % 6]


def test_a_write_protected_database_is_read(numbers, read_all):
    """Reading needs no right to write."""
    numbers.chmod(0o444)
    assert len(read_all(SqliteFrontend(path=numbers, table="items"))) == 25


def test_a_query_cannot_write(numbers):
    """Not even one that is no SELECT in disguise."""
    frontend = SqliteFrontend(path=numbers, query="SELECT 1 AS one")
    frontend.setup()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        frontend._rows._connection.execute("DELETE FROM items")
    frontend.cleanup()


def test_a_checkpoint_of_another_database_is_refused(numbers, tmp_path):
    """Nor is a table read by another key than its rowid."""
    frontend = SqliteFrontend(path=numbers, table="items")
    frontend.setup()
    checkpoint = frontend.checkpoint(5)
    frontend.cleanup()
    copy = tmp_path / "copy.db"
    copy.write_bytes(numbers.read_bytes())
    for other in (
        SqliteFrontend(path=numbers, table="items", key="n"),
        SqliteFrontend(path=copy, table="items"),
    ):
        other.setup()
        with pytest.raises(StateError, match=r"the table 'items' of .*out\.db by rowid"):
            other.resume(checkpoint)
        other.cleanup()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"table": "items", "busy_timeout": -1}, ConfigError, "negative"),
        ({"query": "SELECT 1; SELECT 2"}, Exception, "syntax error|one statement"),
        ({"query": "DELETE FROM items"}, sqlite3.OperationalError, "out.db: .*syntax error"),
        ({"query": "SELECT x FROM items"}, sqlite3.OperationalError, "no such column"),
    ],
)
def test_what_sqlite_cannot_read_is_refused_before_the_run(numbers, options, error, message):
    """The error names the file, and says what is wrong in the words of SQLite."""
    with pytest.raises(error, match=message):
        SqliteFrontend(path=numbers, **options).setup()
    assert len(rows(numbers)) == 25


def test_a_missing_database_is_not_created(tmp_path):
    """Reading makes no file."""
    with pytest.raises(sqlite3.OperationalError, match=r"missing\.db"):
        SqliteFrontend(path=tmp_path / "missing.db", table="items").setup()
    assert list(tmp_path.iterdir()) == []


def test_stop_ends_a_query_that_takes_for_ever(path):
    """The query is interrupted, and the frontend ends as if the rows had."""
    run_sql(path, "CREATE TABLE items (a)")
    query = (
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT sum(n) AS s FROM c"
    )
    frontend = SqliteFrontend(path=path, query=query)
    frontend.setup()
    stopper = threading.Timer(0.05, frontend.stop)
    stopper.start()
    assert list(frontend.produce()) == []
    stopper.join()
    frontend.cleanup()
    frontend.stop()


# -- in pipelines -----------------------------------------------------------------


def test_bad_items_are_counted_and_the_rest_stored(path):
    """With ``skip``, what the table refuses is failed, all others arrive."""
    items = ({"n": n if n % 100 else "x"} for n in range(10_000))
    columns = {"n": "INTEGER"}
    pipeline = Pipeline(items).transport(
        lambda item: {**item, "bad": 1} if item["n"] == 7 else item
    )
    pipeline = pipeline.backend("sqlite", path=path, key="n", columns=columns, on_error="skip")
    report = pipeline.run()
    assert (report.delivered, report.failed) == (9899, 101)
    assert rows(path, "SELECT count(*) FROM items") == [(9899,)]


def test_a_failed_run_keeps_the_batches_before(path):
    """Without state, what was delivered stays; the error names the item and the reason."""
    items = [{"n": 1}, {"n": 1}]
    with pytest.raises(StageError, match=r"UNIQUE constraint failed: items\.n.*'n': 1"):
        Pipeline(items).backend("sqlite", path=unique(path), workers=1).run()
    assert rows(path) == [(1,)]


def unique(path):
    run_sql(path, "CREATE TABLE items (n UNIQUE)")
    return path


def test_lines_of_a_file_are_stored_from_the_command_line(tmp_path, run_program):
    """``m3 run`` needs nothing but a path; what is a list or a table is written in TOML."""
    (tmp_path / "lines").write_text("a\nb\n")
    (tmp_path / "items.jsonl").write_text('{"k": "01", "v": [1]}\n{"k": "01"}\n{"k": "2"}\n')
    done = run_program(
        *("m3", "run", "--frontend", "file", "--set", "frontend.path=lines"),
        *("--backend", "sqlite", "--set", "backend.path=out.db"),
    )
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "out.db") == [(b"a",), (b"b",)]
    done = run_program(
        *("m3", "run", "--frontend", "jsonl", "--set", "frontend.path=items.jsonl"),
        *("--backend", "sqlite", "--set", "backend.path=out.db", "--set", "backend.table=t"),
        *("--set", 'backend.key=["k"]', "--set", 'backend.columns={k = "TEXT", v = ""}'),
    )
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "out.db", "SELECT * FROM t") == [("01", None), ("2", None)]
    done = run_program(
        *("m3", "run", "--frontend", "sqlite", "--set", "frontend.path=out.db"),
        *("--set", "frontend.table=t", "--backend", "jsonl"),
    )
    assert done.stdout == '{"k":"01","v":null}\n{"k":"2","v":null}\n'
