"""
CSV, apart from its files.

``dialect`` (how it is written), ``quoting`` (from blocks to records), ``rows``
(from records to dictionaries), ``header`` (read by itself), ``cells`` (from
mappings to lines), ``torn`` (what a file lacks at its end).
"""
