"""
What users subclass: :class:`Frontend`, :class:`Transport` and :class:`Backend`.

Each worker thread of a stage makes an instance of its own, so the methods
need no locks.  An instance, given instead of a class, is shared by all
workers of its stage.
"""

from collections.abc import AsyncIterator, Iterable
from typing import Any, ClassVar, Generic, TypeVar

from m3._types import DROP, Failure, Item
from m3.policies import Batch

__all__ = ("DROP", "Backend", "Failure", "Frontend", "Item", "Stage", "Transport")

In = TypeVar("In")
Out = TypeVar("Out")


class Stage:
    """What frontends, transports and backends have in common."""

    config: Any = None
    """The ``app_config`` of :func:`m3.create`, or the stage's own ``config``."""

    workers: ClassVar[int] = 1
    """How many workers the stage has when its user names no number."""

    max_workers: ClassVar[int | None] = None
    """The most workers the stage can have; None for any number."""

    batch: ClassVar[Batch | None] = None
    """How items are gathered for ``process_batch`` when its user does not say."""

    failed: bool = False
    """Set before :meth:`cleanup`: whether the run has failed or was given up."""

    def setup(self) -> object:
        """
        Prepare the worker; called once in each worker thread.

        No worker of the pipeline handles an item before the ``setup`` of all
        has returned.  What it raises ends the run before it began.
        """

    def cleanup(self) -> object:
        """
        Release what :meth:`setup` took; called once in each worker thread.

        It is called whenever ``setup`` was called and returned, however the
        run ends.
        """


class Frontend(Stage, Generic[Out]):
    """Where items come from."""

    def produce(self) -> "Iterable[Out | Item | Failure] | AsyncIterator[Out]":
        """
        Yield the items; called once in each worker thread.

        Usually a generator.  What it raises is a failure of the run: the
        items already produced are still delivered.  An :class:`Item` carries
        a position, a :class:`Failure` an input that could not be read.
        """
        raise NotImplementedError

    def stop(self) -> object:
        """
        Wake :meth:`produce` from a blocking wait, because the run is ending.

        Called from another thread, at most once.  The default does nothing:
        the frontend then ends when it yields its next item.
        """

    def ack(self, position: Any) -> object:
        """
        Take note that the item at *position* is done: delivered, or dropped on purpose.

        The position is that of the :class:`Item` that was yielded.  A frontend
        that overrides this or :meth:`nack` is told about each of its items
        exactly once, in the order in which they end: each worker by one thread
        beside that of :meth:`produce`, and before :meth:`cleanup` is called.
        What it raises fails the run; the other answers are given all the same.
        """

    def nack(self, position: Any, error: Exception) -> object:
        """
        Take note that the item at *position* was not delivered; called like :meth:`ack`.

        Args:
            position: of the item.
            error: what a stage raised on it, or an
                :exc:`~m3.errors.AbandonedError` if the run ended before.
        """


class Transport(Stage, Generic[In, Out]):
    """
    What turns one item into the next.

    Define ``transport``, plain, as a generator or ``async``; or
    ``process_batch`` to take lists of items.
    """

    def transport(self, data: In) -> Out | Any:
        """
        Return what goes on in place of *data*.

        ``None`` is an ordinary item; :data:`m3.DROP` filters the item out.  A
        generator method forwards everything that it yields, which may be
        nothing.
        """
        raise NotImplementedError


class Backend(Stage, Generic[In]):
    """
    Where items go.

    Define ``process``, plain or ``async``; or ``process_batch`` to take lists
    of items.
    """

    def process(self, data: In) -> object:
        """Consume *data*; when this returns, the item counts as delivered."""
        raise NotImplementedError
