"""The bus in memory: a ``broker`` has exchanges and ``queues``, a ``consumer`` receives."""
