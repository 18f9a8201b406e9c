"""
A plugin of pytest: stages of AWS against moto's server.

A pool is shared by the stages of all tests, as in a service by those of all pipelines.
"""

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aws_server import ENVIRONMENT

from m3.aws import services

REGION = "eu-west-1"


class Aws:
    """What plays AWS to the tests."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pools: dict[str, Any] = {}

    def pool(self, kind: str) -> Any:
        """Return the pool of a service, by the name of its class."""
        if kind not in self._pools:
            options = {"regions": [REGION], "default_region": REGION, "endpoint_url": self._url}
            self._pools[kind] = getattr(services, kind)(connect=True, **options)
        return self._pools[kind]

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.shutdown()
        self._pools.clear()
        gc.collect()  # there may be bodies of answers that nobody has read to their end

    def client(self, kind: str) -> Any:
        """Return a client of a service."""
        return self.pool(kind).regions.default

    def given(self, stage: Any) -> Any:
        """Return *stage* with the resources that its class names, as the engine gives them."""
        for name, kind in type(stage).__annotations__.items():
            if hasattr(services, getattr(kind, "__name__", "")):
                setattr(stage, name, self.pool(kind.__name__))
        return stage


@pytest.fixture(scope="module")
def moto(aws_server) -> Iterator[Aws]:
    """Return what plays AWS, for stages and for those who look after them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        reached = {"AWS_ENDPOINT_URL": aws_server, "AWS_DEFAULT_REGION": REGION}
        for name, value in {**ENVIRONMENT, **reached}.items():
            patch.setenv(name, value)
        aws = Aws(aws_server)
        yield aws
        aws.close()


@pytest.fixture(scope="class")
def on_moto(request, moto) -> None:
    """Give the class of a battery ``aws``."""
    request.cls.aws = moto


@pytest.fixture
def instant(monkeypatch) -> Callable[[Any], Any]:
    """Return what has a backend wait for nothing between attempts."""

    def be_instant(backend: Any) -> Any:
        monkeypatch.setattr(backend, "pauses", type(backend).pauses.__class__(initial=0.0))
        return backend

    return be_instant
