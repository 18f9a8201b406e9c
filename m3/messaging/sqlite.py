"""``sqlite:///path``: a bus for the processes of one machine, in a file."""

import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NoReturn, Self

from m3.errors import BusError, ConfigError, NotPlainError
from m3.messaging._sqlite import messages, topology
from m3.messaging._sqlite.clerk import Clerk
from m3.messaging._sqlite.consumer import SqliteConsumer
from m3.messaging._sqlite.database import Database
from m3.messaging._sqlite.jobs import Job
from m3.messaging.bus import PATIENCE, Bus, asked_for, begun, outcomes_of
from m3.messaging.entities import Exchange, Message, Publication, Queue
from m3.messaging.every import call_all

__all__ = ("SqliteBus",)

LEASE = 30.0
"""The default for how many seconds a process that is stuck keeps its messages."""


class SqliteBus(Bus):
    """
    A bus for the processes of one machine: a file on a local disk, and no server.

    Messages that are persistent are on the disk when ``publish`` returns.  What a
    process had not settled is delivered to others at once when it has ended, also
    if it was killed.  A bus cannot be used in the child of a fork: connect there.

    Args:
        path: the file, made if it is missing; beside it are SQLite's own files and
            a folder of named pipes, by which processes wake each other.
        lease: seconds after which others get the messages of a process that is
            stuck, or was stopped.
    """

    def __init__(self, path: str | Path, *, lease: float = LEASE) -> None:
        if not lease > 0:
            raise ConfigError(f"lease={lease!r}: a time of 0 or less is none")
        self.path = Path(path)
        self._lease = lease
        self._lock = threading.Lock()
        self._clerk: Clerk | None = None
        self._consumers: set[SqliteConsumer] = set()

    @classmethod
    def from_url(cls, url: str, *, lease: float = LEASE) -> Self:
        """
        Return the bus of ``sqlite:///relative/path`` or ``sqlite:////absolute/path``.

        Raises:
            ConfigError: there is no path in the URL.
        """
        path = url.removeprefix("sqlite:///")
        if path == url or not path:
            raise ConfigError(
                f"{url!r} names no file: it is sqlite:///relative/path or sqlite:////absolute/path"
            )
        return cls(path, lease=lease)

    def setup(self) -> None:
        """
        Open the file, and begin to take messages.

        Raises:
            BusError: it cannot be used.
        """
        with self._lock:
            if self._clerk is None:
                clerk = Clerk(self.path.absolute(), self._lease, tell_failure=self.fail)
                clerk.start()
                self._clerk = clerk

    def shutdown(self) -> None:
        """Close its consumers and the file."""
        with self._lock:
            clerk, self._clerk = self._clerk, None
        ends = [consumer.close for consumer in list(self._consumers)]
        call_all(ends if clerk is None else [*ends, clerk.close])

    def health(self) -> None:
        """Raise :class:`~m3.errors.BusError` if nothing can be written."""
        self._connected().do(lambda _: None, timeout=PATIENCE)

    def declare(self, *entities: Exchange | Queue) -> None:
        """See :meth:`Bus.declare`."""
        self._connected().do(lambda database: topology.declare(database, *entities))

    def delete(self, *entities: Exchange | Queue) -> None:
        """See :meth:`Bus.delete`."""
        self._connected().do(lambda database: topology.delete(database, *entities))

    def publish(
        self,
        message: Message,
        *,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        timeout: float | None = PATIENCE,
    ) -> None:
        """See :meth:`Bus.publish`."""
        clerk = self._connected()
        job = publishing(message, exchange, routing_key, mandatory)
        clerk.begin(job)
        clerk.finish(job, timeout)

    def publish_many(
        self, publications: Iterable[Publication], *, timeout: float | None = PATIENCE
    ) -> list[BusError | None]:
        """See :meth:`Bus.publish_many`; many share a write to the disk."""
        clerk = self._connected()
        jobs = [publishing(*each) for each in publications]
        for job in jobs:
            clerk.begin(job)
        return outcomes_of((partial(clerk.finish, job) for job in jobs), timeout)

    def consumer(self, queues: Queue | Iterable[Queue], *, prefetch: int = 1) -> SqliteConsumer:
        """See :meth:`Bus.consumer`."""
        clerk = self._connected()
        queues = asked_for(queues, prefetch)
        consumer = SqliteConsumer(clerk, queues, prefetch, forget=self._consumers.discard)
        return begun(consumer, self._consumers, lambda: self._clerk is clerk)

    def _connected(self) -> Clerk:
        clerk = self._clerk
        if clerk is None:
            raise BusError(f"the bus {self.path} is not connected: set it up, or use with")
        return clerk


def publishing(message: Message, exchange: str, routing_key: str, mandatory: bool) -> Job:
    """Return the job to publish a message; it fails if the message cannot be stored."""
    try:
        written = messages.write(message)
    except NotPlainError as error:
        return Job(partial(_refuse, f"the headers of a message cannot be stored: {error}"))
    publish = partial(
        messages.publish,
        written=written,
        exchange=exchange,
        routing_key=routing_key,
        mandatory=mandatory,
    )
    return Job(publish, is_durable=message.persistent)


def _refuse(problem: str, _: Database) -> NoReturn:
    raise BusError(problem)
