"""
What a database tells of a table, read through SQLAlchemy.

It reads MySQL and MariaDB with patterns that names with quotes or line ends
slip through, so these are asked here, in a way that leaves nothing to parse.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from m3.connectors._database.sql import is_mysql

__all__ = ("engine_of", "reflected", "unique_columns")

NO_SUCH_TABLE = 1146

MYSQL_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "char": sa.String(),
    "varchar": sa.String(),
    "tinytext": sa.String(),
    "text": sa.String(),
    "mediumtext": sa.String(),
    "longtext": sa.String(),
    "enum": sa.String(),
    "set": sa.String(),
    "datetime": sa.DateTime(),
    "timestamp": sa.DateTime(),
    "json": sa.JSON(),
}
"""The types of columns that values are made to fit; all others are left to the driver."""


def reflected(connection: sa.Connection, name: str, schema: str | None) -> sa.Table | None:
    """Return the table *name*; None if there is no such table."""
    quoted = sa.quoted_name(name, quote=True)
    quoted_schema = schema if schema is None else sa.quoted_name(schema, quote=True)
    if is_mysql(connection.dialect):
        return mysql_table(connection, quoted, quoted_schema)
    try:
        return sa.Table(
            quoted,
            sa.MetaData(),
            schema=quoted_schema,
            autoload_with=connection,
            resolve_fks=False,
        )
    except exc.NoSuchTableError:
        return None


def unique_columns(connection: sa.Connection, table: sa.Table) -> list[set[str]]:
    """Return the sets of columns that tell the rows of *table* apart."""
    if is_mysql(connection.dialect):
        return [set(names) for names in mysql_keys(connection, table.name, table.schema).values()]
    inspector = sa.inspect(connection)
    constraints = inspector.get_unique_constraints(table.name, table.schema)
    indexes = inspector.get_indexes(table.name, table.schema)
    found: list[Any] = [constraint["column_names"] for constraint in constraints]
    found += [index["column_names"] for index in indexes if index["unique"]]
    return [set(table.primary_key.columns.keys()), *map(set, found)]


def engine_of(connection: sa.Connection, table: sa.Table) -> str:
    """Return which engine of MySQL and MariaDB keeps *table*; nothing for other databases."""
    if not is_mysql(connection.dialect):
        return ""
    preparer = connection.dialect.identifier_preparer
    place = f" FROM {preparer.quote_identifier(table.schema)}" if table.schema else ""
    statement = sa.text(f"SHOW TABLE STATUS{place} WHERE Name = :name")
    found = connection.execute(statement, {"name": table.name}).mappings().all()
    exact = [row for row in found if row["Name"] == table.name] or found
    return str(exact[0]["Engine"] or "") if exact else ""


def mysql_table(connection: sa.Connection, name: str, schema: str | None) -> sa.Table | None:
    """Return a table of MySQL or MariaDB."""
    try:
        rows = shown(connection, "SHOW FULL COLUMNS", name, schema)
    except exc.ProgrammingError as error:
        if error.orig is None or error.orig.args[0] != NO_SUCH_TABLE:
            raise
        return None
    primary = mysql_keys(connection, name, schema).get("PRIMARY", ())
    key = [sa.PrimaryKeyConstraint(*primary)] if primary else []
    return sa.Table(name, sa.MetaData(), *map(mysql_column, rows), *key, schema=schema)


def mysql_column(row: Any) -> sa.Column[Any]:
    """Return the column that a row of SHOW FULL COLUMNS tells of."""
    kind = row["Type"].partition("(")[0].partition(" ")[0].lower()
    extra = row["Extra"].upper().replace("DEFAULT_GENERATED", "")
    computed = [sa.Computed("NULL")] if "GENERATED" in extra else []
    has_value = row["Default"] is not None or "AUTO_INCREMENT" in extra
    return sa.Column(
        sa.quoted_name(row["Field"], quote=True),
        MYSQL_TYPES.get(kind, sa.types.NullType()),
        *computed,
        nullable=row["Null"] == "YES",
        server_default=sa.text("NULL") if has_value and not computed else None,
        autoincrement=False,
    )


def mysql_keys(
    connection: sa.Connection, name: str, schema: str | None
) -> dict[str, tuple[str, ...]]:
    """Return the columns of each unique key, in their order."""
    rows = shown(connection, "SHOW INDEX", name, schema)
    partial = {row["Key_name"] for row in rows if row["Non_unique"] or row["Sub_part"]}
    found: dict[str, tuple[str, ...]] = {}
    for row in sorted(rows, key=lambda row: int(row["Seq_in_index"])):
        if row["Key_name"] not in partial:
            found[row["Key_name"]] = (*found.get(row["Key_name"], ()), row["Column_name"])
    return found


def shown(connection: sa.Connection, what: str, name: str, schema: str | None) -> list[Any]:
    """Return what MySQL shows of a table."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    where = f"{quote(schema)}.{quote(name)}" if schema else quote(name)
    return list(connection.exec_driver_sql(f"{what} FROM {where}").mappings().all())
