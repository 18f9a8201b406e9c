"""The connector ``sql``: what no other has, and what databases do each in their own way."""

import gc
import random
import threading
import tracemalloc
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from databases import connected, drop_all, names, opened, rows, run_sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3._plain import dumps, loads
from m3.connectors import sql
from m3.connectors.sql import SqlBackend, SqlFrontend
from m3.errors import BatchError, ConfigError, MissingExtraError, StateError

sa = pytest.importorskip("sqlalchemy")


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request, tmp_path):
    """A database without tables, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    found = request.getfixturevalue(request.param)
    drop_all(found)
    return found


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request):
    """The same, of those that are servers."""
    found = request.getfixturevalue(request.param)
    drop_all(found)
    return found


def leaves_sockets(test):
    """Mark a test in which connections fail: pg8000 leaves their sockets to the collector."""
    test = pytest.mark.filterwarnings("ignore::ResourceWarning")(test)
    test = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")(test)
    return pytest.mark.usefixtures("collected")(test)


@pytest.fixture
def collected():
    """Have what the test leaves collected with it, and not with another one."""
    yield
    gc.collect()


# -- writing ------------------------------------------------------------------------


def test_items_become_rows_of_a_table_that_is_there(url, write_all):
    """Names and values go where they belong; a missing key is the column's default."""
    run_sql(
        url,
        "CREATE TABLE items (id INTEGER PRIMARY KEY, t VARCHAR(20), n INTEGER NOT NULL DEFAULT 5)",
    )
    items = [
        {"id": 1, "t": "a", "n": 1},
        {"t": "b", "id": 2},
        {"n": 3, "id": 3},
        {"id": 4, "t": None},
    ]
    write_all(SqlBackend(url=url, table="items"), items[:1], items[1:])
    assert rows(url) == [(1, "a", 1), (2, "b", 5), (3, None, 3), (4, None, 5)]


def test_a_table_must_be_there_unless_it_may_be_created(url, write_all, read_all):
    """By default the table is looked for before the run; or the first batch may make it."""
    with pytest.raises(ConfigError, match="no table 'items', and create=False"):
        SqlBackend(url=url, table="items").setup()
    first = {
        "i": 2**40,
        "r": 0.1,
        "t": "x" * 100_000,
        "b": b"\0\xff" * 100_000,
        "o": True,
        "none": None,
        "day": date(2026, 2, 3),
        "naive": datetime(2026, 2, 3, 4, 5, 6, 7),  # noqa: DTZ001 - it is about such
        "list": [1, {"a": "ä"}],
    }
    second = dict.fromkeys(first)
    write_all(SqlBackend(url=url, table="items", create=True), [first, second], [second, first])
    expected = {**first, "list": '[1,{"a":"ä"}]'}
    if url.startswith("sqlite"):
        expected |= {"day": "2026-02-03", "naive": "2026-02-03T04:05:06.000007"}
    assert read_all(SqlFrontend(url=url, table="items")) == [expected, second, second, expected]


def test_exact_types_stay_exact(server, write_all, read_all):
    """Decimals and UUIDs come back equal; a time with a zone stays the same moment."""
    zone = timezone(timedelta(hours=5, minutes=30))
    item = {
        "id": 1,
        "d": Decimal("12345678901234567890.123456789"),
        "u": UUID("12345678123456781234567812345678"),
        "z": datetime(2026, 2, 3, 4, 5, 6, 7, zone),
    }
    write_all(SqlBackend(url=server, table="items", create=True, key="id"), [item])
    (row,) = read_all(SqlFrontend(url=server, table="items"))
    assert row["d"] == item["d"]
    if server.startswith("postgresql"):
        assert (row["u"], row["z"]) == (item["u"], item["z"])
    else:
        assert UUID(str(row["u"])) == item["u"]
        assert datetime.fromisoformat(row["z"]) == item["z"]


