"""The client that a stage uses, and what AWS says in its errors."""

from importlib.util import find_spec
from typing import Any

from m3.aws.pool import ServicePool
from m3.errors import MissingExtraError

__all__ = ("client_of", "need_boto3")


def need_boto3(connector: str) -> None:
    """Raise :exc:`~m3.errors.MissingExtraError` if there is no boto3."""
    if find_spec("boto3") is None:
        raise MissingExtraError(f"the connector {connector} needs boto3", extra="aws")


def client_of(pool: ServicePool, region: str | None) -> Any:
    """Return the client of *pool* for *region*, or for the pool's default region."""
    return pool.regions.default if region is None else pool.regions[region]
