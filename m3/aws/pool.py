"""The clients of AWS services, one per region, as a resource."""

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Self

from m3._messages import closest, did_you_mean
from m3.aws.failover import first_answer
from m3.aws.limiter import Limiter
from m3.aws.region import Region, client_of, is_denial
from m3.aws.regions import Regions, canonical, listed, meant, meant_globally
from m3.aws.session import Session, configured
from m3.components.component import Component
from m3.errors import ConfigError, UnknownNameError, describe
from m3.pools.once import Once
from m3.secret import Secret

__all__ = ("ServiceMixinPool", "ServicePool")

LEAST_CONNECTIONS = 10
"""What botocore keeps for a client by itself."""


class ServicePool(Component):
    """
    The clients of one AWS service, one per region::

        pool = S3Pool(connect=True, regions=["eu-*", "us-east-1"], default_region="us-east-1")
        pool.regions["eu-west-1"].put_object(...)

    As a resource of a stage or a component, it is connected and closed by m3.  On its
    own, it is with ``connect=True``, :meth:`connect` or ``with pool:``.  Connecting makes
    the regions known; a client is made when it is first asked for, and all threads
    use it.  After a fork, the child makes clients of its own.

    Args:
        connect: connect now.
        regions: names of regions; patterns, as ``eu-*``; partitions, as ``aws-cn``; or one
            of these.  None or ``"*"`` is all regions of the partition ``aws``.  A global
            service, such as IAM, has one client for each partition in which any of them is.
        default_region: which of them ``pool.regions.default`` is.  If left out: the one
            that the environment or the profile names, or the only one.
        aws_access_key_id: the access key; what boto3 finds if left out.
        aws_secret_access_key: the secret key.
        aws_session_token: the token of temporary credentials.
        profile: the profile of the shared AWS configuration to use.
        role_arn: a role to assume; its credentials are renewed before they expire.
        role_options: further parameters of AssumeRole, as ``{"ExternalId": ...}``.
        endpoint_url: where the service is, if not at AWS; regions may have any names then.
        client_config: a ``botocore.config.Config``, or a table of its options; laid over
            :data:`m3.aws.session.DEFAULTS`, and at least ten connections, one for each
            thread that uses the pool.  (``config`` is what a conductor gives a component.)
        resource: have boto3's resources in place of clients, of which each thread gets its own.
        failover: the regions that :meth:`call` tries, in order; all of the pool if left out.

    Raises:
        ConfigError: an option cannot be as it is.
        MissingExtraError: boto3 is not installed.
        UnknownNameError: there is no such service or region; it names the nearest.
    """

    service: ClassVar[str] = ""
    """What boto3 calls the service, as ``"s3"``."""

    successor: ClassVar[str] = ""
    """What to use where boto3 no longer has the service."""

    probe: ClassVar[str] = ""
    """The operation, without parameters, that :meth:`health` calls in every region; or none."""

    def __init__(
        self,
        connect: bool = False,
        regions: str | Iterable[str] | None = None,
        default_region: str | None = None,
        aws_access_key_id: str | Secret | None = None,
        aws_secret_access_key: str | Secret | None = None,
        aws_session_token: str | Secret | None = None,
        *,
        profile: str | None = None,
        role_arn: str | None = None,
        role_options: Mapping[str, str] | None = None,
        endpoint_url: str | None = None,
        client_config: Any = None,
        resource: bool = False,
        failover: Sequence[str] | None = None,
    ) -> None:
        keys = (aws_access_key_id, aws_secret_access_key, aws_session_token)
        self._session = Session(
            keys=(_secret(keys[0]), _secret(keys[1]), _secret(keys[2])),
            profile=profile,
            role_arn=role_arn,
            role_options=role_options,
        )
        self._endpoint_url = endpoint_url
        self._client_config = client_config
        self._resource = resource
        self._threads = LEAST_CONNECTIONS
        self._check_service()
        self._names = self._meant(regions)
        self._default = self._default_of(default_region)
        self._failover = [self._one_of_mine(name) for name in failover or ()]
        self.regions = Regions(self._connect_module_to_region, type(self).__name__)
        _pools.add(self)
        if connect:
            self.connect()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.service = vars(cls).get("_aws_module_name", cls.service)

    @staticmethod
    def of(service: str) -> "type[ServicePool]":
        """
        Return the class of pools of any service that boto3 knows, by boto3's name for it.

        It is one class per name, so that it can stand in an annotation.
        """
        found: type[ServicePool] = _classes.get(service, _class_of, service)
        return found

    def __repr__(self) -> str:
        regions = listed(self.regions) or "not connected"
        return f"<{type(self).__name__} of {self.service}: {regions}>"

    def __getattr__(self, name: str) -> Any:
        regions = vars(self).get("regions", ())
        if name not in regions:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return regions[name]

    def __enter__(self) -> Self:
        self.setup()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def setup(self) -> None:
        """Connect; clients that were made for fewer threads are closed, and made anew."""
        if self.threads > self._threads:
            self._close()
        self._threads = max(LEAST_CONNECTIONS, self.threads)
        self.connect()

    def shutdown(self) -> None:
        """Close all connections; the pool has none then, until it is connected again."""
        self._close()

    def health(self) -> None:
        """
        Raise if no region works; those that do not are logged.

        Where the class has a :attr:`probe`, each region is called.  Being denied the
        operation is an answer.  Otherwise the latest calls count.
        """
        failures = self._failures()
        for region, failure in failures.items():
            self.logger.warning("%s in %s: %s", type(self).__name__, region, describe(failure))
        if failures and len(failures) == len(self.regions):
            raise next(iter(failures.values()))

    def connect(self) -> None:
        """Connect to the regions of the pool; nothing is asked of them."""
        for name in self._names:
            self.regions.add(name)
        if self._default is not None:
            self.regions.default = self._default

    def region(self, name: str) -> Any:
        """
        Return the client of a region.

        Raises:
            NotConnectedError: the pool has no connection to it.
        """
        return self.regions[name]

    def add_region(self, name: str) -> None:
        """
        Connect to one more region, or to all that a pattern or partition names.

        Raises:
            UnknownNameError: the service has no such region.
        """
        for region in self._meant(name):
            if region not in self._names:
                self._names.append(region)
            self.regions.add(region)

    def limiter(self, region: str) -> Limiter:
        """
        Return what keeps the rate of all calls of the service in a region.

        Calls of the pool's clients heed it, and their throttling slows it down.  Who
        finds parts of a batch throttled tells it, by :meth:`Limiter.slow_down`.
        """
        return self.regions.at(region).limiter

    @property
    def errors(self) -> dict[str, Exception]:
        """The regions whose latest call failed because of the region, and how."""
        return {
            region.name: region.circuit.error
            for region in self.regions.every()
            if region.circuit.error is not None
        }

    def call(self, operation: str, /, **arguments: Any) -> Any:
        """
        Call an operation in the first region of the failover that works.

        The next region is tried where there is no connection, no answer in time, an error
        of the server, or throttling that outlasted the retries.  A region that failed
        three times in a row is left out for half a minute
        (:class:`~m3.aws.circuit.Circuit`).  What had no answer in time may have been
        done: an operation that must not be done twice needs a token of its own.

        Raises:
            NotConnectedError: the pool is not connected.
            Exception: what the last region raised; or at once, what another region
                would raise as well.
        """
        names = self._failover or list(self.regions) or self._names
        return first_answer([self.regions.at(name) for name in names], operation, arguments)

    # -- what a subclass may override -------------------------------------------

    def _connect_module_to_region(self, region: str) -> Any:
        """Return a client of the service in *region*."""
        make = self._session.resource if self._resource else self._session.client
        return make(
            self.service,
            region,
            endpoint_url=self._endpoint_url,
            config=configured(max(LEAST_CONNECTIONS, self.threads), self._client_config),
        )

    def _get_module_regions(self) -> Sequence[str]:
        """Return the regions that the service has, in all partitions; none if it is global."""
        return self._session.regions(self.service)

    # ---------------------------------------------------------------------------

    def _check_service(self) -> None:
        known = self._session.services()
        if self.service in known:
            return
        near = closest(self.service, known)
        hint = f"; use {self.successor}" if self.successor else did_you_mean(near)
        if not self.service:
            hint = "; ServicePool.of('s3') names one, as the attribute service of a class does"
        raise UnknownNameError(
            f"{type(self).__name__}: boto3 has no service {self.service!r}{hint}",
            name=self.service,
            near=tuple(near),
        )

    def _meant(self, wanted: str | Iterable[str] | None) -> list[str]:
        """Return the regions that *wanted* names, or where a global service is there."""
        globally = self._session.partitions()
        known: dict[str, list[str]] = {partition: [] for partition in globally}
        for name in self._get_module_regions():
            known[self._session.partition_of(name)].append(name)
        strict = self._endpoint_url is None
        if known["aws"]:
            names = meant(wanted, known, strict=strict)
        else:
            homes = {name: known[name] or [region] for name, region in globally.items()}
            names = meant_globally(wanted, self._session.all_regions(), homes, strict=strict)
        if not names:
            raise ConfigError(
                f"{type(self).__name__}: regions=[]: a pool has one region at least; leave it out "
                "for all"
            )
        return names

    def _default_of(self, given: str | None) -> str | None:
        if given is not None:
            return self._one_of_mine(given)
        own = self._session.default_region()
        return own if own in self._names else None

    def _one_of_mine(self, name: str) -> str:
        if canonical(name) not in self._names:
            raise ConfigError(
                f"{type(self).__name__}: {name!r} is none of its regions: {listed(self._names)}"
            )
        return canonical(name)

    def _failures(self) -> dict[str, Exception]:
        """Return the regions that do not work, and why."""
        regions = self.regions.every()
        if not self.probe or not regions:
            return self.errors
        with ThreadPoolExecutor(len(regions), "m3-aws-health") as threads:
            tried = zip(regions, threads.map(self._tried, regions), strict=True)
            return {region.name: failure for region, failure in tried if failure is not None}

    def _tried(self, region: Region) -> Exception | None:
        try:
            getattr(client_of(region.client()), self.probe)()
        except Exception as error:
            return None if is_denial(error) else error
        return None

    def _close(self) -> None:
        for region in self.regions.forget():
            region.close()

    def _after_fork(self) -> None:
        self._session.forget()
        self.regions.renew()


