"""
How connectors read files and pipes.

Reading: ``reading`` (blocks from files and pipes), ``wakeup`` (ends a wait for
them), ``compression``, ``records`` (from blocks to records).  Going on in files:
``places`` (how far they were read), ``passages`` (reading from there), ``files``
(many of them), ``following`` (one that grows).
"""
