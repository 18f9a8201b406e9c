"""Functions that are called once, when the run is over."""

from collections.abc import Callable

from m3._parking import Switch

__all__ = ("Callbacks",)


class Callbacks:
    """
    Functions to be called when *switch* is on; each once, by whoever comes first.

    No lock is taken, for a signal handler may be the one who calls them.
    """

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._functions: list[Callable[[], object]] = []

    def add(self, function: Callable[[], object]) -> None:
        """Have *function* called when the switch is on; at once if it is."""
        self._functions.append(function)
        if self._switch.is_on():
            self.call()

    def call(self) -> None:
        """Call what was added and not called yet."""
        while self._functions:
            try:
                function = self._functions.pop()
            except IndexError:  # another thread has taken the last one
                return
            function()