class ServiceMixinPool(Component):
    """
    Pools of several services, each an attribute with the name of its service::

        class Web(ServiceMixinPool):
            services = {
                "ec2": {"regions": ["us-east-1", "eu-west-1"], "default_region": "eu-west-1"},
                "s3": {"regions": "*"},
                "sqs": {},
            }

        web = Web(connect=True)
        web.s3.regions["eu-west-1"].list_buckets()

    Args:
        connect: connect all of them now.
        options: options of :class:`ServicePool`, for all services, in place of what the class
            declares for one.

    Raises:
        ConfigError: a service is called like an attribute of the class, as ``config`` is.
        MissingExtraError: boto3 is not installed.
        UnknownNameError: there is no such service or region; it names the nearest.
    """

    services: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """The services, by boto3's names, and the options of each pool."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> ServicePool: ...

    def __init__(self, connect: bool = False, **options: Any) -> None:
        self._options = options
        self._pools: dict[str, ServicePool] = {}
        for service, declared in self.services.items():
            self.add_service(service, connect, **{**declared, **options})

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.services = vars(cls).get("_aws_services", cls.services)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(self._pools) or 'nothing'}>"

    def __enter__(self) -> Self:
        self.setup()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def add_service(self, service: str, connect: bool = False, **options: Any) -> ServicePool:
        """
        Add the pool of one more service, and return it.

        Its options are those of the other pools where *options* do not say otherwise.

        Raises:
            ConfigError: the class has something else by that name.
        """
        name = service.replace("-", "_")
        if hasattr(type(self), name):
            raise ConfigError(
                f"{type(self).__name__}: the service {service!r} cannot be an attribute of it, for "
                f"it has another one called {name!r}; make a pool of its own, of the class "
                f"ServicePool.of({service!r})"
            )
        pool = ServicePool.of(service)(connect, **{**self._options, **options})
        self._pools[service] = pool
        setattr(self, name, pool)
        return pool

    def connect(self) -> None:
        """Connect all pools."""
        for pool in self._pools.values():
            pool.connect()

    def setup(self) -> None:
        """Connect all pools."""
        for pool in self._pools.values():
            pool.threads = self.threads
            pool.setup()

    def shutdown(self) -> None:
        """Close the connections of all pools."""
        for pool in self._pools.values():
            pool.shutdown()

    def health(self) -> None:
        """Raise if a service works in no region."""
        for pool in self._pools.values():
            pool.health()


_classes = Once()


def _class_of(service: str) -> type[ServicePool]:
    name = service.title().replace("-", "") + "Pool"
    return type(name, (ServicePool,), {"service": service, "__doc__": f"Pools of {service}."})


def _secret(value: str | Secret | None) -> Secret | None:
    return Secret(value) if isinstance(value, str) else value


_pools: "weakref.WeakSet[ServicePool]" = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_pools):
        pool._after_fork()  # noqa: SLF001 - it is this module's own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
