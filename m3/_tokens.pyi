from collections.abc import Callable
from typing import Any, Final, Self

from typing_extensions import disjoint_base

from m3._parking import Gate, Switch
from m3._queue import BoundedQueue

__pyx_capi__: dict[str, object]

DROPPED: Final[int]
DELIVERED: Final[int]
DEAD_LETTERED: Final[int]
ABANDONED: Final[int]
FAILED: Final[int]

@disjoint_base
class Tally:
    produced: int
    refused: int
    delivered: int
    dropped: int
    dead_lettered: int
    failed: int
    abandoned: int
    wait_in: float
    wait_out: float
    errand: Callable[[], object] | None
    @property
    def in_flight(self) -> int: ...
    def ask(self) -> None: ...

@disjoint_base
class SharedTally(Tally): ...

@disjoint_base
class Token:
    position: Any
    def __new__(cls, position: Any = None) -> Self: ...
    @property
    def answer(self) -> tuple[Any, int, BaseException | None]: ...

@disjoint_base
class Ledger:
    answers: BoundedQueue[Token]
    last: Any
    has_begun: bool
    low_mark: Any
    below: Tally | None
    hurry: Callable[[], object] | None
    needs_positions: bool
    def __init__(
        self,
        most: int,
        *,
        answering: bool = True,
        marking: bool = False,
        needs_positions: bool = False,
        gate: Gate | None = None,
        aborting: Switch | None = None,
    ) -> None: ...
    @property
    def is_open(self) -> bool: ...
    @property
    def is_crowded(self) -> bool: ...
    def advance(self) -> int: ...
    def wake(self) -> None: ...
    def take_answers(self, most: int) -> bool: ...
    def give_answers(
        self,
        ack: Callable[[Any], object],
        nack: Callable[[Any, BaseException], object],
        fail: Callable[[BaseException], object],
        problem: Exception | None = None,
        *,
        ack_batch: Callable[[list[Any]], object] | None = None,
        keep: Callable[[Any, BaseException], object] | None = None,
    ) -> None: ...
    def answered(self) -> None: ...
    def acknowledge_at_once(
        self, ack: Callable[[Any], object], fail: Callable[[BaseException], object]
    ) -> None: ...
    def release(self) -> None: ...
    def answer_rest(self) -> None: ...
    def give_up(self) -> None: ...
    def await_answers(self) -> None: ...
