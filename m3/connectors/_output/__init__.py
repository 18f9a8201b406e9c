"""
How connectors write files and pipes.

``writing`` (from items to records), ``sinks`` (bytes to files and pipes), ``torn``
(what a file that is added to lacks at its end), ``in_place`` (files that can be
brought back to where they were committed), ``templates`` and ``templated`` (many
files, by paths with fields), ``tree`` (what is below one directory), ``begun``
(which files in it are new).
"""
