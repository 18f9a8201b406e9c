"""
Parquet files.

``arrow`` (items and Arrow's columns), ``parts`` (files that appear as a whole),
``writing`` (rows gathered into them).
"""