def test_a_zone_is_not_dropped_silently(server, write_all):
    """A time with a zone for a column without is an error of the item."""
    kind = "TIMESTAMP" if server.startswith("postgresql") else "DATETIME"
    run_sql(server, f"CREATE TABLE items (z {kind})")
    with pytest.raises(BatchError, match="'z': it has a time zone, which the column would drop"):
        write_all(SqlBackend(url=server, table="items"), [{"z": datetime(2026, 2, 3, tzinfo=UTC)}])


@pytest.mark.parametrize("state", [None, "state"])
def test_rows_that_are_refused_are_found_and_the_rest_stored(url, state):
    """Constraints, types and sizes: an error of the item each, wherever in the batch it is."""
    run_sql(
        url,
        "CREATE TABLE items (id INTEGER PRIMARY KEY, u VARCHAR(5) UNIQUE CHECK (length(u) < 6), "
        "n INTEGER NOT NULL, c INTEGER CHECK (c < 10))",
    )
    bad = [
        {"id": 1000, "u": "twice", "n": 1},
        {"id": 0, "n": 1},
        {"id": 1001, "c": 1},
        {"id": 1002, "n": None},
        {"id": 1003, "n": 1, "c": 10},
        {"id": 1004, "n": 1, "u": "too long"},
        {"id": 2**70, "n": 1},
        {"id": 1005, "n": object()},
        {"id": 1006, "n": 1, "u": "\ud800"},
        {"id": 1007, "n": 1, "x": 1},
    ]
    items = [{"id": n, "u": "twice" if n == 0 else None, "n": 1, "c": n % 10} for n in range(200)]
    places = sorted(random.Random(3).sample(range(1, 200), len(bad)))
    for place, item in zip(places, bad, strict=True):
        items[place] = item
    backend = opened(SqlBackend(url=url, table="items"), state)
    with pytest.raises(BatchError) as caught:
        backend.process_batch(items)
    if state:
        backend.commit_with(state, "1")
    backend.cleanup()
    assert list(caught.value.errors) == places
    assert rows(url, "SELECT count(*) FROM items") == [(200 - len(bad),)]


def test_text_is_no_number_to_a_server(server):
    """What the server says about a value is an error of the item, and it is in the words of it."""
    run_sql(server, "CREATE TABLE items (n INTEGER, d DATE)")
    backend = opened(SqlBackend(url=server, table="items"))
    with pytest.raises(BatchError) as caught:
        backend.process_batch([{"n": 1}, {"n": "one"}, {"d": "no day"}, {"d": "2026-02-03"}])
    backend.cleanup()
    assert list(caught.value.errors) == [1, 2]
    assert "nteger" in str(caught.value.errors[1])
    assert rows(server) == [(1, None), (None, date(2026, 2, 3))]


def test_what_is_wrong_with_the_statement_raises(url):
    """A table that is gone is no error of an item."""
    run_sql(url, "CREATE TABLE items (n INTEGER)")
    backend = opened(SqlBackend(url=url, table="items"))
    backend.process_batch([{"n": 1}])
    run_sql(url, "DROP TABLE items")
    with pytest.raises(sa.exc.DBAPIError):
        backend.process_batch([{"n": 2}])
    with pytest.raises(ConfigError, match="no table 'items'"):
        backend.process_batch([{"n": 2}])
    run_sql(url, "CREATE TABLE items (n INTEGER)")
    backend.process_batch([{"n": 3}])
    backend.cleanup()
    assert rows(url) == [(3,)]


def test_tables_without_transactions_are_refused(mariadb):
    """MyISAM would keep what is to be undone."""
    drop_all(mariadb)
    run_sql(mariadb, "CREATE TABLE items (n INTEGER) ENGINE=MyISAM")
    with pytest.raises(ConfigError, match="MyISAM has no transactions"):
        SqlBackend(url=mariadb, table="items").setup()


NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"], max_codepoint=0xFFFF),
    min_size=1,
    max_size=12,
).filter(lambda name: name == name.rstrip())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    table=NAMES,
    items=st.lists(
        st.dictionaries(
            NAMES,
            st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_names_and_values_come_back_as_they_were(url, table, items, read_all):
    """What was accepted is read back equal; what a database cannot name is refused by it."""
    drop_all(url)
    backend = SqlBackend(url=url, table="t" + table, create=True)
    backend.setup()
    failed = {}
    try:
        backend.process_batch(items)
    except BatchError as error:
        failed = error.errors
    except sa.exc.DBAPIError as error:
        if url.startswith("mariadb") and "olumn" in str(
            error
        ):  # it takes ä for a, and no end in NBSP
            return
        raise
    finally:
        backend.cleanup()
    kept = [item for index, item in enumerate(items) if index not in failed]
    if not kept:
        return
    read = read_all(SqlFrontend(url=url, table="t" + table))
    for item, row in zip(kept, read, strict=True):
        assert {name: row[name] for name in item} == item
        assert all(row[name] is None for name in row.keys() - item.keys())


def test_a_schema_is_where_the_table_is(postgresql, write_all, read_all):
    """With ``schema`` both ends find a table that is not on the search path."""
    drop_all(postgresql)
    name = 'other "schema"'
    run_sql(
        postgresql,
        'DROP SCHEMA IF EXISTS "other ""schema""" CASCADE',
        'CREATE SCHEMA "other ""schema"""',
    )
    backend = SqlBackend(url=postgresql, table="items", schema=name, create=True, key="n")
    opened(backend, "run").process_batch([{"n": 1}])
    backend.commit_with("run", "one")
    backend.cleanup()
    assert read_all(SqlFrontend(url=postgresql, table="items", schema=name)) == [{"n": 1}]
    assert rows(postgresql, 'SELECT checkpoint FROM "other ""schema""".m3_checkpoints') == [
        ("one",)
    ]
    assert names(postgresql) == []


# -- state --------------------------------------------------------------------------


def test_a_table_is_created_in_a_run_with_state(url):
    """With MariaDB it is there at once, elsewhere with the checkpoint; its rows with that only."""
    backend = opened(SqlBackend(url=url, table="items", create=True), "run")
    backend.process_batch([{"a": 1}])
    backend.cleanup()
    assert ("items" in names(url)) == url.startswith("mariadb")
    opened(backend, "run").process_batch([{"a": 1}])
    backend.commit_with("run", "one")
    backend.cleanup()
    assert rows(url) == [(1,)]


LOST = (sa.exc.DBAPIError, OSError)
"""What is raised when a connection is lost: pg8000 lets the error of the socket through."""


def kill_connections(url):
    """End all other connections to the database, as an administrator or a restart would."""
    if url.startswith("postgresql"):
        run_sql(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        return
    with connected(url) as connection:
        ids = connection.execute(
            sa.text(
                "SELECT id FROM information_schema.processlist "
                "WHERE db = database() AND id <> connection_id()"
            )
        )
        for (number,) in ids.all():
            connection.execute(sa.text(f"KILL {number}"))


@leaves_sockets
def test_a_lost_connection_is_replaced_without_state(server):
    """What was committed stays, and the next batch has a connection that works."""
    backend = opened(SqlBackend(url=server, table="items", create=True))
    backend.process_batch([{"a": 1}])
    kill_connections(server)
    backend.process_batch([{"a": 2}])
    assert rows(server) == [(1,), (2,)]
    backend.cleanup()


@leaves_sockets
def test_a_connection_lost_in_a_batch_raises_and_the_batch_can_be_given_again(server):
    """The error is the driver's; nothing of the batch is in."""
    backend = opened(SqlBackend(url=server, table="items", create=True))
    backend.process_batch([{"a": 1}])
    insert = backend._table.insert

    def lose(*arguments):
        insert(*arguments)
        kill_connections(server)
        insert(*arguments)

    backend._table.insert = lose
    with pytest.raises(LOST):
        backend.process_batch([{"a": 2}, {"a": 3}])
    backend._table.insert = insert
    assert rows(server) == [(1,)]
    backend.process_batch([{"a": 2}, {"a": 3}])
    backend.cleanup()
    assert rows(server) == [(1,), (2,), (3,)]


@leaves_sockets
def test_a_transaction_lost_with_the_connection_fails_the_run(server):
    """With state the run must not go on: neither with a batch nor with a checkpoint."""
    run_sql(server, "CREATE TABLE items (a INTEGER)")
    backend = opened(SqlBackend(url=server, table="items"), "run")
    backend.process_batch([{"a": 1}])
    backend.commit_with("run", "one")
    backend.process_batch([{"a": 2}])
    kill_connections(server)
    with pytest.raises(LOST):
        backend.process_batch([{"a": 3}])
    for call in (
        lambda: backend.process_batch([{"a": 3}]),
        lambda: backend.commit_with("run", "x"),
    ):
        with pytest.raises(StateError, match="was lost"):
            call()
    backend.cleanup()
    assert rows(server) == [(1,)]
    opened(backend)
    assert backend.committed("run") == "one"
    backend.process_batch([{"a": 2}])
    kill_connections(server)
    with pytest.raises(LOST):
        backend.commit_with("run", "two")
    with pytest.raises(StateError, match="was lost"):
        backend.commit_with("run", "two")
    backend.cleanup()
    assert rows(server) == [(1,)]


def test_a_transaction_that_the_server_ends_fails_the_run(mariadb):
    """When two wait for each other, MariaDB undoes one's transaction as a whole."""
    drop_all(mariadb)
    run_sql(mariadb, "CREATE TABLE items (a INTEGER PRIMARY KEY, v INTEGER)")
    run_sql(mariadb, "INSERT INTO items VALUES (1, 0), (2, 0)")
    backend = opened(SqlBackend(url=mariadb, table="items", key="a"), "run")
    backend.process_batch([{"a": 1, "v": 1}])
    with connected(mariadb) as other:
        weight = "INSERT INTO items SELECT seq, 0 FROM seq_100_to_2000"  # the lighter one is ended
        other.execute(sa.text(weight))
        other.execute(sa.text("UPDATE items SET v = 2 WHERE a = 2"))
        waiter = threading.Thread(
            target=other.execute, args=[sa.text("UPDATE items SET v = 2 WHERE a = 1")]
        )
        waiter.start()
        waiting = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        while rows(mariadb, waiting) == [(0,)]:
            assert waiter.is_alive()
        with pytest.raises(sa.exc.OperationalError, match="Deadlock"):
            backend.process_batch([{"a": 2, "v": 1}])
        waiter.join()
    with pytest.raises(StateError, match="was lost"):
        backend.commit_with("run", "x")
    backend.cleanup()
    assert rows(mariadb, "SELECT v FROM items WHERE a < 3") == [(2,), (2,)]


# -- secrets ------------------------------------------------------------------------

SECRET = "hunter2"


@leaves_sockets
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+pg8000://postgres:{SECRET}@127.0.0.1:1/test",
        f"mariadb+pymysql://root:{SECRET}@127.0.0.1:1/test",
        f"mariadb+pymysql://root:{SECRET}@127.0.0.1:3306/test",
        f"nothing://user:{SECRET}@host/name",
        f"postgresql+nothing://user:{SECRET}@host/name",
        f"user:{SECRET}@host/name",
        f"postgresql://user:{SECRET}@host:port/name",
        f"postgresql://user@host:{SECRET}/name",
        f"mssql+pyodbc://user:{SECRET}@host/name?driver=x",
        f"oracle+oracledb://user:{SECRET}@host/name",
        f"postgresql+pg8000://user@127.0.0.1:1/name?password={SECRET}",
        f"sqlite:///?password={SECRET}",
    ],
)
@pytest.mark.parametrize("stage", [SqlFrontend, SqlBackend])
def test_a_password_is_in_no_message(url, stage, capfd):
    """Whatever is wrong with a URL, nothing that is raised, logged or shown repeats it."""
    made = stage(url=url, table="items")
    with pytest.raises(Exception) as caught:
        made.setup()
    shown = "".join(traceback_of(caught.value)) + repr(made) + "".join(capfd.readouterr())
    assert SECRET not in shown
    error = caught.value
    while error is not None:
        assert SECRET not in repr(error)
        error = error.__cause__ or error.__context__


def traceback_of(error):
    import traceback

    return traceback.format_exception(error)


def test_values_are_in_no_message(url):
    """An item is shown by the pipeline, cut short; statements with all their values are not."""
    run_sql(url, "CREATE TABLE items (a VARCHAR(100), n INTEGER NOT NULL)")
    backend = opened(SqlBackend(url=url, table="items"))
    with pytest.raises(BatchError) as caught:
        backend.process_batch([{"a": SECRET, "n": None}])
    backend.cleanup()
    assert "[SQL parameters hidden" in str(caught.value.errors[0])


def test_a_checkpoint_says_no_password(postgresql, write_all):
    """What is kept tells the database, without the user and the password."""
    drop_all(postgresql)
    url = postgresql.replace("postgres@", f"postgres:{SECRET}@")
    write_all(SqlBackend(url=url, table="items", create=True, key="a"), [{"a": 1}])
    frontend = SqlFrontend(url=url, table="items")
    frontend.setup()
    checkpoint = frontend.checkpoint(1)
    frontend.cleanup()
    assert SECRET not in str(checkpoint)
    assert "postgres@" not in str(checkpoint)


def test_without_sqlalchemy_the_extra_is_named(monkeypatch):
    """One clear error says what to install."""
    monkeypatch.setattr(sql, "find_spec", lambda name: None)
    for stage in (SqlFrontend, SqlBackend):
        with pytest.raises(MissingExtraError, match=r"m3-pipeline\[sql\]"):
            stage(url="sqlite:///x.db", table="items")


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"]
)
def test_a_database_in_memory_is_refused(url):
    """What would be gone after the run is no place to put anything."""
    with pytest.raises(ConfigError, match="has a file"):
        SqlBackend(url=url, table="items").setup()


