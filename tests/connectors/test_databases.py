"""What ``sqlite`` and ``sql`` promise alike, with each kind of database."""

import json
import random
import subprocess
import threading

import pytest
from databases import Database, SqliteDatabase, drop_all, opened

from m3.errors import BatchError, ConfigError, StateError
from m3.pipeline import Pipeline
from m3.stages import Item

NASTY = [
    '"',
    '""; DROP TABLE items; --',
    "'",
    "`",
    "[a]",
    "--",
    "/* */",
    "select",
    "order by",
    "v0",
    "?1",
    ":name",
    "%s",
    "%(a)s",
    "%%",
    "{}",
    "a\nb",
    "a.b",
    "VALUES (%s)",
    ") VALUES (1)",
    "$1",
    "\\",
    "ä€",
    "Mixed Case",
    "ITEMS",
]


@pytest.fixture(params=["sqlite", "sql to sqlite", "postgresql", "mariadb"])
def database(request, tmp_path):
    """A database without tables: with ``sqlite``, and of each kind with ``sql``."""
    if request.param == "sqlite":
        return SqliteDatabase(tmp_path / "test.db")
    pytest.importorskip("sqlalchemy")
    if request.param == "sql to sqlite":
        return Database(f"sqlite:///{tmp_path}/test.db")
    url = request.getfixturevalue(request.param)
    drop_all(url)
    return Database(url)


# -- writing ----------------------------------------------------------------


@pytest.mark.parametrize("created", [True, False])
def test_an_item_replaces_the_row_with_its_key(database, write_all, created):
    """Of several with one key the last stays, within a batch and across; keys can have parts."""
    if not created:
        database.run("CREATE TABLE items (a INTEGER, b VARCHAR(9), v VARCHAR(9), UNIQUE (a, b))")
    batches = [
        [{"a": 1, "b": "x", "v": "1"}, {"a": 2, "b": "x", "v": "2"}, {"a": 1, "b": "x", "v": "3"}],
        [{"a": 2, "b": "x", "v": "4"}, {"a": 1, "b": "y"}, {"a": None, "b": "x"}, {"b": "x"}],
    ]
    with pytest.raises(BatchError, match="no value for the key 'a'") as caught:
        write_all(database.backend(key=["b", "a"], create=created), *batches)
    assert list(caught.value.errors) == [2, 3]
    expected = [(1, "x", "3"), (1, "y", None), (2, "x", "4")]
    assert database.rows("SELECT a, b, v FROM items ORDER BY a, b") == expected


def test_a_row_that_is_all_key_is_added_once(database, write_all):
    """Where there is nothing to replace, the row stays; no two texts are the same key."""
    backend = database.backend(key="k", create=True)
    write_all(backend, [{"k": "a"}, {"k": "A"}, {"k": "a "}, {"k": "a"}], [{"k": "ä"}, {"k": "A"}])
    assert sorted(database.rows()) == [("A",), ("a",), ("a ",), ("ä",)]


def test_a_table_without_such_a_key_is_refused(database):
    """Before the run it is known whether a row can be replaced."""
    database.run("CREATE TABLE items (k INTEGER, v INTEGER, UNIQUE (k, v))")
    for key, message in [("k", "no unique (constraint|index)"), ("K", "no such column")]:
        with pytest.raises(ConfigError, match=message):
            opened(database.backend(key=key))
    database.run("CREATE UNIQUE INDEX one ON items (k)")
    opened(database.backend(key="k")).cleanup()


@pytest.mark.parametrize("name", NASTY)
def test_any_name_is_a_name_and_no_statement(database, name, write_all, read_all):
    """Tables and columns of any name hold what was put in, under exactly that name."""
    database.run("CREATE TABLE bystander (n INTEGER)")
    items = [{name: 1, "x" + name: "a"}, {name: 2, "x" + name: "b"}]
    write_all(database.backend(table=name, key=name, create=True), items, items)
    assert read_all(database.frontend(table=name)) == items
    assert read_all(database.frontend(table=name, key=name, page_size=1)) == items
    assert read_all(database.frontend(table=name, key=["x" + name, name])) == items
    assert database.rows("SELECT * FROM bystander") == []


