import threading
from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from m3._parking import Switch
from m3._queue import BoundedQueue

def carry_out(
    body: Callable[[], object], last: Callable[[BaseException | None], object]
) -> None: ...
def make_calls(
    calls: BoundedQueue[tuple[Callable[..., object], tuple[Any, ...], Any]],
    done: Callable[[Any, BaseException | None], object],
) -> None: ...

@disjoint_base
class Among:
    def __init__(self, those: list[Any], who: object) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...

@disjoint_base
class Held:
    def __init__(self, lock: threading.Lock | threading.RLock, seconds: float) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(self, *_: object) -> None: ...

class Started(Switch):
    def set(self) -> None: ...
    def is_set(self) -> bool: ...

class Thread(threading.Thread):
    def __init__(
        self,
        name: str,
        body: Callable[[], object],
        last: Callable[[BaseException | None], object],
    ) -> None: ...