# -- reading ------------------------------------------------------------------------


def test_items_and_checkpoints_are_plain(url, read_all):
    """Names are strings and nothing more, and a checkpoint can be written down."""
    run_sql(url, "CREATE TABLE items (n INTEGER PRIMARY KEY)", "INSERT INTO items VALUES (3)")
    frontend = SqlFrontend(url=url, table="items")
    assert {type(name) for name in read_all(frontend)[0]} == {str}
    frontend.setup()
    checkpoint = frontend.checkpoint(3)
    frontend.cleanup()
    assert loads(dumps(checkpoint)) == checkpoint


KEYS = {
    "text": ("VARCHAR(20)", ["", "A", "a b", "ö", "zz", "%", "'"]),
    "decimal": ("DECIMAL(20,10)", [Decimal("-1.5"), Decimal("0.0000000001"), Decimal(7)]),
    "real": ("DOUBLE PRECISION", [-1e300, 0.1, 0.1 + 0.2, 1e-300, 5e300]),
    "big": ("BIGINT", [-(2**63), 0, 2**53 + 1, 2**63 - 1]),
    "day": ("DATE", [date(1, 1, 1), date(2026, 2, 3)]),
    "moment": ("TIMESTAMP(6)", [datetime(2026, 2, 3, 4, 5, 6, n) for n in (1, 2)]),  # noqa: DTZ001
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_many_types_are_gone_behind(server, write_all, kind):
    """Text, numbers, days and moments: the key that was read finds its row again."""
    declared, values = KEYS[kind]
    run_sql(server, f"CREATE TABLE items (k {declared} PRIMARY KEY)")
    write_all(SqlBackend(url=server, table="items"), [{"k": value} for value in values])
    frontend = SqlFrontend(url=server, table="items", page_size=1)
    frontend.setup()
    read = [item["k"] for item in frontend.produce()]
    assert sorted(read) == sorted(values)
    for index, value in enumerate(read):
        frontend.resume(frontend.checkpoint(value))
        assert [item["k"] for item in frontend.produce()] == read[index + 1 :]
    frontend.cleanup()


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
def test_a_collation_that_takes_keys_for_equal_is_noticed(mariadb, page_size):
    """``c`` and ``C`` are one key to the database: no row of them is lost."""
    drop_all(mariadb)
    run_sql(mariadb, "CREATE TABLE items (k VARCHAR(9) COLLATE utf8mb4_general_ci)")
    run_sql(mariadb, "INSERT INTO items VALUES ('a'), ('c'), ('C'), ('d')")
    frontend = SqlFrontend(url=mariadb, table="items", key="k", page_size=page_size)
    frontend.setup()
    with suppress(ConfigError):
        assert sorted(item["k"] for item in frontend.produce()) == ["C", "a", "c", "d"]
        frontend.resume(frontend.checkpoint("c"))
        list(frontend.produce())
        pytest.fail("a row was lost")
    frontend.cleanup()


def test_a_key_that_does_not_come_back_equal_is_noticed(mariadb):
    """A FLOAT is not what is read of it: nothing can be found behind it, but no run is endless."""
    drop_all(mariadb)
    run_sql(mariadb, "CREATE TABLE items (k FLOAT)", "INSERT INTO items VALUES (0.1), (0.7), (0.9)")
    frontend = SqlFrontend(url=mariadb, table="items", key="k", page_size=1)
    frontend.setup()
    with pytest.raises(ConfigError, match="does not tell all rows apart"):
        list(frontend.produce())
    frontend.cleanup()


def test_a_table_without_a_primary_key_is_streamed(url, read_all):
    """Its rows have no order to go on in, and the frontend says so."""
    run_sql(url, "CREATE TABLE items (n INTEGER)", "INSERT INTO items VALUES (2), (1), (2)")
    frontend = SqlFrontend(url=url, page_size=2, table="items")
    assert sorted(item["n"] for item in read_all(frontend)) == [1, 2, 2]
    assert frontend.can_resume is False


ENDLESS = {
    "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c",
    "postgresql": "SELECT n FROM generate_series(1, 100000) AS n",
    "mariadb": "SELECT seq AS n FROM seq_1_to_100000",
}


def test_a_stream_is_not_read_ahead(url):
    """A page is in memory and no more, however many rows there are; the rest can be left."""
    frontend = SqlFrontend(url=url, query=ENDLESS[sa.make_url(url).get_backend_name()], page_size=7)
    frontend.setup()
    pages = frontend._rows.pages(7)
    tracemalloc.start()
    try:
        assert [len(next(pages)) for _ in range(100)] == [7] * 100
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    pages.close()
    frontend.cleanup()


def test_a_query_is_taken_as_it_is(url, read_all):
    """Colons, percent signs and backslashes in a query are what they are to the database."""
    query = r"SELECT 'a :b ::c %s %(x)s %% 10:30 ? $1 {}' AS t, 1 AS n"
    expected = [{"t": "a :b ::c %s %(x)s %% 10:30 ? $1 {}", "n": 1}]
    assert read_all(SqlFrontend(url=url, query=query)) == expected
    assert read_all(SqlFrontend(url=url, query=query, key="n")) == expected


def test_values_are_those_of_the_driver(server, read_all):
    """A DOUBLE is not rounded to a decimal, JSON is what it says, text stays text."""
    run_sql(server, "CREATE TABLE items (d DOUBLE PRECISION, j JSON, t VARCHAR(9))")
    run_sql(server, """INSERT INTO items VALUES (0.1234567890123456, '{"a": [1]}', '007')""")
    (item,) = read_all(SqlFrontend(url=server, table="items"))
    document = {"a": [1]} if server.startswith("postgresql") else '{"a": [1]}'  # JSON is its text
    assert item == {"d": 0.1234567890123456, "j": document, "t": "007"}


def test_json_and_arrays_are_columns_of_their_own(postgresql, write_all, read_all):
    """Lists and mappings go into such columns as they are, and into others as JSON text."""
    drop_all(postgresql)
    run_sql(postgresql, "CREATE TABLE items (id INTEGER PRIMARY KEY, j JSONB, a INTEGER[], t TEXT)")
    item = {"id": 1, "j": {"a": [1, None]}, "a": [1, 2], "t": [1]}
    write_all(SqlBackend(url=postgresql, table="items"), [item])
    assert read_all(SqlFrontend(url=postgresql, table="items")) == [{**item, "t": "[1]"}]
