"""
Everything that m3 raises, in one tree; the leaves of two branches have modules of their own.

.. code-block:: text

    M3Error
    ├── ConfigError (ValueError)        a description that cannot work
    │   ├── PlanError                   ... of a pipeline, written in Python
    │   ├── ImproperlyConfigured        ... of the backends of a pool
    │   │   └── MissingSettingError (AttributeError)
    │   ├── ResourceError               an annotation that no resource fits
    │   └── UnknownNameError (LookupError)
    │       └── InvalidBackendError     a pool has no such backend
    ├── EngineStateError (RuntimeError) a call at the wrong time
    ├── StageError                      user code raised: which stage, worker, item
    │   ├── SetupError
    │   ├── CleanupError
    │   └── TooManyFailuresError        more items failed than max_failures allows
    ├── AbandonedError                  the run ended before the item was delivered
    ├── StopPipeline                    raised by a stage's code to end the run well
    ├── Reject                          ... to say that an item is bad for good
    ├── RetryLater                      ... to be called with the item again later
    ├── CrashError (RuntimeError)       the process has died over an item
    ├── ItemTimeoutError (TimeoutError) a stage took too long over an item
    ├── StateError (RuntimeError)       kept state that cannot be gone on from
    ├── DeadLetterError                 an item could not be kept as a dead letter
    ├── NotPlainError (TypeError)       a value that cannot be written down and read back
    ├── HungWorkerError (TimeoutError)  a worker did not end by the deadline
    ├── BatchError                      some items of a batch failed, the others did not
    ├── RefusedError                    a service did not take an item, or do what was asked
    ├── InputChangedError (RuntimeError) input was replaced while it was read
    ├── RecordTooLongError (ValueError) an input record over its limit
    ├── CompressedInputError (ValueError) input that cannot be decompressed, or not safely
    ├── MalformedRecordError (ValueError) an input record that is not what its format says
    ├── MissingExtraError (ImportError) an optional dependency is not installed
    ├── ComponentError                  a component's own code raised: which one, in which phase
    │   ├── CircularDependencyError (ConfigError)
    │   └── ComponentTimeoutError (TimeoutError)
    ├── ComponentStateError (RuntimeError) a conductor was asked at the wrong time
    ├── ConductorError (ExceptionGroup) several components failed
    ├── NotConnectedError (LookupError) a pool that has no connection to a region
    ├── BusError (ConnectionError)      a bus does not do what it was asked for
    │   ├── BusTimeoutError (TimeoutError) ... in time
    │   └── UndeliverableError          no queue gets a mandatory message
    ├── BodyError (ValueError)          a value that no message can have, or a body without one
    └── PipelineError (ExceptionGroup)  several of the above at once

``Full``, ``Empty`` and ``ShutDown`` are those of :mod:`queue`, so that code
written for :class:`queue.Queue` keeps working; ``ShutDown`` came with
CPython 3.13 and is defined here for older ones.
"""

import sys
from collections.abc import Mapping, Sequence
from queue import Empty, Full
from typing import Any

from m3._messages import abridged as abridged  # noqa: PLC0414 - a door for all who write errors
from m3._messages import describe as describe  # noqa: PLC0414 - the same
from m3._resource_errors import (
    CircularDependencyError,
    ComponentError,
    ComponentStateError,
    ComponentTimeoutError,
    ConductorError,
    ImproperlyConfigured,
    InvalidBackendError,
    MissingSettingError,
    NotConnectedError,
    ResourceError,
)
from m3._root_errors import ConfigError, M3Error, PlanError, UnknownNameError

if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """Raised by put and get of a queue that was shut down."""


__all__ = (
    "AbandonedError",
    "BatchError",
    "BodyError",
    "BusError",
    "BusTimeoutError",
    "CircularDependencyError",
    "CleanupError",
    "ComponentError",
    "ComponentStateError",
    "ComponentTimeoutError",
    "CompressedInputError",
    "ConductorError",
    "ConfigError",
    "CrashError",
    "DeadLetterError",
    "Empty",
    "EngineStateError",
    "Full",
    "HungWorkerError",
    "ImproperlyConfigured",
    "InputChangedError",
    "InvalidBackendError",
    "ItemTimeoutError",
    "M3Error",
    "MalformedRecordError",
    "MissingExtraError",
    "MissingSettingError",
    "NotConnectedError",
    "NotPlainError",
    "PipelineError",
    "PlanError",
    "RecordTooLongError",
    "RefusedError",
    "Reject",
    "ResourceError",
    "RetryLater",
    "SetupError",
    "ShutDown",
    "StageError",
    "StateError",
    "StopPipeline",
    "TooManyFailuresError",
    "UndeliverableError",
    "UnknownNameError",
)


