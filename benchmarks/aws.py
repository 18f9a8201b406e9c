"""Measure what it costs to connect to AWS, and to call it from many threads."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from threading import local
from time import perf_counter

from benchmarks.figures import Figures, fitting_count
from benchmarks.pipelines import figures_of

__all__ = ("CALLING", "CONNECTING", "FAILING", "measure")

WORKERS = 16
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}

SERVER = """
import sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Accepting(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        if "/eu-west-1/" in self.headers["Authorization"]:
            threading.Event().wait()
        self.rfile.read(int(self.headers["Content-Length"]))
        self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")

class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

server = Server(("127.0.0.1", 0), Accepting)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""
"""Takes every object and keeps none, in a process of its own; one region never answers."""

CONNECTING = {
    "loop": "a loop of boto3.client calls",
    "pool": "S3Pool(connect=True)",
    "pool, used": "S3Pool(connect=True), each client used",
}
CALLING = {
    "own": "a session and a client for each thread",
    "pool": "one S3Pool",
}
FAILING = {
    "healthy": "two regions, a third is not called",
    "hanging": "two regions, eight threads hang in a third",
}


def measure(*, case: str, count: int | None = None, seconds: float = 0.5) -> Figures:
    """Connect all regions of S3, or put objects of 1 KiB from 16 threads, *count* times."""
    os.environ.update(ENVIRONMENT)
    kind, _, who = case.partition(" ")
    with CASES[kind](who) as work:
        work(1)
        seconds_for = partial(timed, work)
        return figures_of(seconds_for, count or fitting_count(seconds_for, seconds, first=1))


def timed(work: Callable[[int], None], count: int) -> float:
    began = perf_counter()
    work(count)
    return perf_counter() - began


@contextmanager
def connecting(who: str) -> Iterator[Callable[[int], None]]:
    import boto3

    from m3.aws.services import S3Pool

    regions = boto3.Session().get_available_regions("s3")

    def loop() -> None:
        for region in regions:
            boto3.client("s3", region_name=region)

    def pool() -> None:
        assert list(S3Pool(connect=True).regions) == regions

    def pool_used() -> None:
        with S3Pool() as pool:
            assert all(pool.regions.values())

    connect = {"loop": loop, "pool": pool, "pool, used": pool_used}[who]

    def work(count: int) -> None:
        for _ in range(count):
            connect()

    yield work


@contextmanager
def serving() -> Iterator[str]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=pipe, stdout=pipe) as server:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.kill()


@contextmanager
def calling(who: str) -> Iterator[Callable[[int], None]]:
    import boto3

    from m3.aws.services import S3Pool

    with serving() as url:
        own = local()

        def client_of_this_thread():
            if not hasattr(own, "client"):
                own.client = boto3.Session().client("s3", endpoint_url=url)
            return own.client

        pool = S3Pool(connect=True, regions="us-east-1", endpoint_url=url)
        pool.threads = WORKERS
        get = client_of_this_thread if who == "own" else lambda: pool.regions["us-east-1"]

        def put(number: int) -> None:
            get().put_object(Bucket="shelf", Key=str(number), Body=bytes(1024))

        with ThreadPoolExecutor(WORKERS) as threads:
            yield lambda count: list(threads.map(put, range(count)))


@contextmanager
def failing(who: str) -> Iterator[Callable[[int], None]]:
    from m3.aws.services import S3Pool

    once = {"retries": {"total_max_attempts": 1}}
    with ThreadPoolExecutor(8) as stuck, serving() as url, ThreadPoolExecutor(WORKERS) as threads:
        regions = ("us-east-1", "us-west-2", "eu-west-1")
        pool = S3Pool(True, regions, endpoint_url=url, client_config=once)

        def put(number: int, region: str) -> None:
            pool.regions[region].put_object(Bucket="shelf", Key=str(number), Body=bytes(1024))

        for number in range(8 if who == "hanging" else 0):
            stuck.submit(put, number, "eu-west-1")
        yield lambda count: list(threads.map(put, range(count), cycle(regions[:2])))


CASES = {"connect": connecting, "put": calling, "hole": failing}
