"""
What goes wrong in a stage, at chosen items, the same way every time.

Items are chosen by what they are and not by when they come, for with several
workers and with retries that is not the same every time.  Nothing sleeps.
"""

import inspect
import threading
from collections.abc import Callable, Container, Iterable
from functools import partial, wraps
from typing import Any, Self, TypeVar

from m3.stages import Failure, Item
from m3.testing._around import around, each_passing

__all__ = ("Blocks", "Fault", "Lags", "Raises", "faulty")

Chosen = Container[Any] | Callable[[Any], object]
"""Items, or a function that says whether an item is meant."""

HANDLERS = ("transport", "process", "process_batch")

Target = TypeVar("Target")


class Fault:
    """
    Something that goes wrong; the root of all of them.

    Args:
        at: the items at which it does: a collection of them, or a function
            that takes an item and says whether it is one.
    """

    def __init__(self, *, at: Chosen) -> None:
        self._is_chosen = at if callable(at) else at.__contains__

    def hits(self, item: Any) -> bool:
        """Return whether *item* is one of those at which it goes wrong."""
        return bool(self._is_chosen(item))

    def meet(self, item: Any) -> None:
        """Go wrong if *item* is one of those; called before the stage gets it, in its thread."""
        raise NotImplementedError


class Raises(Fault):
    """
    The stage raises.

    Args:
        error: what it raises: an exception, or a class of them.
        at: the items, as of :class:`Fault`.
        times: how often, over all of the items; None for always.
    """

    def __init__(
        self, error: Exception | type[Exception], *, at: Chosen, times: int | None = None
    ) -> None:
        super().__init__(at=at)
        self._error = error
        self._left = times
        self._lock = threading.Lock()

    def meet(self, item: Any) -> None:
        """Raise the error."""
        if not self.hits(item):
            return
        with self._lock:
            if self._left is not None:
                if self._left == 0:
                    return
                self._left -= 1
        if isinstance(self._error, Exception):
            raise self._error.with_traceback(None)
        raise self._error


class Blocks(Fault):
    """
    The stage blocks, until :meth:`release`; a ``with`` block releases at its end.

    In an ``async`` stage the whole event loop does.

    Args:
        at: the items, as of :class:`Fault`.
    """

    def __init__(self, *, at: Chosen) -> None:
        super().__init__(at=at)
        self._arrived = threading.Event()
        self._released = threading.Event()

    def meet(self, item: Any) -> None:
        """Block."""
        if self.hits(item):
            self._arrived.set()
            self._released.wait()

    def await_arrival(self, timeout: float = 60.0) -> None:
        """
        Wait until a worker blocks at one of the items.

        Raises:
            TimeoutError: none did in *timeout* seconds.
        """
        if not self._arrived.wait(timeout):
            raise TimeoutError(f"none of the chosen items came within {timeout} seconds")

    def release(self) -> None:
        """Let those go on that are blocked, and block at no further item."""
        self._released.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class Lags(Blocks):
    """
    The stage is slow: it holds the item until others have overtaken it.

    There must be workers for the others, else nothing goes on before ``release()``.

    Args:
        by: how many others come before it goes on.
        at: the items, as of :class:`Fault`; usually one.
    """

    def __init__(self, *, by: int, at: Chosen) -> None:
        super().__init__(at=at)
        self._left = by
        self._lock = threading.Lock()

    def meet(self, item: Any) -> None:
        """Hold the item, or count another one."""
        if self.hits(item):
            super().meet(item)
        elif self._arrived.is_set():
            with self._lock:
                self._left -= 1
                if self._left <= 0:
                    self.release()


def faulty(stage: Target, *faults: Fault) -> Target:
    """
    Return the stage with *faults* in it.

    Args:
        stage: a class, of which a derived one is returned; an instance, which
            is returned itself; a function that takes an item; or an iterable.
        faults: what goes wrong, in this order, before the stage gets an item,
            or before a frontend yields it.  Of a batch it is the whole that
            they are about: the stage gets none of it.

    Raises:
        TypeError: *stage* is nothing of these.
    """
    meet = partial(_meet, faults)
    methods = {
        name: _with_faults(name, getattr(stage, name), meet)
        for name in ("produce", *HANDLERS)
        if callable(getattr(stage, name, None))
    }
    made: Any
    if inspect.isclass(stage) and methods:
        made = type(stage.__name__, (stage,), {"__doc__": stage.__doc__, **methods})
        made.__module__, made.__qualname__ = stage.__module__, stage.__qualname__
        return made  # type: ignore[no-any-return]
    if methods:
        for name, method in methods.items():
            setattr(stage, name, method)
        return stage
    if callable(stage):
        made = _with_faults("", stage, meet)
    elif isinstance(stage, Iterable):
        made = each_passing(stage, meet)
    else:
        raise TypeError(f"{stage!r} is no stage: no class, instance, function or iterable of one")
    return made  # type: ignore[no-any-return]


def _with_faults(
    name: str, function: Callable[..., Any], meet: Callable[[Any], None]
) -> Callable[..., Any]:
    if name != "produce":
        is_batch = name == "process_batch"
        return around(function, lambda *args: [*map(meet, args[-1] if is_batch else args[-1:])])

    @wraps(function)
    def produce(*args: Any) -> Any:
        return each_passing(function(*args), meet)

    return produce


def _meet(faults: tuple[Fault, ...], thing: Any) -> None:
    item = thing.value if isinstance(thing, Item | Failure) else thing
    for fault in faults:
        fault.meet(item)
