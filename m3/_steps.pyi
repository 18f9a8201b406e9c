from collections.abc import Callable
from typing import Any, Final, Self, TypeAlias

from typing_extensions import disjoint_base

from m3._queue import BoundedQueue
from m3._tokens import Tally, Token
from m3._waiting import Watch

_Policy: TypeAlias = Callable[[BaseException, Any, Any, list[Any] | None, int], int]

__pyx_capi__: dict[str, object]

FATAL: Final[int]

class Aborted(BaseException): ...
class GivenUp(Aborted): ...

@disjoint_base
class Step:
    items_in: int
    items_out: int
    errors: int
    dropped: int
    retries: int
    watch: Watch | None
    def __init__(
        self, tally: Tally, following: Step | None = None, policy: _Policy | None = None
    ) -> None: ...
    def adopt(self, former: Step) -> None: ...
    def accept(self, item: Any, token: Token | None = None) -> None: ...
    def has_room(self) -> bool: ...

@disjoint_base
class Function:
    def __new__(cls, target: Callable[[Any], Any]) -> Self: ...

@disjoint_base
class Call(Step):
    def __init__(
        self, tally: Tally, following: Step | None, policy: _Policy, function: Callable[[Any], Any]
    ) -> None: ...

@disjoint_base
class Consume(Step):
    def __init__(
        self, tally: Tally, policy: _Policy, function: Callable[[Any], object]
    ) -> None: ...

@disjoint_base
class Expand(Step):
    def __init__(
        self,
        tally: Tally,
        following: Step | None,
        policy: _Policy,
        function: Callable[[Any], Any],
        whole: bool = False,
    ) -> None: ...

@disjoint_base
class Gather(Step):
    def __init__(
        self,
        tally: Tally,
        following: Step | None,
        policy: _Policy,
        function: Callable[[list[Any]], Any],
        batch: Any,
    ) -> None: ...

class Deliver(Step): ...

@disjoint_base
class Send(Step):
    def __init__(
        self, tally: Tally, queue: BoundedQueue[Any], policy: _Policy | None = None
    ) -> None: ...

@disjoint_base
class Broadcast(Step):
    def __init__(self, tally: Tally, branches: list[Step]) -> None: ...