# -- writing: state ---------------------------------------------------------


def test_without_state_each_batch_is_committed(database):
    """When ``process_batch`` returns, other connections see the rows."""
    backend = opened(database.backend(create=True))
    backend.process_batch([{"a": 1}])
    assert database.rows() == [(1,)]
    backend.failed = True
    backend.cleanup()
    assert database.rows() == [(1,)]


def test_with_state_nothing_is_committed_but_with_a_checkpoint(database):
    """Data and checkpoint appear together; what comes later is undone at the end."""
    database.run("CREATE TABLE items (a INTEGER)")
    backend = database.backend()
    backend.setup()
    assert backend.committed("run") is None
    backend.process_batch([{"a": 1}])
    backend.process_batch([{"a": 2}])
    assert database.rows() == []
    backend.commit_with("run", "two")
    assert database.rows() == [(1,), (2,)]
    backend.process_batch([{"a": 3}])
    backend.cleanup()
    assert database.rows() == [(1,), (2,)]
    backend.setup()
    assert (backend.committed("other"), backend.committed("run")) == (None, "two")
    backend.commit_with("run", "x" * 100_000)
    backend.commit_with("Run", "ä")
    assert (backend.committed("Run"), backend.committed("run")) == ("ä", "x" * 100_000)
    backend.cleanup()


def test_a_checkpoint_of_another_run_is_not_overwritten(database):
    """Of two runs with one state, the one that did not begin from the last checkpoint fails."""
    database.run("CREATE TABLE items (a INTEGER)")
    late, next_one = (opened(database.backend(), "run") for _ in range(2))
    for checkpoint in ("1", "2"):
        late.process_batch([{"a": 1}])
        late.commit_with("run", checkpoint)
        next_one.process_batch([{"a": 2}])
        with pytest.raises(StateError, match="another run has committed"):
            next_one.commit_with("run", "x")
        next_one.cleanup()
        opened(next_one, "run")
        late.process_batch([{"a": 1}])
        late.commit_with("run", "between")
    late.cleanup()
    next_one.cleanup()
    assert database.rows() == [(1,)] * 4


KILLED = """
import json, sys
from m3.registry import load
backend = load(sys.argv[1])(**json.loads(sys.argv[2]), table="items", create=True)
backend.setup()
done = int(backend.committed("run") or 0)
print("ready", flush=True)
while True:
    for _ in range(3):
        backend.process_batch([{"n": n, "pad": "x" * 500} for n in range(done, done + 20)])
        done += 20
    backend.commit_with("run", str(done))
    print(done, flush=True)
"""