class EngineStateError(M3Error, RuntimeError):
    """An engine was asked for something that its state does not allow."""


class StageError(M3Error):
    """
    A stage's own code raised; the original exception is ``__cause__``.

    Attributes:
        stage: the name of the stage.
        worker: the number of the worker in its stage, from 0.
        phase: ``"setup"``, ``"work"`` or ``"cleanup"``.
        item: the item in hand, or :data:`None` outside of work.
        position: where the item came from, if its frontend said so.
        attempts: how often the stage's code was called with the item.
        is_kept: whether the item was kept as a dead letter.
    """

    phase = "work"
    is_kept = False

    def __init__(
        self,
        error: BaseException,
        *,
        stage: str,
        worker: int,
        item: Any = None,
        position: Any = None,
        attempts: int = 1,
    ) -> None:
        self.attempts = attempts
        self.stage = stage
        self.worker = worker
        self.item = item
        self.position = position
        self.error = error
        super().__init__(self._message())
        self.__cause__ = error

    def _message(self) -> str:
        where = f"stage {self.stage!r}, worker {self.worker}"
        if self.phase != "work":
            where += f", in {self.phase}()"
        elif self.position is not None:
            where += f", position {abridged(self.position)}"
        if self.attempts > 1:
            where += f", attempt {self.attempts}"
        message = f"{where}: {describe(self.error)}"
        if self.phase == "work" and self.item is not None:
            message += f" (item: {abridged(self.item)})"
        return message


class SetupError(StageError):
    """A stage's constructor or ``setup`` raised; no item was touched."""

    phase = "setup"


class CleanupError(StageError):
    """A stage's ``cleanup`` raised; the other stages were cleaned up all the same."""

    phase = "cleanup"


class TooManyFailuresError(StageError):
    """
    More items failed than the ``max_failures`` of a stage, or of the run, allows.

    The stage, the worker, the item and the ``__cause__`` are those of the last failure.

    Attributes:
        failed: how many items failed.
        seen: of how many.
        most: the limit.
    """

    def __init__(self, last: StageError, *, failed: int, seen: int, most: float) -> None:
        self.failed = failed
        self.seen = seen
        self.most = most
        super().__init__(
            last.error,
            stage=last.stage,
            worker=last.worker,
            item=last.item,
            position=last.position,
            attempts=last.attempts,
        )

    def _message(self) -> str:
        counts = f"{self.failed:,} of {self.seen:,} items failed"
        return f"{counts}, more than max_failures={self.most}; the last: {super()._message()}"


class AbandonedError(M3Error):
    """The run ended before an item was delivered; told to its frontend by ``nack``."""


class StopPipeline(M3Error):
    """
    Raised by a stage's own code to end the run in good order, as ``stop()`` does.

    The frontends end, what is queued is delivered, and the run has not failed.
    The item in hand counts as dropped.
    """


class Reject(M3Error):
    """
    Raised by a stage's own code on an item that is bad and will stay bad.

    It is not tried again, and does not end the run: it becomes a dead letter
    where the run keeps those, and is skipped elsewhere.
    """


