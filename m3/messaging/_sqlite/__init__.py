"""
The bus in a file, and the map of this folder.

A bus has one thread, its ``clerk``, which alone uses the ``database``: it does
what others ask for, as much at once in one transaction as has come together,
and hands out messages.  ``topology`` has exchanges and queues, ``messages`` what
is in them, ``sessions`` who is there.  A ``whistle`` wakes the clerks of other
processes, and tells when one of them is gone.
"""
