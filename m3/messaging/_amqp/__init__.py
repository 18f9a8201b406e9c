"""
RabbitMQ through kombu, and the map of this folder.

``brokers`` makes a ``connection``, which puts messages into frames, and together from them
(``contents``, and :mod:`m3._wire` for what is nothing unusual).
A ``link`` keeps one up: its thread reads, and does what other threads ask it for, unless
they can write it themselves while it sleeps; and who waits alone for something to arrive reads
it, too (``leading``).  A bus has two links, so that a broker which
stops listening to publishers still gets acknowledgements: one is for ``publishing``, the
other for receiving, where every ``consumer`` and ``listener`` has a channel.
``topology`` declares exchanges and queues, and
``envelopes`` has messages as AMQP writes them.
"""