class RetryLater(M3Error):
    """
    Raised by a stage's own code to be called with the same item again later.

    Where the stage has a :class:`~m3.policies.Retry`, it counts as one of its attempts.

    Attributes:
        seconds: not before so many seconds from now.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        if not seconds >= 0:
            raise ValueError(f"RetryLater({seconds}): a time cannot be negative")
        self.seconds = seconds
        super().__init__(reason or f"to be tried again in {seconds:g} s")


class CrashError(M3Error, RuntimeError):
    """
    The process has died while an item alone was under way, and is not going to try it again.

    It is what the dead letter of the item has as its error; see ``crash_guard``.

    Attributes:
        deaths: how often the process has died over it.
    """

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths
        super().__init__(
            f"the process has died {deaths} times while this item, and no other, was worked on"
        )


class ItemTimeoutError(M3Error, TimeoutError):
    """
    A stage took longer over an item than its ``timeout``; the call was given up.

    Its thread cannot be stopped: it is left to itself, another one has taken
    its place, and what the call may still return is discarded.

    Attributes:
        seconds: the timeout.
        stack: where the call was, as lines of a traceback.
    """

    def __init__(self, *, seconds: float, stack: str) -> None:
        self.seconds = seconds
        self.stack = stack
        super().__init__(
            f"took longer than timeout={seconds:g} s and was given up; it is in\n{stack}"
        )


class StateError(M3Error, RuntimeError):
    """
    What an earlier run has kept cannot be gone on from; nothing was started.

    It is damaged, of another pipeline, in use by another run, or its input has
    changed.  The message says which, and what to do.
    """


class DeadLetterError(M3Error):
    """An item could not be kept as a dead letter; the original error is ``__cause__``."""


class NotPlainError(M3Error, TypeError):
    """A value cannot be written down so that the same value is read back."""


class HungWorkerError(M3Error, TimeoutError):
    """
    A worker did not end by the deadline of a stop.

    Attributes:
        stage: the name of the stage.
        worker: the number of the worker in its stage.
        stack: where its thread was, as lines of a traceback.
    """

    def __init__(self, *, stage: str, worker: int, stack: str) -> None:
        self.stage = stage
        self.worker = worker
        self.stack = stack
        super().__init__(
            f"stage {stage!r}, worker {worker} did not end by the deadline; it is in\n{stack}"
        )


class BatchError(M3Error):
    """
    Raised by the ``process_batch`` of a backend when only some items failed.

    All others count as delivered; the stage's policy decides about each of these.

    Attributes:
        errors: what is wrong with an item, by its index in the batch.
    """

    def __init__(self, errors: Mapping[int, Exception]) -> None:
        self.errors = errors
        first = next(iter(errors.items()), None)
        example = f"; the first, at {first[0]}: {describe(first[1])}" if first else ""
        super().__init__(f"{len(errors)} items of a batch failed{example}")


class RefusedError(M3Error):
    """
    A service did not take an item, however often it was sent.

    Attributes:
        code: what the service calls the reason.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(f"{code}: {message}" if message else code)


class InputChangedError(M3Error, RuntimeError):
    """Input was replaced while it was read; nothing was read of the other version."""


class RecordTooLongError(M3Error, ValueError):
    """An input record is longer than the limit; the rest of it was skipped."""


class CompressedInputError(M3Error, ValueError):
    """Compressed input is damaged, ends too early, or would become suspiciously long."""


class MalformedRecordError(M3Error, ValueError):
    """An input record is not what its format says; reading goes on behind it."""


class MissingExtraError(M3Error, ImportError):
    """
    An optional dependency is needed and not installed.

    Attributes:
        extra: the extra of the distribution that brings it.
    """

    def __init__(self, what: str, *, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what}: pip install 'm3-pipeline[{extra}]'")


class BusError(M3Error, ConnectionError):
    """A bus does not work, or refuses what it was asked for; the message says which, and why."""


class BusTimeoutError(BusError, TimeoutError):
    """A bus did not do in time what it was asked for; it may still have been done."""


class UndeliverableError(BusError):
    """A mandatory message was published, and there is no queue that gets it."""


class BodyError(M3Error, ValueError):
    """A value cannot be the body of a message, or a body cannot be read, or must not be."""


class PipelineError(M3Error, ExceptionGroup[Exception]):
    """A run failed in several ways at once; each is one of ``exceptions``."""

    def derive(self, excs: Sequence[Exception], /) -> "PipelineError":  # type: ignore[override]
        """Return a group of some of them, as ``except*`` and ``split`` make it."""
        return PipelineError(self.message, excs)


def _name_them_as_imported() -> None:
    """Have tracebacks name the exceptions of all modules by this one."""
    for name in __all__:
        error = globals()[name]
        if error.__module__.startswith("m3."):
            error.__module__ = __name__


_name_them_as_imported()
