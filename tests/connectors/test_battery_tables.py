"""The connectors for rows, proven with the batteries that third parties use."""

import csv
import sqlite3

import pytest

from m3.connectors.csv import CsvBackend, CsvFrontend
from m3.connectors.sqlite import SqliteBackend, SqliteFrontend
from m3.testing import BackendBattery, FrontendBattery

ROWS = [{"id": number, "name": f"row {number}"} for number in range(1, 11)]


def ask(path, query, *values):
    """Return the rows that a database has for a query."""
    database = sqlite3.connect(path)
    try:
        database.row_factory = lambda cursor, row: dict(
            zip((column[0] for column in cursor.description), row, strict=True)
        )
        with database:
            return database.execute(query, values).fetchall()
    finally:
        database.close()


class Rows(FrontendBattery):
    """A table of rows in an SQLite database, for those who read tables."""

    def prepare(self):
        self.path = self.folder / "input.db"
        ask(self.path, "create table rows (id integer primary key, name text)")
        for row in ROWS:
            self.add(row)

    def add(self, row):
        ask(self.path, "insert into rows values (?, ?)", *row.values())

    def expected(self):
        return ROWS

    def grow_input(self):
        self.add({"id": 99, "name": "more"})
        return [{"id": 99, "name": "more"}]


class TestSqliteFrontend(Rows):
    def make(self):
        return SqliteFrontend(path=self.path, table="rows", page_size=3)


class TestSqlFrontend(Rows):
    def make(self):
        sql = pytest.importorskip("m3.connectors.sql")
        pytest.importorskip("sqlalchemy")
        return sql.SqlFrontend(url=f"sqlite:///{self.path}", table="rows", page_size=3)


class Table(BackendBattery):
    """A table of rows in an SQLite database, for those who write tables."""

    def prepare(self):
        self.path = self.folder / "output.db"
        ask(self.path, "create table rows (id integer primary key, name text)")

    def items(self):
        return ROWS

    def read_back(self):
        return ask(self.path, "select * from rows order by id")

    def unwritable(self):
        return {"id": 5.5, "unknown": None}


class TestSqliteBackend(Table):
    def make(self):
        return SqliteBackend(path=self.path, table="rows")


class TestSqlBackend(Table):
    def make(self):
        sql = pytest.importorskip("m3.connectors.sql")
        pytest.importorskip("sqlalchemy")
        return sql.SqlBackend(url=f"sqlite:///{self.path}", table="rows")


class TestCsvFrontend(FrontendBattery):
    def prepare(self):
        self.path = self.folder / "input.csv"
        self.path.write_text('a,b\n1,x\n2,"two\nlines"\n\n3,"""quoted"""\n4,ü\n5,\n6,last\n')

    def make(self):
        return CsvFrontend(path=self.path)

    def expected(self):
        values = ("x", "two\nlines", '"quoted"', "ü", "", "last")
        return [{"a": str(number), "b": value} for number, value in enumerate(values, 1)]

    def grow_input(self):
        with self.path.open("a") as file:
            file.write("7,more\n")
        return [{"a": "7", "b": "more"}]

    def change_input(self):
        self.path.write_text(self.path.read_text().replace("1,x", "1,y"))


class TestCsvBackend(BackendBattery):
    is_whole = True

    @property
    def path(self):
        return self.folder / "output.csv"

    def make(self):
        return CsvBackend(path=self.path)

    def items(self):
        return [{"a": str(number), "b": f"{number}\n,"} for number in range(10)]

    def read_back(self):
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def unwritable(self):
        return {"c": 1}

    def change_output(self):
        self.path.write_text("x\n")


class TestCsvBackendThatAppends(TestCsvBackend):
    is_whole = False

    def make(self):
        return CsvBackend(path=self.path, append=True)


class TestParquetFrontend(FrontendBattery):
    def prepare(self):
        self.parquet = pytest.importorskip("pyarrow.parquet")
        self.paths = []
        self.write(ROWS[:5])
        self.write(ROWS[5:])

    def write(self, rows):
        from pyarrow import Table as ArrowTable

        self.paths.append(self.folder / f"{len(self.paths)}.parquet")
        self.parquet.write_table(ArrowTable.from_pylist(rows), self.paths[-1], row_group_size=2)

    def make(self):
        from m3.connectors.parquet import ParquetFrontend

        return ParquetFrontend(path=self.paths, batch_rows=2)

    def expected(self):
        return ROWS

    def grow_input(self):
        self.write([{"id": 99, "name": "more"}])
        return [{"id": 99, "name": "more"}]

    def change_input(self):
        for path in self.paths:
            path.unlink()
        self.paths.clear()
        self.write(ROWS[5:])
        self.write(ROWS[:5])


class TestParquetBackend(BackendBattery):
    def prepare(self):
        self.parquet = pytest.importorskip("pyarrow.parquet")

    def make(self):
        from m3.connectors.parquet import ParquetBackend

        return ParquetBackend(path=self.folder / "output", rows_per_file=3)

    def items(self):
        return ROWS

    def read_back(self):
        parts = sorted(self.folder.rglob("*.parquet"))
        return [row for part in parts for row in self.parquet.read_table(part).to_pylist()]

    def unwritable(self):
        return {"id": "not a number", "name": 1}

    def change_output(self):
        for part in self.folder.rglob("*.parquet"):
            part.unlink()
