"""A session of boto3 that threads may share: the one module that imports boto3."""

import threading
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from m3.errors import ConfigError, MissingExtraError
from m3.secret import Secret

__all__ = ("DEFAULTS", "Session", "configured")

DEFAULTS: Mapping[str, Any] = {
    "retries": {"mode": "standard", "total_max_attempts": 5},
    "connect_timeout": 5,
    "read_timeout": 60,
    "tcp_keepalive": True,
}
"""What each client is configured with, unless ``client_config`` says otherwise."""


class Session:
    """
    A session of boto3, made when it is needed.

    A session of boto3 is not thread-safe, its clients are (`boto3's guide to clients
    <https://boto3.amazonaws.com/v1/documentation/api/latest/guide/clients.html>`_): it
    is used under a lock, and what it makes is shared.  Everything but
    the answers of :meth:`client` and :meth:`resource` comes from tables of botocore;
    nothing is asked over the network.

    Args:
        keys: the access key, the secret key and the session token; None for those
            that botocore finds.
        profile: the profile of the shared configuration to use.
        role_arn: a role to assume; the other credentials are then those that may do so.
        role_options: further parameters of AssumeRole.

    Raises:
        ConfigError: of the keys, only some are there; or the role is no ARN.
    """

    def __init__(
        self,
        *,
        keys: tuple[Secret | None, Secret | None, Secret | None] = (None, None, None),
        profile: str | None = None,
        role_arn: str | None = None,
        role_options: Mapping[str, str] | None = None,
    ) -> None:
        if role_arn is not None and not role_arn.startswith("arn:"):
            raise ConfigError(
                f"role_arn={role_arn!r}: an ARN is like arn:aws:iam::123456789012:role/reader"
            )
        _check_keys(keys)
        self._keys = keys
        self._profile = profile
        self._role_arn = role_arn
        self._role_options = {"RoleSessionName": "m3", **(role_options or {})}
        self.forget()

    def forget(self) -> None:
        """Make a new session when one is needed again, as after a fork."""
        self._lock = threading.RLock()
        self._boto3: Any = None

    def services(self) -> list[str]:
        """Return the services that this boto3 knows."""
        with self._lock:
            return list(self._opened().get_available_services())

    def regions(self, service: str) -> list[str]:
        """
        Return the regions of *service*, of all partitions; none for a global service.

        Where the tables have nothing of a service, it may be in any region.
        """
        with self._lock:
            session = self._opened()
            partitions = session.get_available_partitions()
            ask = partial(session.get_available_regions, service)
            found = [region for partition in partitions for region in ask(partition)]
            if found or any(ask(partition, allow_non_regional=True) for partition in partitions):
                return found
        return [region for regions in self.all_regions().values() for region in regions]

    def all_regions(self) -> dict[str, list[str]]:
        """Return the regions of each partition, whatever is there."""
        return {
            partition["id"]: [name for name in partition["regions"] if not name.endswith("-global")]
            for partition in self._partitions()
        }

    def partitions(self) -> dict[str, str]:
        """Return the region that global services use, for each partition."""
        return {
            partition["id"]: partition["outputs"]["implicitGlobalRegion"]
            for partition in self._partitions()
        }

    def partition_of(self, region: str) -> str:
        """Return the partition that *region* is in, by its name."""
        from botocore.exceptions import UnknownRegionError

        with self._lock:
            try:
                return str(self._opened().get_partition_for_region(region))
            except UnknownRegionError:
                return "aws"

    def default_region(self) -> str | None:
        """Return the region that the environment or the profile names."""
        with self._lock:
            name: str | None = self._opened().region_name
        return name

    def client(self, service: str, region: str, **options: Any) -> Any:
        """Return a new client."""
        with self._lock:
            return self._opened().client(service, region, **options)

    def resource(self, service: str, region: str, **options: Any) -> Any:
        """Return a new resource, in boto3's sense of the word."""
        with self._lock:
            return self._opened().resource(service, region, **options)

    def _partitions(self) -> list[dict[str, Any]]:
        with self._lock:
            self._opened()
            table = self._core.get_component("data_loader").load_data("partitions")
        found: list[dict[str, Any]] = table["partitions"]
        return found

    def _opened(self) -> Any:
        if self._boto3 is None:
            try:
                import boto3
            except ImportError as error:
                raise MissingExtraError("pools of AWS need boto3", extra="aws") from error
            self._core = self._with_credentials()
            self._boto3 = boto3.Session(botocore_session=self._core)
        return self._boto3

    def _with_credentials(self) -> Any:
        core = self._new_core()
        key, secret, token = (value and value.reveal() for value in self._keys)
        if key:
            core.set_credentials(key, secret, token)
        if self._role_arn is None:
            return core
        assuming = self._new_core()
        assuming.register_component(
            "credential_provider", _Role(self._assume(core, self._role_arn))
        )
        return assuming

    def _new_core(self) -> Any:
        from botocore.session import Session as Core

        core = Core(profile=self._profile)
        core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
        return core

    def _assume(self, core: Any, role_arn: str) -> Callable[[], Mapping[str, Any]]:
        """Return what asks STS for credentials of the role, as *core*."""

        def fetch() -> Mapping[str, Any]:
            from botocore.credentials import AssumeRoleCredentialFetcher

            region = core.get_config_variable("region") or self.partitions()[role_arn.split(":")[1]]
            fetcher = AssumeRoleCredentialFetcher(
                partial(core.create_client, region_name=region),
                core.get_credentials(),
                role_arn,
                self._role_options,
            )
            answer: Mapping[str, Any] = fetcher.fetch_credentials()
            return answer

        return fetch


def _check_keys(keys: tuple[Secret | None, Secret | None, Secret | None]) -> None:
    """Raise :exc:`~m3.errors.ConfigError` if only a part of the credentials is given."""
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    given = [name for name, key in zip(names, keys, strict=True) if key]
    lacking = [name for name in names[:2] if name not in given]
    if given and lacking:
        raise ConfigError(
            f"{' and '.join(given)} without {' and '.join(lacking)}: give that as well, or none of "
            "them, and boto3 looks for credentials"
        )


class _Role:
    """Where botocore looks for credentials: those of a role, renewed before they expire."""

    def __init__(self, fetch: Callable[[], Mapping[str, Any]]) -> None:
        self._fetch = fetch

    def load_credentials(self) -> Any:
        from botocore.credentials import DeferredRefreshableCredentials

        return DeferredRefreshableCredentials(self._fetch, "assume-role")


@cache
def _loader(data_path: str | None) -> Any:
    """Return what reads botocore's tables and keeps them, which is most of a session's cost."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


def configured(connections: int, given: Any) -> Any:
    """
    Return the ``botocore.config.Config`` of a client.

    Args:
        connections: how many connections it keeps.
        given: a ``Config``, or a mapping of its options, laid over the defaults; or None.
    """
    from botocore.config import Config

    defaults = Config(**DEFAULTS, max_pool_connections=connections)
    if given is None:
        return defaults
    return defaults.merge(given if isinstance(given, Config) else Config(**given))
