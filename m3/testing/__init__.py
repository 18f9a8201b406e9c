"""
What users of m3 need to test their stages, and to prove their connectors right.

``memory`` has a source and a sink for tests of pipelines, ``faults`` what goes
wrong at chosen items, ``frontends``, ``backends`` and ``buses`` the batteries:
classes of tests to derive from, for pytest, which is not imported here.
``services`` is for tests of services, and ``clock`` for that of their timers.
"""

from m3.testing.backends import BackendBattery as BackendBattery
from m3.testing.buses import BusBattery as BusBattery
from m3.testing.clock import FakeClock as FakeClock
from m3.testing.faults import Blocks as Blocks
from m3.testing.faults import Fault as Fault
from m3.testing.faults import Lags as Lags
from m3.testing.faults import Raises as Raises
from m3.testing.faults import faulty as faulty
from m3.testing.frontends import FrontendBattery as FrontendBattery
from m3.testing.memory import MemorySink as MemorySink
from m3.testing.memory import MemorySource as MemorySource
from m3.testing.services import dummy as dummy
from m3.testing.services import entrypoint_hook as entrypoint_hook
from m3.testing.services import entrypoint_waiter as entrypoint_waiter
from m3.testing.services import get_container as get_container
from m3.testing.services import get_extension as get_extension
from m3.testing.services import replace_dependencies as replace_dependencies
from m3.testing.services import restrict_entrypoints as restrict_entrypoints
from m3.testing.services import worker_factory as worker_factory

__all__ = (
    "BackendBattery",
    "Blocks",
    "BusBattery",
    "FakeClock",
    "Fault",
    "FrontendBattery",
    "Lags",
    "MemorySink",
    "MemorySource",
    "Raises",
    "dummy",
    "entrypoint_hook",
    "entrypoint_waiter",
    "faulty",
    "get_container",
    "get_extension",
    "replace_dependencies",
    "restrict_entrypoints",
    "worker_factory",
)
