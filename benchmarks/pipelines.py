"""Measure one system at one kind of work."""

import resource
from collections.abc import Callable
from time import perf_counter

from benchmarks import systems
from benchmarks.figures import Figures, fitting_count
from benchmarks.workloads import WORKLOADS, Job, discard

__all__ = ("figures_of", "measure")

CHECKED_ITEMS = 200
WARMING_ITEMS = 64


def measure(
    *,
    system: str,
    workload: str,
    workers: int = 1,
    sinks: int = 1,
    ordered: bool = False,
    spins: int = 0,
    count: int | None = None,
    seconds: float = 0.5,
    most: int | None = None,
) -> Figures:
    """
    Run *system* once and return its rate, CPU time and memory.

    Args:
        system: the name of a module in :mod:`benchmarks.systems`.
        workload: a key of :data:`~benchmarks.workloads.WORKLOADS`.
        workers: threads that do the work.
        sinks: threads that call the sink.
        ordered: whether results must keep the order of the items.
        spins: turns of the spinning workload's loop.
        count: how many items; by default as many as take about *seconds*, and
            then the results are checked first.
        seconds: how long the run should be.
        most: the most items to choose.

    Raises:
        RuntimeError: the system lost items or cannot keep their order.
    """
    chosen = systems.load(system)
    kind = WORKLOADS[workload]

    def job(items: int) -> Job:
        return Job(items, kind.items, kind.work(spins), discard, workers, sinks, ordered)

    def seconds_for(items: int) -> float:
        began = perf_counter()
        chosen.run(job(items))
        return perf_counter() - began

    if count is None:
        check(chosen, job(CHECKED_ITEMS))
        wave = workers * getattr(chosen, "CHUNK", 1)
        count = fitting_count(seconds_for, seconds, first=max(2 * workers, wave), most=most)
        count = -(-count // wave) * wave
    seconds_for(WARMING_ITEMS)
    return {**figures_of(seconds_for, count), "version": systems.version(chosen)}


def check(system: systems.System, job: Job) -> None:
    """Raise if *system* does not deliver every result of *job*, in order where it must."""
    if job.ordered and not system.ORDERED:
        raise RuntimeError("it cannot keep the order of the items")
    if system.__name__.endswith(".limit"):
        return  # its sinks are in other processes
    results: list[object] = []
    system.run(Job(job.count, job.items, job.work, results.append, job.workers, 1, job.ordered))
    if len(results) != job.count:
        raise RuntimeError(f"{job.count} items went in, {len(results)} came out")
    if job.ordered and results != [job.work(item) for item in job.source()]:
        raise RuntimeError("the results came out of order")


def figures_of(seconds_for: Callable[[int], float], count: int) -> Figures:
    """Run *count* items, which *seconds_for* does, and return what that gave."""
    cpu_before = cpu_seconds()
    wall = seconds_for(count)
    cpu = cpu_seconds() - cpu_before
    return {
        "count": count,
        "rate": count / wall,
        "wall": wall,
        "cpu": cpu / count,
        "memory": peak_memory(),
    }


def cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
