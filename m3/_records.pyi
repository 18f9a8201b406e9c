from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from typing_extensions import disjoint_base

from m3._edge import Edge
from m3.errors import Empty as Empty
from m3.errors import Full as Full
from m3.errors import ShutDown as ShutDown

@disjoint_base
class RecordQueue(Edge):
    def __init__(self, dtype: DTypeLike, capacity: int) -> None: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def capacity(self) -> int: ...
    def put(self, array: ArrayLike, block: bool = True, timeout: float | None = None) -> None: ...
    def get(self, n: int, block: bool = True, timeout: float | None = None) -> NDArray[Any]: ...
    def get_available(
        self, max_records: int, block: bool = True, timeout: float | None = None
    ) -> NDArray[Any]: ...
