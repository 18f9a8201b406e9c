r"""
Ready-made stages, one file per connector, named as it is registered.

===========  ========  =========  =======
name         frontend  transport  backend
===========  ========  =========  =======
``count``              yes        yes
``csv``      yes                  yes
``file``     yes                  yes
``jsonl``    yes                  yes
``log``                yes        yes
``null``                          yes
``parquet``  yes                  yes
``sql``      yes                  yes
``sqlite``   yes                  yes
``stdin``    yes
``stdout``                        yes
===========  ========  =========  =======

What they have in common:

- A record is what stands between two ``\n``, and nothing else ends one: not
  ``\r``, not NUL, not the line ends of Unicode.  A last record without ``\n``
  counts.  Records are :class:`bytes` unless an encoding is named.  (``csv`` has
  the records of that format, ``parquet`` has rows.)
- A record that cannot be read (too long, not decodable, not JSON) is a
  :class:`~m3.stages.Failure`, and reading goes on with the next one.
- Where positions are wanted, each item comes with where its record begins.
- ``stop()`` wakes a frontend from a blocking read at once.
- Options are keywords, checked when the stage is made.

The modules whose names begin with an underscore are shared by the connectors.
For reading: ``_paths`` (which files), ``_reading`` (blocks from files and
pipes), ``_wakeup`` (ends a wait for them), ``_compression``, ``_records`` (from
blocks to records); for going on in files: ``_places`` (how far they were read),
``_passages`` (reading from there), ``_files`` (many of them), ``_following``
(one that grows).  For writing: ``_writing`` (from items to records), ``_sinks``
(bytes to files and pipes), ``_in_place`` (files that can be brought back),
``_templates`` and ``_templated`` (paths with fields); ``_json``.  Those of ``csv``:
``_dialect``, ``_quoting`` (from blocks to records), ``_rows`` (to dictionaries),
``_cells`` (from mappings to lines), ``_growing`` (a file that can be cut back);
those of ``parquet``: ``_arrow``, ``_parts`` (files that appear as a whole);
those of ``sqlite`` and ``sql``: ``_tables`` (from items to rows of a table),
``_keyset`` (from rows to items, page by page), ``_identifiers``, ``_storable``;
``_sqlite``, ``_sqlite_table``, ``_sqlite_rows``; ``_databases``, ``_sql_table``,
``_sql_rows``, which need SQLAlchemy.  ``_marks`` is what several keep to go on from.
"""