@pytest.mark.parametrize("key", [None, "n"])
def test_after_kill_9_data_and_checkpoint_agree(database, python, key):
    """Killed at any moment, the rows are those of the checkpoint: none missing, none twice."""
    chance = random.Random(7)
    kind = f"{database.backend_class.__module__}:{database.backend_class.__name__}"
    options = json.dumps({**database.where, "key": key})
    last = seen = 0
    for _ in range(8):
        process = python(KILLED, kind, options, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        for _ in range(chance.randrange(1, 5)):
            seen = int(process.stdout.readline())
        threading.Event().wait(chance.random() / 100)
        process.kill()
        process.wait()
        process.stdout.close()
        # In one query, for a server may still be about to commit what was sent to it.
        counts = "(SELECT checkpoint FROM m3_checkpoints), count(*), count(DISTINCT n), max(n) + 1"
        ((checkpoint, *found),) = database.rows(f"SELECT {counts} FROM items")
        last = int(checkpoint)
        assert last >= seen
        assert found == [last, last, last]
    assert last > 0


# -- reading ----------------------------------------------------------------

ALL = [{"n": n, "t": f"text {n}"} for n in range(1, 31) if n % 6]


@pytest.fixture
def numbers(database, write_all):
    """A table of 25 rows with a primary key."""
    database.run("CREATE TABLE items (n INTEGER PRIMARY KEY, t VARCHAR(20))")
    write_all(database.backend(), ALL)
    return database


@pytest.mark.parametrize("page_size", [1, 7, 24, 25, 26, 1000])
@pytest.mark.parametrize(
    "options",
    [
        {"table": "items"},
        {"table": "items", "key": ["t", "n"]},
        {"query": "SELECT n, t FROM items -- the end\n;", "key": "n"},
        {"query": "SELECT n, t FROM items ORDER BY n"},
    ],
)
def test_rows_are_read_whole(numbers, read_all, page_size, options):
    """However the pages fall, each row comes once, as a dictionary."""
    items = read_all(numbers.frontend(page_size=page_size, **options))
    assert sorted(items, key=lambda item: item["n"]) == ALL


@pytest.mark.parametrize("page_size", [1, 4, 1000])
@pytest.mark.parametrize("options", [{"table": "items"}, {"table": "items", "key": ["t", "n"]}])
def test_a_run_goes_on_behind_any_row(numbers, read_all, options, page_size):
    """From the checkpoint of each position, exactly the rest is read."""
    frontend = numbers.frontend(page_size=page_size, **options)
    frontend.wants_positions = True
    items = read_all(frontend)
    assert all(type(item) is Item for item in items)
    for index in (0, 3, 4, 23, 24):
        frontend.setup()
        frontend.resume(frontend.checkpoint(items[index].position))
        assert list(frontend.produce()) == items[index + 1 :]
        frontend.cleanup()


def test_a_key_of_three_columns_orders_by_all(database, read_all, write_all):
    """Pages end anywhere between rows that agree in the first columns."""
    items = [{"a": a, "b": b, "c": c} for a in range(3) for b in ("x", "y") for c in range(3)]
    shuffled = random.Random(2).sample(items, len(items))
    write_all(database.backend(key=["a", "b", "c"], create=True), shuffled)
    for page_size in (1, 2, 4):
        frontend = database.frontend(table="items", key=["a", "b", "c"], page_size=page_size)
        assert read_all(frontend) == items


def test_rows_that_are_added_behind_are_read(numbers):
    """Each page is a transaction of its own, so what others commit is seen."""
    frontend = numbers.frontend(table="items", page_size=10)
    frontend.setup()
    items = frontend.produce()
    read = [next(items) for _ in range(25)]
    numbers.run("INSERT INTO items VALUES (100, 'late')")
    read += items
    frontend.cleanup()
    assert read == [*ALL, {"n": 100, "t": "late"}]


def test_rows_that_are_deleted_behind_a_checkpoint_do_not_matter(numbers):
    """The row of the key itself need not be there any more."""
    frontend = numbers.frontend(table="items")
    frontend.setup()
    numbers.run("DELETE FROM items WHERE n = 10")
    frontend.resume(frontend.checkpoint(10))
    assert next(frontend.produce())["n"] == 11
    frontend.cleanup()


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
def test_a_key_that_does_not_tell_rows_apart_is_noticed(database, page_size):
    """Rows whose keys are equal are never lost between two pages."""
    database.run("CREATE TABLE items (k VARCHAR(9), n INTEGER)")
    database.run("INSERT INTO items VALUES ('a', 1), ('b', 2), ('c', 3), ('c', 4), ('d', 5)")
    frontend = database.frontend(table="items", key="k", page_size=page_size)
    frontend.setup()
    with pytest.raises(ConfigError, match="does not tell all rows apart"):
        list(frontend.produce())
    frontend.cleanup()


def test_null_in_a_key_is_noticed(database, read_all):
    """A row that has no place in the order is not left out silently."""
    database.run(
        "CREATE TABLE items (k INTEGER, v INTEGER)",
        "INSERT INTO items VALUES (1, 1), (NULL, 2)",
    )
    for key in ("k", ["v", "k"]):
        with pytest.raises(ConfigError, match="NULL"):
            read_all(database.frontend(table="items", key=key))
    query = "SELECT * FROM items WHERE k IS NOT NULL"
    assert read_all(database.frontend(query=query, key="k")) == [{"k": 1, "v": 1}]


def test_without_a_key_rows_are_streamed_and_no_run_goes_on(database, read_all):
    """A query, in its own order: the frontend says so."""
    database.run("CREATE TABLE items (n INTEGER)", "INSERT INTO items VALUES (2), (1), (2)")
    query = "SELECT n FROM items ORDER BY n DESC -- the end\n;"
    frontend = database.frontend(query=query, page_size=2)
    frontend.wants_positions = True
    assert [item["n"] for item in read_all(frontend)] == [2, 2, 1]
    assert frontend.can_resume is False
    frontend.setup()
    frontend.resume(None)
    with pytest.raises(StateError, match="name a key"):
        frontend.resume({"rows": "", "key": ["n"], "behind": [1]})
    frontend.cleanup()


def test_two_columns_of_one_name_are_refused(numbers, read_all):
    """A dictionary would lose one of them."""
    with pytest.raises(Exception, match=r"two columns 'n'|[Dd]uplicate column"):
        read_all(numbers.frontend(query="SELECT n, n FROM items"))


def test_a_checkpoint_of_something_else_is_refused(numbers):
    """Another table, query or key is not read from a key of this one."""
    numbers.run("CREATE TABLE other (n INTEGER PRIMARY KEY)")
    frontend = numbers.frontend(table="items", key="n")
    frontend.setup()
    checkpoint = frontend.checkpoint(5)
    frontend.cleanup()
    for other in (
        numbers.frontend(table="items", key=["n", "t"]),
        numbers.frontend(table="other", key="n"),
        numbers.frontend(query="SELECT n FROM items", key="n"),
    ):
        other.setup()
        with pytest.raises(StateError, match=r"the table 'items' of .* by n, and this is"):
            other.resume(checkpoint)
        other.cleanup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either a table or a query"),
        ({"table": "items", "query": "SELECT 1"}, "either a table or a query"),
        ({"table": "item"}, "no table 'item'"),
        ({"table": "items", "key": "N"}, "key='N': there is no such column"),
        ({"query": "SELECT n FROM items", "key": "x"}, "key='x'"),
        ({"table": "items", "page_size": 0}, "1 row at least"),
    ],
)
def test_what_cannot_be_read_is_refused_before_the_run(numbers, options, message):
    """Options and names are checked at the latest in ``setup``, and nothing stays open."""
    with pytest.raises(ConfigError, match=message):
        numbers.frontend(**options).setup()


@pytest.mark.parametrize(
    "query", ["DELETE FROM items", "DROP TABLE items", "SELECT 1; DROP TABLE items", "SELECT x"]
)
def test_a_query_that_is_no_select_is_refused(numbers, query):
    """Before the run; nothing is changed."""
    with pytest.raises(Exception, match=r"syntax|SELECT 1; DROP|column"):
        numbers.frontend(query=query).setup()
    assert len(numbers.rows()) == 25


# -- in pipelines -----------------------------------------------------------


def test_rows_pass_from_table_to_table(database):
    """A pipeline reads one table and writes another of the same database."""
    items = [{"n": n, "t": str(n)} for n in range(2000)]
    stage, where = database.stage, database.where
    first = Pipeline(items).backend(stage, **where, table="a", key="n", create=True)
    assert first.run().delivered == 2000
    pipeline = Pipeline(stage, **where, table="a", page_size=100)
    report = pipeline.backend(stage, **where, table="b", create=True, key="n").run()
    assert (report.produced, report.delivered) == (2000, 2000)
    assert database.rows("SELECT * FROM a EXCEPT SELECT * FROM b") == []
