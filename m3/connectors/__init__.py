r"""
Ready-made stages, one file per connector, named as it is registered.

============  ========  =========  =======
name          frontend  transport  backend
============  ========  =========  =======
``amqp``      yes                  yes
``count``               yes        yes
``csv``       yes                  yes
``dynamodb``                       yes
``events``    yes                  yes
``file``      yes                  yes
``jsonl``     yes                  yes
``kinesis``                        yes
``log``                 yes        yes
``null``                           yes
``parquet``   yes                  yes
``rpc``                 yes
``s3``        yes                  yes
``sns``                            yes
``sql``       yes                  yes
``sqlite``    yes                  yes
``sqs``       yes                  yes
``stdin``     yes
``stdout``                         yes
``submit``    yes
============  ========  =========  =======

``events`` and ``rpc`` are in :mod:`m3.services.stages`, ``submit`` in
:mod:`m3.services.submit`.  What all have in common:

- A record is what stands between two ``\n``, and nothing else ends one: not
  ``\r``, not NUL, not the line ends of Unicode.  A last record without ``\n``
  counts.  Records are :class:`bytes` unless an encoding is named.  (``csv`` has
  the records of that format, ``parquet`` has rows, ``amqp`` and
  ``sqs`` messages.)
- A record that cannot be read (too long, not decodable, not JSON) is a
  :class:`~m3.stages.Failure`, and reading goes on with the next one.
- Where positions are wanted, each item comes with where its record begins.
- ``stop()`` wakes a frontend from a blocking read at once; ``sqs`` waits for the
  answer to its call, a second unless its ``wait_time`` says otherwise.
- Options are keywords, checked when the stage is made.

What they share is private, in folders: ``_input`` (how files and pipes are read),
``_output`` (how they are written), ``_csv``, ``_parquet``, ``_database`` (tables, for
``sqlite`` and ``sql``), ``_aws`` (objects, messages, batches).  Several folders have
need of ``_paths`` (which files), ``_both_ends`` (files that would be read and written at
once), ``_marks`` (what is kept to go on from), ``_naming`` (names made of items),
``_options`` (what options may be) and ``_json``.
"""
