r"""
Ready-made stages, one file per connector, named as it is registered.

==========  ========  =========  =======
name        frontend  transport  backend
==========  ========  =========  =======
``count``             yes        yes
``file``    yes                  yes
``jsonl``   yes                  yes
``log``               yes        yes
``null``                         yes
``sql``     yes                  yes
``sqlite``  yes                  yes
``stdin``   yes
``stdout``                       yes
==========  ========  =========  =======

What they have in common:

- A record is what stands between two ``\n``, and nothing else ends one: not
  ``\r``, not NUL, not the line ends of Unicode.  A last record without ``\n``
  counts.  Records are :class:`bytes` unless an encoding is named.
- A record that cannot be read (too long, not decodable, not JSON) is a
  :class:`~m3.stages.Failure`, and reading goes on with the next one.
- ``stop()`` wakes a frontend from a blocking read at once.
- Options are keywords, checked when the stage is made.

The modules whose names begin with an underscore are shared by the connectors:
``_reading`` (blocks from files and pipes), ``_wakeup`` (ends a wait for them),
``_records`` (from blocks to records); ``_writing`` (from items to records),
``_sinks`` (bytes to files and pipes); ``_json``; ``_tables`` (from items to
rows of a table), ``_keyset`` (from rows to items, page by page),
``_identifiers``, ``_storable``; ``_sqlite``, ``_sqlite_table``, ``_sqlite_rows``;
``_databases``, ``_sql_table``, ``_sql_rows``, which need SQLAlchemy.
"""
