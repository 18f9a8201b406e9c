"""
Run functions and classes as pipelines on thread pools joined by bounded queues.

The names below are imported when they are first used: a command line that
only prints its help, or a module that only mentions m3, does not wait for an
engine that it does not start.
"""

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from m3._queue import BoundedQueue as BoundedQueue
    from m3._queue import QueueStatistics as QueueStatistics
    from m3._records import RecordQueue as RecordQueue
    from m3._types import DROP as DROP
    from m3._types import Failure as Failure
    from m3._types import Item as Item
    from m3.components.component import Component as Component
    from m3.components.conductor import Conductor as Conductor
    from m3.engine import Engine as Engine
    from m3.engine import Report as Report
    from m3.engine import StageReport as StageReport
    from m3.errors import BatchError as BatchError
    from m3.errors import M3Error as M3Error
    from m3.errors import PipelineError as PipelineError
    from m3.errors import Reject as Reject
    from m3.errors import RetryLater as RetryLater
    from m3.errors import StageError as StageError
    from m3.errors import StateError as StateError
    from m3.errors import StopPipeline as StopPipeline
    from m3.launcher import create as create
    from m3.pipeline import Pipeline as Pipeline
    from m3.policies import Backoff as Backoff
    from m3.policies import Batch as Batch
    from m3.policies import Retry as Retry
    from m3.pools.pool import BackendPool as BackendPool
    from m3.pools.settings import configure as configure
    from m3.secret import Secret as Secret
    from m3.stages import Backend as Backend
    from m3.stages import Frontend as Frontend
    from m3.stages import TransactionalBackend as TransactionalBackend
    from m3.stages import Transport as Transport

_HOMES = {
    "DROP": "m3._types",
    "Backend": "m3.stages",
    "BackendPool": "m3.pools",
    "Backoff": "m3.policies",
    "Batch": "m3.policies",
    "BatchError": "m3.errors",
    "BoundedQueue": "m3._queue",
    "Component": "m3.components.component",
    "Conductor": "m3.components.conductor",
    "Engine": "m3.engine",
    "Failure": "m3._types",
    "Frontend": "m3.stages",
    "Item": "m3._types",
    "M3Error": "m3.errors",
    "Pipeline": "m3.pipeline",
    "PipelineError": "m3.errors",
    "QueueStatistics": "m3._queue",
    "RecordQueue": "m3._records",
    "Reject": "m3.errors",
    "Report": "m3.engine",
    "Retry": "m3.policies",
    "RetryLater": "m3.errors",
    "Secret": "m3.secret",
    "StageError": "m3.errors",
    "StageReport": "m3.engine",
    "StateError": "m3.errors",
    "StopPipeline": "m3.errors",
    "TransactionalBackend": "m3.stages",
    "Transport": "m3.stages",
    "configure": "m3.pools",
    "create": "m3.launcher",
}

__all__ = tuple(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
