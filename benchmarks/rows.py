"""The table: which systems do which work, and what m3 must reach."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.aws import CALLING, CONNECTING, FAILING
from benchmarks.buses import CASES as BUSES
from benchmarks.calls import CASES as CALLS
from benchmarks.delivery import LEVELS
from benchmarks.injecting import STAGES as STAGES_GIVEN
from benchmarks.peers import PEERS
from benchmarks.queues import QUEUES
from benchmarks.resolving import WAYS
from benchmarks.results import Target, at_most, of_ideal, over, per_hop, rate_of, times
from benchmarks.systems import SYSTEMS
from benchmarks.timeouts import CASES, NAP, TIMEOUT, WORKERS
from benchmarks.workloads import WORKLOADS

__all__ = ("ROWS", "Contender", "Row")

M3 = "m3_pipeline"
STAGES = ("m3_pipeline", "thread_pool", "executor", "by_hand", "culsans_by_hand")
LIBRARIES = ("pypeln_threads", "bytewax_flow", "spdl_pipeline")
EVERYBODY = ("bare", *STAGES, "thread_pool_chunks", *LIBRARIES)


@dataclass(frozen=True, slots=True)
class Contender:
    """
    One system in one row.

    Attributes:
        name: what targets call it.
        label: what the table calls it.
        keywords: the arguments of the measuring module.
    """

    name: str
    label: str
    keywords: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """
    One kind of work and all who do it.

    Attributes:
        name: for ``--only``.
        title: for people.
        module: the module of this package that measures it.
        contenders: in the order in which they are measured.
        targets: what m3 must reach.
        baseline: whom the others are shown as multiples of, if anybody.
        kind: which figures the table shows.
        effort: how many times as long as usual a run should be.
        freethreaded: whether it needs the interpreter without the GIL.
        ideal: items per second if nothing but the work took time.
        note: what a reader must know.
    """

    name: str
    title: str
    module: str
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...] = ()
    baseline: str | None = None
    kind: Literal["rate", "wait", "latency", "start", "memory"] = "rate"
    effort: float = 1.0
    freethreaded: bool = False
    ideal: float | None = None
    note: str = ""


def pipelines(systems: Iterable[str], **keywords: Any) -> tuple[Contender, ...]:
    """Return the contenders that do one kind of work with *systems*."""
    return tuple(
        Contender(system, SYSTEMS[system], {"system": system, **keywords}) for system in systems
    )


def queues(names: Iterable[str], pairs: int) -> tuple[Contender, ...]:
    """Return the contenders that move items through the queues called *names*."""
    return tuple(Contender(name, QUEUES[name], {"queue": name, "pairs": pairs}) for name in names)


def aws(kind: str, labels: Mapping[str, str]) -> tuple[Contender, ...]:
    """Return the contenders that do one kind of thing with AWS."""
    return tuple(Contender(who, label, {"case": f"{kind} {who}"}) for who, label in labels.items())


def over_rabbitmq(name: str, title: str, work: str, threads: int = 1, note: str = "") -> Row:
    """Return a row in which the systems talk over RabbitMQ, between two processes."""
    return Row(
        name,
        f"{title}, over RabbitMQ",
        "messages",
        tuple(
            Contender(system, label, {"system": system, "work": work, "threads": threads})
            for system, label in PEERS.items()
        ),
        (times("m3_service", "nameko_service", 2.0, 4.0, "nameko"),) if work == "calling" else (),
        baseline="amqp_loop",
        kind="wait",
        effort=2.0,
        note=note,
    )


def commands(*names: str) -> tuple[Contender, ...]:
    """Return the contenders that are whole commands."""
    return tuple(Contender(name, name, {"command": name}) for name in names)


def noop(workers: int, targets: tuple[Target, ...]) -> Row:
    """Return the row in which the systems do nothing but hand items on."""
    return Row(
        f"noop-{workers}",
        f"no-op, {workers} worker{'s' * (workers > 1)} per stage",
        "pipelines",
        pipelines(EVERYBODY, workload="noop", workers=workers, sinks=workers),
        targets,
        baseline="bare",
        note="Nothing but the system itself costs time here.",
    )


NOOP_TARGETS = (
    times(M3, "bare", 0.5, 0.95, "the bare loop"),
    times(M3, "thread_pool_chunks", 1.1, None, "ThreadPool in chunks"),
    times(M3, "by_hand", 20, None, "queue.Queue by hand"),
)

ROWS = (
    noop(1, NOOP_TARGETS),
    noop(3, NOOP_TARGETS),
    Row(
        "noop-chained",
        "no-op, workers=0",
        "pipelines",
        pipelines(("bare", "m3_chained"), workload="noop"),
        (times("m3_chained", "bare", 0.9, 1.1, "the bare loop"),),
        baseline="bare",
    ),
    Row(
        "sleep",
        "sleep 1 ms, 64 workers",
        "pipelines",
        pipelines((*STAGES, "thread_pool_chunks", *LIBRARIES), workload="sleep", workers=64),
        (
            times(M3, "thread_pool", 1.2, None, "ThreadPool"),
            of_ideal(M3, 62 / 64),
        ),
        effort=2.0,
        ideal=64 / WORKLOADS["sleep"].seconds,
        note="ThreadPool in chunks holds each item back for a quarter of a second.",
    ),
    Row(
        "random-sleep",
        "random sleep to 2 ms, 64 workers, input order",
        "pipelines",
        pipelines(
            (*STAGES, "thread_pool_chunks", *LIBRARIES),
            workload="random-sleep",
            workers=64,
            ordered=True,
        ),
        (
            times(M3, "thread_pool", 1.2, None, "ThreadPool"),
            of_ideal(M3, 60 / 64),
        ),
        effort=2.0,
        ideal=64 / WORKLOADS["random-sleep"].seconds,
        note="ThreadPool, the executor and pypeln keep every early result in memory.",
    ),
    Row(
        "sha256",
        "sha256 of 64 KiB, 2 workers",
        "pipelines",
        pipelines(("limit", *EVERYBODY), workload="sha256", workers=2),
        (times(M3, "limit", 0.88, 0.97, "the limit"),),
        baseline="bare",
    ),
    Row(
        "spin",
        "5 µs of pure Python, 2 workers",
        "pipelines",
        pipelines(EVERYBODY, workload="spin", workers=2),
        (
            times(M3, "thread_pool_chunks", 0.95, None, "ThreadPool in chunks"),
            times(M3, "bare", None, 1.0, "the bare loop"),
        ),
        baseline="bare",
        note="Threads cannot help here; they should not harm either.",
    ),
    Row(
        "spin-freethreaded",
        "5 µs of pure Python, 2 workers, free-threaded",
        "pipelines",
        pipelines(("limit", *EVERYBODY), workload="spin", workers=2),
        (times(M3, "limit", 0.85, 0.97, "the limit"),),
        baseline="bare",
        freethreaded=True,
    ),
    Row(
        "noop-freethreaded",
        "no-op, 1 worker per stage, free-threaded",
        "pipelines",
        pipelines(EVERYBODY, workload="noop"),
        baseline="bare",
        freethreaded=True,
    ),
    Row(
        "queue-one-thread",
        "put and get in one thread",
        "queues",
        queues(("SimpleQueue", "BoundedQueue", "Queue", "culsans"), pairs=0),
        (times("BoundedQueue", "SimpleQueue", 1.0, 1.3),),
        baseline="SimpleQueue",
    ),
    *(
        Row(
            f"queue-{pairs}x{pairs}",
            f"a queue of 1,024, {pairs}x{pairs} threads",
            "queues",
            queues(("Queue", "BoundedQueue", "culsans"), pairs=pairs),
            (times("BoundedQueue", "Queue", 20, 40, "queue.Queue"),),
            baseline="Queue",
        )
        for pairs in (1, 4)
    ),
    Row(
        "records",
        "blocks of 64 KiB between two threads, in GB/s",
        "records",
        tuple(Contender(name, name, {"transfer": name}) for name in ("memcpy", "RecordQueue")),
        (times("RecordQueue", "memcpy", 0.5),),
        baseline="memcpy",
        note="memcpy copies into such a ring and out of it in one thread, and waits for nothing.",
    ),
    Row(
        "latency",
        "latency through 3 stages at 1,000 items/s",
        "latency",
        pipelines((*STAGES, *LIBRARIES[:-2], "spdl_pipeline")),
        (
            at_most(M3, "p50", 150e-6, 60e-6),
            at_most(M3, "p99", 2e-3, 500e-6),
        ),
        kind="latency",
        effort=4.0,
        note="The executor gives its first result when it has read all of its input.",
    ),
    Row(
        "delivery",
        "no-op, 1 worker per stage, the items followed",
        "delivery",
        tuple(Contender(level, label, {"level": level}) for level, label in LEVELS.items()),
        tuple(
            per_hop(level, "positions", 2, 60e-9)
            for level in ("aligned", "lowest mark", "acknowledged", "at once")
        ),
        baseline="positions",
        note="Each item passes two queues. Acknowledging calls a method of the frontend for each.",
    ),
    Row(
        "resolving",
        "a backend of ten, found by its id",
        "resolving",
        tuple(Contender(way, label, {"way": way}) for way, label in WAYS.items()),
        (
            at_most("get_class", "each", 1e-6, 0.5e-6),
            at_most("instance", "each", 1e-6, 0.5e-6),
        ),
        baseline="dict",
        note="Each is found millions of times; the first time, which imports it, is not counted.",
    ),
    Row(
        "injecting",
        "no-op, 1 worker per stage, the backend uses an object",
        "injecting",
        tuple(Contender(stage, label, {"stage": stage}) for stage, label in STAGES_GIVEN.items()),
        (times("injected", "own", 0.97, None, "an object of its own"),),
        baseline="own",
        note="What m3 gives to a stage is an attribute like any other.",
    ),
    Row(
        "timeout",
        f"sleep {NAP * 1e3:g} ms, {WORKERS} workers, with a timeout of {TIMEOUT * 1e3:g} ms",
        "timeouts",
        tuple(Contender(case, label, {"case": case}) for case, label in CASES.items()),
        (
            times("timeout", "none", 0.95, None, CASES["none"]),
            times("stuck", "timeout", 0.9, None, CASES["timeout"]),
        ),
        baseline="none",
        note="Counted are the items that come through. A worker that is stuck is replaced when the "
        "timeout is over, so what it costs the others is its share of the work until then.",
    ),
    Row(
        "buses",
        "a message published, received and acknowledged by one thread",
        "buses",
        tuple(Contender(case, label, {"case": case}) for case, label in BUSES.items()),
        (times("memory", "kombu", 2.0, 10.0, BUSES["kombu"]),),
        baseline="kombu",
        note="A persistent message is on the disk before it is received; several threads share "
        "each write to it.",
    ),
    Row(
        "calls",
        "calls of a service that only answers, over the bus in memory",
        "calls",
        tuple(Contender(case, label, {"case": case}) for case, label in CALLS.items()),
        (rate_of("ahead", 30_000),),
        baseline="submit",
        note="A call is published, routed, received, given to a worker, answered and acknowledged; "
        "both ways are JSON. The executor only has its function called.",
    ),
    over_rabbitmq(
        "rpc-1",
        "calls by 1 caller",
        "calling",
        note="m3 and nameko: the request is persistent, the bus says that nobody listens, the "
        "answer is confirmed before the request is acknowledged. The loop promises none of that.",
    ),
    over_rabbitmq("rpc-10", "calls by 10 callers", "calling", threads=10),
    over_rabbitmq(
        "events",
        "events from their dispatch until they are handled",
        "dispatching",
        note="Each event is persistent and confirmed before the next is dispatched.",
    ),
    over_rabbitmq(
        "publishing",
        "messages published by 1 thread to a durable queue",
        "publishing",
        note="Each message is persistent and confirmed before the next is published.",
    ),
    Row(
        "aws-connect",
        "connecting to S3 in all regions",
        "aws",
        aws("connect", CONNECTING),
        (times("pool", "loop", 3.0, None, "a loop of boto3.client calls"),),
        baseline="loop",
        note="A pool makes a client when it is first asked for.",
    ),
    Row(
        "aws-put",
        "put_object of 1 KiB, 16 threads",
        "aws",
        aws("put", CALLING),
        (times("pool", "own", 0.9, None, "a client for each thread"),),
        baseline="own",
        effort=4.0,
        note="A server on this machine takes the objects and does nothing with them.",
    ),
    Row(
        "aws-black-hole",
        "put_object of 1 KiB, 16 threads, beside a region that never answers",
        "aws",
        aws("hole", FAILING),
        (times("hanging", "healthy", 0.95, 1.0, "the same without it"),),
        baseline="healthy",
        effort=4.0,
    ),
    Row(
        "lines",
        "lines from stdin to stdout",
        "commands",
        commands("loop", "m3 run"),
        (times("m3 run", "loop", 0.5, 1.0, "a plain Python loop"),),
        baseline="loop",
        effort=4.0,
        note="The time of the same command with no input is subtracted.",
    ),
    Row(
        "start",
        "time to start",
        "commands",
        commands("python", "import m3", "from m3 import Pipeline", "m3 --help"),
        (
            over("import m3", "python", 0.060, 0.030),
            over("m3 --help", "python", 0.150, 0.090),
        ),
        kind="start",
        note="Names of m3 are imported when they are first used; Pipeline needs all of the engine.",
    ),
    Row(
        "memory",
        "memory at its peak, no-op, up to 300,000 items",
        "pipelines",
        pipelines(EVERYBODY, workload="noop", most=300_000),
        baseline="bare",
        kind="memory",
        effort=4.0,
        note="Of the whole process. A system without bounds needs more for more items.",
    ),
)
"""Every row of the table."""
