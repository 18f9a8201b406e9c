"""Code put before and behind a stage's own, so that the engine calls it in the same way."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any

__all__ = ("around", "each_passing", "nothing")


def nothing(*_: Any) -> None:
    """Do nothing."""


def around(
    function: Callable[..., Any],
    before: Callable[..., object],
    after: Callable[[], object] = nothing,
) -> Callable[..., Any]:
    """
    Return a function of the same shape as *function*, which a call, ``async`` or a generator is.

    Args:
        function: the stage's own.
        before: called with its arguments, before it.
        after: called when it has ended well.
    """
    if inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function):
        return _around_async(function, before, after)

    @wraps(function)
    def call(*args: Any) -> Any:
        before(*args)
        result = function(*args)
        after()
        return result

    @wraps(function)
    def generate(*args: Any) -> Iterator[Any]:
        before(*args)
        yield from function(*args)
        after()

    return generate if inspect.isgeneratorfunction(function) else call


def _around_async(
    function: Callable[..., Any], before: Callable[..., object], after: Callable[[], object]
) -> Callable[..., Any]:
    @wraps(function)
    async def call(*args: Any) -> Any:
        before(*args)
        result = await function(*args)
        after()
        return result

    @wraps(function)
    async def generate(*args: Any) -> AsyncIterator[Any]:
        before(*args)
        async for each in function(*args):
            yield each
        after()

    return generate if inspect.isasyncgenfunction(function) else call


def each_passing(things: Any, meet: Callable[[Any], object]) -> Any:
    """Return an iterator over *things*, of their kind, that calls *meet* with each before."""
    if isinstance(things, AsyncIterator):
        return _each_passing_async(things, meet)
    return _each_passing(things, meet)


def _each_passing(things: Any, meet: Callable[[Any], object]) -> Iterator[Any]:
    for thing in things:
        meet(thing)
        yield thing


async def _each_passing_async(
    things: AsyncIterator[Any], meet: Callable[[Any], object]
) -> AsyncIterator[Any]:
    async for thing in things:
        meet(thing)
        yield thing
