"""Measure calls of services over the bus in memory."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from time import perf_counter, process_time
from typing import Any

from benchmarks.figures import Figures, fitting_count, together
from m3.services import ClusterRpcProxy, rpc, run_services

__all__ = ("CASES", "measure")

AHEAD = 200
"""So many calls are under way when results are fetched later."""

CASES = {
    "submit": "ThreadPoolExecutor, 1 caller waits for each",
    "one": "m3, 1 caller waits for each",
    "ten": "m3, 10 callers wait for each",
    "ahead": f"m3, 1 caller, {AHEAD} calls ahead",
}
"""Who calls, and how."""

CONFIG = {"AMQP_URI": "memory://benchmark", "max_workers": 10}


class Echo:
    """A service that does nothing but answer."""

    name = "echo"

    @rpc
    def echo(self, value):
        return value


def measure(*, case: str, count: int | None = None, seconds: float = 0.5) -> Figures:
    """Call a method again and again, as *case* says."""
    with ExitStack() as stack:
        calls = caller(case, stack)

        def seconds_for(times: int) -> float:
            began = perf_counter()
            calls(times)
            return perf_counter() - began

        count = count or fitting_count(seconds_for, seconds)
        cpu_before = process_time()
        wall = seconds_for(count)
        cpu = process_time() - cpu_before
    return {
        "count": count,
        "rate": count / wall,
        "wall": wall,
        "cpu": cpu / count,
        "each": wall / count,
    }


def caller(case: str, stack: ExitStack) -> Callable[[int], Any]:
    """Return what makes so many calls."""
    if case == "submit":
        executor = stack.enter_context(ThreadPoolExecutor(CONFIG["max_workers"]))
        return lambda times: one_by_one(lambda value: executor.submit(id, value).result(), times)
    stack.enter_context(run_services(CONFIG, Echo))
    method = stack.enter_context(ClusterRpcProxy(CONFIG)).echo.echo
    if case == "one":
        return lambda times: one_by_one(method, times)
    if case == "ahead":
        return lambda times: ahead(method.call_async, times)
    return lambda times: together(*[lambda: one_by_one(method, -(-times // 10))] * 10)


def one_by_one(method: Callable[[int], Any], times: int) -> None:
    """Wait for each call before the next."""
    for number in range(times):
        method(number)


def ahead(call: Callable[[int], Any], times: int) -> None:
    """Make calls while others are under way."""
    replies: deque[Any] = deque()
    for number in range(times):
        replies.append(call(number))
        if len(replies) == AHEAD:
            replies.popleft().result()
    while replies:
        replies.popleft().result()
