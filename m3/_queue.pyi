from collections.abc import Iterable
from types import GenericAlias
from typing import Any, Generic, TypeVar

from typing_extensions import disjoint_base

from m3._budget import Budget
from m3._edge import Edge
from m3._edge import Producer as Producer
from m3._edge import QueueStatistics as QueueStatistics
from m3.errors import Empty as Empty
from m3.errors import Full as Full

_T = TypeVar("_T")

@disjoint_base
class BoundedQueue(Edge, Generic[_T]):
    def __init__(
        self,
        maxsize: int = 0,
        *,
        patient: bool = False,
        stretch: int = 0,
        naps: float = 0,
    ) -> None: ...
    budget: Budget | None
    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    @property
    def maxsize(self) -> int: ...
    @maxsize.setter
    def maxsize(self, value: int) -> None: ...
    @property
    def unfinished_tasks(self) -> int: ...
    def put(self, item: _T, block: bool = True, timeout: float | None = None) -> None: ...
    def get(self, block: bool = True, timeout: float | None = None) -> _T: ...
    def put_nowait(self, item: _T) -> None: ...
    def get_nowait(self) -> _T: ...
    def put_many(
        self, items: Iterable[_T], block: bool = True, timeout: float | None = None
    ) -> None: ...
    def get_many(
        self, max_items: int, block: bool = True, timeout: float | None = None
    ) -> list[_T]: ...
    def task_done(self) -> None: ...
    def join(self) -> None: ...
