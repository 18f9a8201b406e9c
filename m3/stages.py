"""
What users subclass: :class:`Frontend`, :class:`Transport` and :class:`Backend`.

Each worker thread of a stage makes an instance of its own, so the methods
need no locks.  An instance, given instead of a class, is shared by all
workers of its stage.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, ClassVar, Generic, TypeVar

from m3._scopes import remember_names_around
from m3._types import DROP, Failure, Item
from m3.policies import Batch

__all__ = (
    "DROP",
    "Backend",
    "Failure",
    "Frontend",
    "Item",
    "Stage",
    "TransactionalBackend",
    "Transport",
)

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

    batch: ClassVar[Batch | int | None] = None
    """How items are gathered for ``process_batch`` when its user does not say; see Batch."""

    failed: bool = False
    """Set before :meth:`cleanup`: whether the run has failed or was given up."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        remember_names_around(cls)

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
    """
    Where items come from.

    One that overrides :meth:`resume` can go on where an earlier run has ended,
    if it yields an :class:`Item` with a position for each item.  Where only some
    of its instances can, an attribute ``can_resume`` is False of the others.

    One that defines a method ``watch_run`` is called with its run before :meth:`setup`:
    an object that has the ``plan``, and a method ``report()``, as of the engine.
    """

    wants_positions: bool = False
    """Set before :meth:`setup`: whether the run has a use for the positions of items."""

    acks_anywhere: ClassVar[bool] = False
    """Whether :meth:`ack` does not block, and may be called in several threads at once."""

    offer: Callable[[Item], bool] | None = None
    """Set before :meth:`produce`, if there is a way for items beside it; see there."""

    def produce(self) -> "Iterable[Out | Item | Failure] | AsyncIterator[Out]":
        """
        Yield the items; called once in each worker thread.

        Usually a generator.  What it raises is a failure of the run: the
        items already produced are still delivered.  An :class:`Item` carries
        a position, a :class:`Failure` an input that could not be read.

        While it waits, another thread that has an item need not wake it: it can call
        ``offer(item)``, which never blocks, and returns whether it has taken the
        :class:`Item`.  If not, it is to be yielded.  ``offer`` is None where there is no
        such way: before, and in a run that keeps state, or has the next stage in this thread.
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

        If the class says ``acks_anywhere``, this is called by the worker that has delivered
        the item, at once and in no order, where nothing has to be made durable before.

        A frontend that defines a method ``ack_batch`` as well is called with lists of
        the positions of items that have ended one after the other, instead.
        """

    def nack(self, position: Any, error: Exception) -> object:
        """
        Take note that the item at *position* was not delivered; called like :meth:`ack`.

        A frontend that defines a method ``dead_lettered``, with the same arguments, is
        told by that of an item that is kept as a dead letter, and need not come again.

        Args:
            position: of the item.
            error: what a stage raised on it, or an
                :exc:`~m3.errors.AbandonedError` if the run ended before.
        """

    def checkpoint(self, position: Any) -> Any:
        """
        Return what :meth:`resume` needs to go on behind the item at *position*.

        It is kept as it is returned, so it must be plain: numbers, strings,
        bytes, None, lists, tuples and dictionaries of them, dates.  The default
        returns the position itself.  Something to recognise the input by can be
        added.  Called by another thread than :meth:`produce`, and at any time.
        """
        return position

    def resume(self, checkpoint: Any) -> object:
        """
        Begin behind what *checkpoint* says, or at the beginning if it is None.

        Called once, after :meth:`setup` and before :meth:`produce`, in runs that
        keep state.

        Raises:
            StateError: the input is not the one that the checkpoint was made of.
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

    One that overrides :meth:`resume` can undo what it got after a checkpoint;
    where only some of its instances can, an attribute ``can_resume`` is False of
    the others.  An attribute ``keeps_at_end`` that is True says that without a
    call of :meth:`resume` it keeps what it got only when the run has ended well,
    an attribute ``is_idempotent`` that an item which comes again leaves the sink as
    it was after the first time.
    """

    def process(self, data: In) -> object:
        """Consume *data*; when this returns, the item counts as delivered."""
        raise NotImplementedError

    def commit(self) -> Any:
        """
        Make durable what was processed, and return where the sink stands now.

        Called between two items, in the worker's thread: before a checkpoint is
        written and before a frontend's :meth:`~Frontend.ack` is called.  What it
        returns is kept in the checkpoint for :meth:`resume`; it must be plain,
        as of :meth:`Frontend.checkpoint`.  What it raises fails the run.
        """

    def resume(self, mark: Any) -> object:
        """
        Go back to where the sink stood when :meth:`commit` returned *mark*.

        What was written later is to be undone, for the items of it come again;
        *mark* is None when nothing was committed yet.  Called once, after
        :meth:`setup` and before the first item, in runs that keep state.  A
        backend that overrides it delivers effectively once.
        """


class TransactionalBackend(Backend[In]):
    """
    A backend that can commit a checkpoint in one transaction with its data.

    In a run that keeps state, :meth:`committed` is called once, after
    :meth:`setup`; from then on nothing may be committed but by
    :meth:`commit_with`.  Without that call, each batch is committed by itself.
    """

    def committed(self, key: str) -> str | None:
        """Return the checkpoint that was last committed under *key*, if any was."""
        raise NotImplementedError

    def commit_with(self, key: str, checkpoint: str) -> object:
        """Commit what was processed, together with *checkpoint*, to be kept under *key*."""
        raise NotImplementedError
