"""Calls of a stage without an engine, in the order in which an engine makes them."""

import inspect
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from m3._plain import dumps, loads
from m3.engine.delivery import can_go_back, is_transactional, resumes
from m3.engine.shape import entry_point, iterate
from m3.errors import abridged
from m3.stages import Backend, Failure, Frontend, Item

__all__ = ("commit", "each_of", "give", "produced", "reading", "round_trip", "writing")

KEY = "battery"
"""Under which a transactional backend keeps its checkpoint."""


def round_trip(value: Any) -> Any:
    """Return *value* as it comes back from a checkpoint; raises if it is not plain."""
    return loads(dumps(value))


@contextmanager
def reading(frontend: Frontend[Any], checkpoint: Any = None) -> Iterator[Iterator[Any]]:
    """Set *frontend* up, have it go on behind *checkpoint*, and yield what it produces."""
    frontend.wants_positions = True
    frontend.setup()
    try:
        if resumes(frontend):
            frontend.resume(checkpoint)
        with closing(produced(frontend)) as things:
            yield things
    finally:
        frontend.cleanup()


def produced(frontend: Frontend[Any]) -> Generator[Any]:
    """Yield what *frontend* produces; it must have positions."""
    for thing in each_of(frontend):
        if not isinstance(thing, Item | Failure) or thing.position is None:
            raise AssertionError(
                f"wants_positions is set, and {abridged(thing)} was yielded without a position: "
                "it must be an Item(value, position)"
            )
        yield thing


def each_of(frontend: Frontend[Any]) -> Iterator[Any]:
    """Return an iterator over what *frontend* produces, also with an ``async`` one."""
    things = iterate(frontend)
    return _driven(things) if isinstance(things, AsyncIterator) else things


def _driven(things: AsyncIterator[Any]) -> Iterator[Any]:
    import asyncio

    async def following() -> Any:
        return await anext(things)

    with asyncio.Runner() as runner:
        while True:
            try:
                yield runner.run(following())
            except StopAsyncIteration:
                return


@contextmanager
def writing(backend: Backend[Any], mark: Any = None, *, failed: bool = False) -> Iterator[None]:
    """Set *backend* up, have it go back to *mark*, and clean up as a run that *failed* does."""
    backend.setup()
    backend.failed = True
    try:
        if is_transactional(backend):
            kept = backend.committed(KEY)  # type: ignore[attr-defined]
            if kept != mark:
                raise AssertionError(f"committed() must return {mark!r}, and returned {kept!r}")
        elif can_go_back(backend):
            backend.resume(mark)
        yield
        backend.failed = failed
    finally:
        backend.cleanup()


def give(backend: Backend[Any], items: Iterable[Any]) -> None:
    """Have *backend* process *items*: as one batch, if it takes batches."""
    batch = list(items)
    process = entry_point(backend, "backend")
    if process.__name__ == "process_batch":
        if batch:
            process(batch)
        return
    for item in batch:
        result = process(item)
        if inspect.iscoroutine(result):
            import asyncio

            asyncio.run(result)


def commit(backend: Backend[Any], number: int) -> Any:
    """Have *backend* commit its checkpoint *number*; return the mark to go back to."""
    if is_transactional(backend):
        backend.commit_with(KEY, f"checkpoint {number}")  # type: ignore[attr-defined]
        return f"checkpoint {number}"
    return round_trip(backend.commit())
