"""Databases of each kind, for the tests of the connectors that read and write them."""

import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

from m3.connectors.sql import SqlBackend, SqlFrontend
from m3.connectors.sqlite import SqliteBackend, SqliteFrontend


@contextmanager
def connected(url):
    """Yield a connection in a transaction that is committed at the end; leave nothing open."""
    import sqlalchemy as sa

    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        yield connection


def run_sql(url, *statements):
    """Have the database at *url* do something."""
    from sqlalchemy import text

    with connected(url) as connection:
        for statement in statements:
            connection.execute(text(statement))


def rows(url, statement="SELECT * FROM items"):
    """Return the rows of a query, as tuples."""
    from sqlalchemy import text

    with connected(url) as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def names(url):
    """Return the names of the tables."""
    from sqlalchemy import inspect

    with connected(url) as connection:
        return inspect(connection).get_table_names()


def drop_all(url):
    """Make the database at *url* empty."""
    from sqlalchemy import make_url

    name = make_url(url).database
    if url.startswith("postgresql"):
        run_sql(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    elif url.startswith("mariadb"):
        run_sql(url, f"DROP DATABASE {name}", f"CREATE DATABASE {name}")
    else:
        Path(name).unlink(missing_ok=True)


def opened(backend, key=None):
    """Set *backend* up, as in a run with state if there is a *key*."""
    backend.setup()
    if key is not None:
        backend.committed(key)
    return backend


class Database:
    """
    A database that SQLAlchemy knows, and the connector ``sql``.

    Attributes:
        stage: the name of the connector.
        where: its options that name the database.
    """

    stage = "sql"
    backend_class, frontend_class = SqlBackend, SqlFrontend

    def __init__(self, url):
        self.where = {"url": url}

    def backend(self, **options):
        """Return a backend that writes the table ``items`` of the database, or another."""
        return self.backend_class(**{"table": "items", **self.where, **options})

    def frontend(self, **options):
        """Return a frontend that reads from the database."""
        return self.frontend_class(**self.where, **options)

    def run(self, *statements):
        """Have the database do something."""
        run_sql(self.where["url"], *statements)

    def rows(self, statement="SELECT * FROM items"):
        """Return the rows of a query, as tuples."""
        return rows(self.where["url"], statement)


class SqliteDatabase(Database):
    """An SQLite database, and the connector ``sqlite``."""

    stage = "sqlite"
    backend_class, frontend_class = SqliteBackend, SqliteFrontend

    def __init__(self, path):
        self.where = {"path": str(path)}

    def run(self, *statements):
        """Have the database do something."""
        with closing(sqlite3.connect(self.where["path"])) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, statement="SELECT * FROM items"):
        """Return the rows of a query, as tuples."""
        with closing(sqlite3.connect(self.where["path"])) as connection:
            return connection.execute(statement).fetchall()
