from collections.abc import Callable
from typing import Any, Self, final

from typing_extensions import disjoint_base

__pyx_capi__: dict[str, object]

@final
@disjoint_base
class Sized: ...

@disjoint_base
class Budget:
    limit: int
    def __new__(cls, limit: int, measure: Callable[[Any], int] | None = None) -> Self: ...
    @property
    def bytes(self) -> int: ...
    def wake(self) -> None: ...
