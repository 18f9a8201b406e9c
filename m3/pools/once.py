"""Things that are made once each, however many threads ask for them."""

import threading
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ("Closed", "Once")

NOT_MADE = object()


class Closed(Exception):
    """
    Things are made no more.

    Attributes:
        late: what was made when that was said already, by its key; nobody keeps it.
    """

    def __init__(self, late: dict[Any, Any]) -> None:
        super().__init__(late)
        self.late = late


class Slot:
    """Where one thing is, or will be."""

    __slots__ = ("lock", "thing")

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a maker that asks for its own thing recurses, and says so
        self.thing: Any = NOT_MADE


class Once:
    """
    Things by key.  Who asks for one that is being made waits for that one only.

    Attributes:
        is_closed: whether :meth:`close` was called.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[Hashable, Slot] = {}
        self.is_closed = False

    def get(self, key: Hashable, make: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """
        Return the thing of that *key*; if there is none, ``make(*args, **kwargs)`` makes it.

        What *make* raises is raised, and the next who asks makes it.

        Raises:
            Closed: it is closed, or was before *make* had returned.
        """
        slot = self._slots.get(key) or self._slot(key)
        if slot.thing is NOT_MADE:
            with slot.lock:
                if slot.thing is NOT_MADE:
                    self._keep(key, slot, make(*args, **kwargs))
        return slot.thing

    def close(self) -> dict[Any, Any]:
        """Keep nothing any more, and return the things that there were, as :meth:`made` does."""
        with self._lock:
            made, self._slots, self.is_closed = self.made(), {}, True
        return made

    def made(self) -> dict[Any, Any]:
        """Return the things that there are, in the order in which they were asked for."""
        slots = self._slots.copy()
        return {key: slot.thing for key, slot in slots.items() if slot.thing is not NOT_MADE}

    def forget(self, is_meant: Callable[[Any, Any], bool]) -> None:
        """Forget each thing of which *is_meant*, told its key and it, says so."""
        for key, thing in self.made().items():
            if is_meant(key, thing):
                self._drop(key, thing)

    def _keep(self, key: Hashable, slot: Slot, thing: Any) -> None:
        with self._lock:
            if self.is_closed:
                raise Closed({key: thing})
            slot.thing = thing

    def _drop(self, key: Hashable, thing: Any) -> None:
        """Forget *thing*, and not what another thread has made in its place since."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is not None and slot.thing is thing:
                del self._slots[key]

    def _slot(self, key: Hashable) -> Slot:
        with self._lock:
            if self.is_closed:
                raise Closed({})
            return self._slots.setdefault(key, Slot())
