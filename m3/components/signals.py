"""Signals of the process, while something of this thread runs."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ("handled", "interruptible")

T = TypeVar("T")


@contextmanager
def handled(numbers: tuple[int, ...], handler: Callable[[], object]) -> Iterator[None]:
    """
    Call *handler* at the first signal of one of these *numbers*.

    A second one is handled as it was before.  Outside of the main thread, which
    alone gets signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}

    def restore() -> None:
        while before:
            number, former = before.popitem()
            signal.signal(number, signal.SIG_DFL if former is None else former)

    def handle(*_: object) -> None:
        restore()
        handler()

    for number in numbers:
        before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


async def interruptible(coroutine: Coroutine[Any, Any, T]) -> T:
    """
    Return what *coroutine* returns; Ctrl-C cancels it, and is raised when it has ended.

    A handler of the program's own for SIGINT is left in place.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(coroutine)
    is_interrupted = False

    def interrupt() -> None:
        nonlocal is_interrupted
        is_interrupted = True
        loop.call_soon_threadsafe(task.cancel)

    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with handled((signal.SIGINT,) if is_default else (), interrupt):
        try:
            return await task
        except asyncio.CancelledError:
            if is_interrupted:
                raise KeyboardInterrupt from None
            raise
