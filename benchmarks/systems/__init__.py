"""
The systems under comparison, one module each.

A module has ``DISTRIBUTION``, the name under which the package index knows the
system, or :data:`None` for what comes with Python; ``ORDERED``, whether it can
keep the order of the items; ``CHUNK``, if a worker gets that many at once; and
``run(job)``, which does a :class:`~benchmarks.workloads.Job` to its end.
"""

import importlib
import importlib.metadata
import platform
from typing import Protocol, cast

from benchmarks.workloads import Job

__all__ = ("NOT_INSTALLABLE", "SYSTEMS", "System", "load", "version")

SYSTEMS = {
    "bare": "the bare loop",
    "limit": "processes sharing nothing",
    "m3_pipeline": "m3",
    "m3_chained": "m3, workers=0",
    "thread_pool": "ThreadPool.imap",
    "thread_pool_chunks": "ThreadPool.imap in chunks",
    "executor": "ThreadPoolExecutor.map",
    "by_hand": "queue.Queue by hand",
    "culsans_by_hand": "culsans by hand",
    "pypeln_threads": "pypeln",
    "bytewax_flow": "bytewax",
    "spdl_pipeline": "spdl",
}
"""Every system: the name of its module here, and what to call it in a table."""

NOT_INSTALLABLE = {
    "bytewax_flow": "its wheels end at CPython 3.12, and its source needs a Rust toolchain",
    "nameko_service": "it has a Python of its own, see benchmarks/README.md",
}
"""Why a system is not in ``requirements.txt`` for every interpreter."""


class System(Protocol):
    """What a module of this package has."""

    __name__: str
    DISTRIBUTION: str | None
    ORDERED: bool

    def run(self, job: Job) -> None:
        """Do *job* to its end."""


def load(name: str) -> System:
    """Return the module of the system called *name*, which imports the system."""
    return cast(System, importlib.import_module(f"benchmarks.systems.{name}"))


def version(system: System) -> str:
    """Return which version of *system* would run here."""
    if system.DISTRIBUTION is None:
        return platform.python_version()
    try:
        return importlib.metadata.version(system.DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "from the source tree"
