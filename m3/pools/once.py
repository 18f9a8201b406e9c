"""Things that are made once each, however many threads ask for them."""

import threading
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ("Once",)

NOT_MADE = object()


class Slot:
    """Where one thing is, or will be."""

    __slots__ = ("lock", "thing")

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a maker that asks for its own thing recurses, and says so
        self.thing: Any = NOT_MADE


class Once:
    """Things by key.  Who asks for one that is being made waits for that one only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[Hashable, Slot] = {}

    def get(self, key: Hashable, make: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """
        Return the thing of that *key*; if there is none, ``make(*args, **kwargs)`` makes it.

        What *make* raises is raised, and the next who asks makes it.
        """
        slot = self._slots.get(key) or self._slot(key)
        if slot.thing is NOT_MADE:
            with slot.lock:
                if slot.thing is NOT_MADE:
                    slot.thing = make(*args, **kwargs)
        return slot.thing

    def made(self) -> dict[Any, Any]:
        """Return the things that there are, in the order in which they were asked for."""
        slots = self._slots.copy()
        return {key: slot.thing for key, slot in slots.items() if slot.thing is not NOT_MADE}

    def forget(self, is_meant: Callable[[Any, Any], bool]) -> None:
        """Forget each thing of which *is_meant*, told its key and it, says so."""
        for key, thing in self.made().items():
            if is_meant(key, thing):
                self._drop(key, thing)

    def _drop(self, key: Hashable, thing: Any) -> None:
        """Forget *thing*, and not what another thread has made in its place since."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is not None and slot.thing is thing:
                del self._slots[key]

    def _slot(self, key: Hashable) -> Slot:
        with self._lock:
            return self._slots.setdefault(key, Slot())
