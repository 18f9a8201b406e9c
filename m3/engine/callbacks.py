"""Functions that are called when the run is over."""

from collections.abc import Callable

from m3._parking import Switch

__all__ = ("Callbacks",)


class Callbacks:
    """
    Functions to be called when *switch* is on; more than once does them no harm.

    No lock is taken, for a signal handler may be the one who calls them.
    """

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._functions: list[Callable[[], object]] = []

    def add(self, function: Callable[[], object]) -> None:
        """Have *function* called when the switch is on; at once if it is."""
        self._functions.append(function)
        if self._switch.is_on():
            function()

    def call(self) -> None:
        """Call all that were added."""
        for function in self._functions:
            function()
