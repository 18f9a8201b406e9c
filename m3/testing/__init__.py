"""
What users of m3 need to test their stages, and to prove their connectors right.

``memory`` has a source and a sink for tests of pipelines, ``faults`` has what goes
wrong at chosen items.  ``frontends`` and ``backends`` have the batteries: classes
of tests to derive from, for pytest, which is not imported here.  What these share
is in the modules whose names begin with an underscore: ``_battery`` (folders,
leaks, messages), ``_driving`` (calls of a stage without an engine), ``_pacing``
(a source that waits for its checkpoints), ``_killing`` (runs that are killed),
``_around`` (code put around a stage's own).
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
