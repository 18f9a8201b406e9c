"""
What users of m3 need to test their stages, and to prove their connectors right.

``memory`` has a source and a sink for tests of pipelines, ``faults`` what goes
wrong at chosen items, ``frontends`` and ``backends`` the batteries: classes of
tests to derive from, for pytest, which is not imported here.
"""

from m3.testing.backends import BackendBattery as BackendBattery
from m3.testing.faults import Blocks as Blocks
from m3.testing.faults import Fault as Fault
from m3.testing.faults import Lags as Lags
from m3.testing.faults import Raises as Raises
from m3.testing.faults import faulty as faulty
from m3.testing.frontends import FrontendBattery as FrontendBattery
from m3.testing.memory import MemorySink as MemorySink
from m3.testing.memory import MemorySource as MemorySource

__all__ = (
    "BackendBattery",
    "Blocks",
    "Fault",
    "FrontendBattery",
    "Lags",
    "MemorySink",
    "MemorySource",
    "Raises",
    "faulty",
)
