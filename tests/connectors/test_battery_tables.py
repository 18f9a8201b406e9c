"""The connectors for rows, proven with the batteries that third parties use."""

import csv
import gzip

import pytest
from databases import Database, SqliteDatabase, drop_all

from m3.connectors.csv import CsvBackend, CsvFrontend
from m3.testing import BackendBattery, FrontendBattery

pytestmark = pytest.mark.once

ROWS = [{"id": number, "name": f"row {number}"} for number in range(1, 11)]


class TableInput(FrontendBattery):
    """A table of rows, for those who read tables."""

    def prepare(self):
        self.database = self.empty_database()
        self.database.run("CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(20))")
        self.database.run(*map(inserted, ROWS))

    def empty_database(self):
        raise NotImplementedError

    def make(self):
        return self.database.frontend(table="items", page_size=3)

    def expected(self):
        return ROWS

    def grow_input(self):
        row = {"id": 99, "name": "more"}
        self.database.run(inserted(row))
        return [row]


class TableOutput(BackendBattery):
    """A table, for those who write tables."""

    def prepare(self):
        self.database = self.empty_database()
        self.database.run("CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(20))")

    def empty_database(self):
        raise NotImplementedError

    def make(self):
        return self.database.backend()

    def items(self):
        return ROWS

    def read_back(self):
        rows = self.database.rows("SELECT id, name FROM items ORDER BY id")
        return [{"id": number, "name": name} for number, name in rows]

    def unwritable(self):
        return {"id": 5.5, "unknown": None}


def inserted(row):
    """Return the statement that adds *row*."""
    return "INSERT INTO items VALUES ({id}, '{name}')".format_map(row)


class WithSqlite:
    def empty_database(self):
        return SqliteDatabase(self.folder / "test.db")


class WithSqlToSqlite:
    def empty_database(self):
        pytest.importorskip("sqlalchemy")
        return Database(f"sqlite:///{self.folder}/test.db")


@pytest.mark.services
@pytest.mark.timeout(180)
class WithServer:
    """A database of a server, emptied for each scenario."""

    server: str

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls, request):
        cls.url = request.getfixturevalue(cls.server)

    def empty_database(self):
        drop_all(self.url)
        return Database(self.url)


class WithPostgresql(WithServer):
    server = "postgresql"


class WithMariadb(WithServer):
    server = "mariadb"


class TestSqliteFrontend(WithSqlite, TableInput):
    pass


class TestSqlFrontend(WithSqlToSqlite, TableInput):
    pass


class TestSqlFrontendOfPostgresql(WithPostgresql, TableInput):
    pass


class TestSqlFrontendOfMariadb(WithMariadb, TableInput):
    pass


class TestSqliteBackend(WithSqlite, TableOutput):
    pass


class TestSqlBackend(WithSqlToSqlite, TableOutput):
    pass


class TestSqlBackendOfPostgresql(WithPostgresql, TableOutput):
    pass


class TestSqlBackendOfMariadb(WithMariadb, TableOutput):
    pass


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


class TestCsvFrontendOfCompressedFiles(FrontendBattery):
    def prepare(self):
        self.add("a", b"a\n1\n2\n3")
        self.add("b", b"")
        self.add("c", b'b,a\n"x\n",4\ny,5\n')

    def add(self, name, data):
        (self.folder / f"{name}.csv.gz").write_bytes(gzip.compress(data))

    def make(self):
        return CsvFrontend(path=f"{self.folder}/*.gz")

    def expected(self):
        return [*({"a": value} for value in "123"), {"b": "x\n", "a": "4"}, {"b": "y", "a": "5"}]

    def grow_input(self):
        self.add("bb", b"a\nmore\n")
        return [{"a": "more"}]

    def change_input(self):
        for name in "ac":
            self.add(name, b"a\n?\n")


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


class TestCsvBackendOfManyFiles(TestCsvBackend):
    @property
    def path(self):
        return self.folder / "{a}" / "output.csv"

    def read_back(self):
        rows = []
        for path in sorted(self.folder.glob("*/output.csv")):
            with path.open(newline="") as file:
                rows += csv.DictReader(file)
        return rows

    def change_output(self):
        for path in self.folder.glob("*/output.csv"):
            path.write_text("x\n")


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


class TestParquetBackendOfManyDirectories(TestParquetBackend):
    keeps_order = False

    def make(self):
        from m3.connectors.parquet import ParquetBackend

        return ParquetBackend(path=self.folder / "output" / "{name}", rows_per_file=3)

    def unwritable(self):
        return {"id": 1}
