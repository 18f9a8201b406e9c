"""Methods that are called once, when the service starts."""

from collections.abc import Iterator
from typing import Any

from m3._parking import Switch
from m3.services.context import WorkerContext
from m3.services.entrypoints import DecoratorDependency

__all__ = ("Once", "once")


class Once(DecoratorDependency):
    """
    A method that is called once, when the service has started; use it as ``@once``.

    Args:
        args: what it is called with.
        options: as of :class:`DecoratorDependency`; further ones are keyword arguments
            of the call.
    """

    def __init__(
        self,
        *args: Any,
        expected_exceptions: Any = (),
        sensitive_arguments: Any = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            expected_exceptions=expected_exceptions, sensitive_arguments=sensitive_arguments
        )
        self._args = args
        self._kwargs = kwargs

    def setup(self) -> None:
        """Be ready to be stopped."""
        self._stopped = Switch()

    def produce(self) -> Iterator[WorkerContext]:
        """Yield the call; the service goes on after it."""
        yield self.call(*self._args, **self._kwargs)
        self._stopped.wait()

    def stop(self) -> None:
        """Let the service end."""
        self._stopped.turn_on()


once = Once.decorator
