"""
The engine: from a plan to running threads, and from those to a report.

``plan`` describes, ``validation``, ``chains`` and ``shape`` check, ``pools`` lays out
queues and threads, ``workers`` and ``async_worker`` work, ``failures`` judges
what goes wrong, ``engine`` holds it together, ``summary`` and ``report`` tell.
"""

from m3.engine.engine import Engine
from m3.engine.plan import Plan, StageSpec
from m3.engine.report import Report, StageReport
from m3.engine.results import Results
from m3.engine.runtime import Runtime

__all__ = ("Engine", "Plan", "Report", "Results", "Runtime", "StageReport", "StageSpec")
