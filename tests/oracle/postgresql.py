"""Tables of PostgreSQL, in a database of their own for each process of the oracle."""

import os
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import found
import issued

SERVER = "postgresql+pg8000://postgres@127.0.0.1:5432"
DATABASE = f"m3_oracle_{os.getpid()}"
URL = f"{SERVER}/{DATABASE}"

PIPELINE = f"""
[frontend]
use = "sql"
url = "{URL}"
table = "numbers"

[backend]
use = "sql"
url = "{URL}"
table = "items"
create = true
"""


@contextmanager
def connected(database: str) -> Iterator[Any]:
    """Connect to a database of the server; each statement is committed by itself."""
    import sqlalchemy as sa

    engine = sa.create_engine(f"{SERVER}/{database}", isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def is_there() -> bool:
    """Tell whether there is a server that can be used."""
    try:
        with connected("postgres"):
            return True
    except Exception:
        return False


def drop(_: Path) -> None:
    """Remove the database, if there is one."""
    with connected("postgres") as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


def write(folder: Path, count: int) -> None:
    """Write a table into a new database, and the pipeline that reads it."""
    drop(folder)
    with connected("postgres") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {DATABASE}")
    rows = ", ".join(f"({number}, '{issued.text(number)}')" for number in range(count))
    with connected(DATABASE) as connection:
        connection.exec_driver_sql("CREATE TABLE numbers (n integer PRIMARY KEY, text text)")
        connection.exec_driver_sql(f"INSERT INTO numbers VALUES {rows}")
    (folder / "pipeline.toml").write_text(PIPELINE)


def read(_: Path) -> list[Hashable]:
    """Return the records of the table that was written to."""
    return found.rows_at(URL)
