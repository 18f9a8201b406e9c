"""A call that one of several regions answers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from m3.aws.region import Region, is_regional
from m3.errors import NotConnectedError, describe

__all__ = ("first_answer",)


def first_answer(regions: Sequence[Region], operation: str, arguments: Mapping[str, Any]) -> Any:
    """
    Call *operation* in the first of *regions* that works, and return its answer.

    Regions whose circuit is open are left out, unless all are.

    Raises:
        NotConnectedError: there are no regions.
        Exception: what the last region raised, with a note for each that failed
            before; or what one raised that is not the fault of its region.
    """
    if not regions:
        raise NotConnectedError(f"{operation} cannot be called: the pool has no regions")
    notes: list[str] = []
    for region in _worth_a_call(regions):
        try:
            return getattr(region.client(), operation)(**arguments)
        except Exception as error:
            failure = error
        for note in notes:
            failure.add_note(note)
        if not is_regional(failure):
            raise failure
        notes.append(f"{region.name}: {describe(failure)}")
    raise failure


def _worth_a_call(regions: Sequence[Region]) -> Iterator[Region]:
    """Yield the regions whose circuit allows a call, asked when it is their turn; or all."""
    none = True
    for region in regions:
        if region.circuit.allows():
            none = False
            yield region
    if none:
        yield from regions
