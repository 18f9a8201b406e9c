from typing import Any

from typing_extensions import disjoint_base

from m3._parking import Switch

@disjoint_base
class Attempt:
    item: Any
    token: Any
    failures: int
    since: float
    place: int
    def __init__(
        self, item: Any, token: Any, failures: int, since: float, place: int = 0
    ) -> None: ...

@disjoint_base
class Waiting:
    aborting: Switch
    most: int
    def __init__(self, aborting: Switch, most: int) -> None: ...
    def __len__(self) -> int: ...
    def take_all(self) -> list[Attempt]: ...
    def add(self, attempt: Attempt, due: float) -> int: ...
    def due(self) -> float: ...
    def take_due(self) -> Attempt | None: ...

@disjoint_base
class Watch:
    taken: Attempt | None
    def since(self) -> float | None: ...
    def take(self, began: float) -> Attempt | None: ...
