"""
Tables of databases, read and written.

For all databases: ``tables`` (from items to rows, in transactions), ``keyset``
(from rows to items, page by page), ``identifiers``, ``storable`` (what can stand
in a row).  SQLite: ``sqlite`` (opened), ``sqlite_table`` (written), ``sqlite_rows``
(read).  Databases behind SQLAlchemy: ``sql`` (opened), ``sql_reflection`` (what
they tell of a table), ``sql_table`` (written), ``sql_rows`` (read).
"""
