"""What a pool is told reaches the wire: credentials, profile, role, endpoint, configuration."""

import json
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.config import Config

from m3 import Secret
from m3.aws import ServiceMixinPool, ServicePool
from m3.aws.services import DynamoDBPool, S3Pool, SqsPool
from m3.errors import ConfigError

KEYS = {
    "aws_access_key_id": "AKIDGIVENBYHAND",
    "aws_secret_access_key": "the-secret-that-is-not-shown",
    "aws_session_token": "the-token-that-is-not-shown",
}


def ask(pool, region="us-east-1"):
    """Send a request through *pool*."""
    return pool.regions[region].list_queues()


def sqs(proxy, **options):
    return SqsPool(
        connect=True, regions=["us-east-1", "eu-west-1"], endpoint_url=proxy.url, **options
    )


def test_given_credentials_are_used(fault_proxy):
    """mangrove took keys and never used them (a regression test owed to it)."""
    ask(sqs(fault_proxy, **KEYS), "eu-west-1")
    (request,) = fault_proxy.seen
    assert (request.access_key, request.region) == ("AKIDGIVENBYHAND", "eu-west-1")
    assert request.headers["x-amz-security-token"] == "the-token-that-is-not-shown"


@pytest.mark.parametrize(
    ("given", "lacking"),
    [
        (["aws_session_token"], "aws_access_key_id and aws_secret_access_key"),
        (["aws_access_key_id"], "aws_secret_access_key"),
        (["aws_secret_access_key"], "aws_access_key_id"),
        (["aws_access_key_id", "aws_session_token"], "aws_secret_access_key"),
    ],
)
@pytest.mark.parametrize("kind", [str, Secret])
def test_a_part_of_the_credentials_is_refused(given, lacking, kind):
    """As the pool is made; nothing else is used in their place, and none of them is shown."""
    options = {name: kind(KEYS[name]) for name in given}
    for make in (S3Pool, type("Mixed", (ServiceMixinPool,), {"services": {"s3": {}}})):
        with pytest.raises(ConfigError, match=f"without {lacking}: give") as caught:
            make(**options)
        assert not any(KEYS[name] in str(caught.value) for name in given)


def test_empty_credentials_are_none(fault_proxy):
    """As those of a variable that is set to nothing: what boto3 finds is used."""
    ask(sqs(fault_proxy, **dict.fromkeys(KEYS, "")))
    assert fault_proxy.seen[0].access_key == "testing"


def test_they_may_be_secrets(fault_proxy):
    """A Secret reaches the wire as what it hides."""
    ask(sqs(fault_proxy, **{name: Secret(value) for name, value in KEYS.items()}))
    assert fault_proxy.seen[0].access_key == "AKIDGIVENBYHAND"


def test_they_sign(fault_proxy):
    """Two secret keys give two signatures of the same request."""
    signatures = set()
    for secret in ("one-secret", "another-secret"):
        ask(sqs(fault_proxy, aws_access_key_id="AKID", aws_secret_access_key=secret))
    for request in fault_proxy.seen:
        signatures.add(request.headers["authorization"].rpartition("Signature=")[2])
    assert len(signatures) == 2


def test_without_any_the_environment_counts(fault_proxy):
    """What boto3 finds is used."""
    ask(sqs(fault_proxy))
    assert fault_proxy.seen[0].access_key == "testing"


def test_a_profile(fault_proxy, monkeypatch, tmp_path):
    """Its keys are used, and its region is the default."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text(
        "[batch]\naws_access_key_id = AKIDOFBATCH\naws_secret_access_key = s\n"
    )
    (tmp_path / "config").write_text("[profile batch]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    sqs(fault_proxy, profile="batch").regions.default.list_queues()
    (request,) = fault_proxy.seen
    assert (request.access_key, request.region) == ("AKIDOFBATCH", "eu-west-1")


ROLE = "arn:aws:iam::123456789012:role/reader"


def test_a_role_is_assumed(fault_proxy, monkeypatch):
    """The pool's own keys ask STS, and what STS gives asks the service; once for all clients."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", fault_proxy.url)
    pool = sqs(fault_proxy, role_arn=ROLE, role_options={"ExternalId": "guest"}, **KEYS)
    ask(pool)
    ask(pool, "eu-west-1")
    first, *others = fault_proxy.seen
    assert (first.service, first.access_key) == ("sts", "AKIDGIVENBYHAND")
    assert b"RoleSessionName=m3" in first.body
    assert b"ExternalId=guest" in first.body
    assert [request.service for request in others] == ["sqs", "sqs"]
    assert all(request.access_key.startswith("ASIA") for request in others)


def test_a_role_is_renewed(fault_proxy, monkeypatch):
    """When its credentials are about to expire, STS is asked again."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", fault_proxy.url)
    pool = sqs(fault_proxy, role_arn=ROLE)
    ask(pool)
    credentials = pool._session._core.get_credentials()
    credentials._expiry_time = credentials._time_fetcher()
    ask(pool)
    assert [request.service for request in fault_proxy.seen] == ["sts", "sqs", "sts", "sqs"]


def test_defaults_of_the_configuration():
    """The retry mode is explicit, and there is a connection per thread, at least ten."""
    pool = S3Pool(
        connect=True, regions="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    config = pool.regions.default.meta.config
    assert config.retries == {"mode": "standard", "total_max_attempts": 5}
    assert (config.connect_timeout, config.read_timeout, config.tcp_keepalive) == (5, 60, True)
    assert config.max_pool_connections == 10


@pytest.mark.parametrize(
    "given",
    [
        Config(read_timeout=7, user_agent_extra="mine"),
        {"read_timeout": 7, "user_agent_extra": "mine"},
    ],
)
def test_a_configuration_is_laid_over_the_defaults(fault_proxy, given):
    """A Config, or a table, as a configuration file has it; what it leaves out stays."""
    pool = sqs(fault_proxy, client_config=given)
    pool.threads = 64
    ask(pool)
    config = pool.regions["us-east-1"].meta.config
    assert (config.read_timeout, config.connect_timeout) == (7, 5)
    assert config.max_pool_connections == 64
    assert "mine" in fault_proxy.seen[0].headers["user-agent"]


def test_credentials_are_not_shown(fault_proxy, caplog):
    """Neither by what a pool is shown as, nor in its errors, nor in m3's logs."""
    caplog.set_level(logging.DEBUG, "m3")
    pool = sqs(fault_proxy, **KEYS)
    mixed = type("Both", (ServiceMixinPool,), {"services": {"sqs": {"regions": "us-east-1"}}})(
        **KEYS
    )
    texts = [repr(pool), repr(pool.regions), repr(mixed), str(vars(pool)), str(vars(pool._session))]
    with pytest.raises(LookupError) as caught:
        pool.region("us-east-2")
    texts += [str(caught.value), caplog.text]
    for hidden in ("the-secret-that-is-not-shown", "the-token-that-is-not-shown"):
        assert not any(hidden in text for text in texts)


def test_a_mixin_pool_passes_them_on(fault_proxy):
    """All services sign with the keys of the mixin pool, connect to its endpoint and close."""

    class Both(ServiceMixinPool):
        services = {"sqs": {"regions": ["eu-west-1"]}, "dynamodb": {"regions": ["us-east-1"]}}

    pool = Both(connect=True, endpoint_url=fault_proxy.url, **KEYS)
    pool.sqs.regions.default.list_queues()
    pool.dynamodb.regions.default.list_tables()
    asked = [(request.access_key, request.service, request.region) for request in fault_proxy.seen]
    assert asked == [
        ("AKIDGIVENBYHAND", "sqs", "eu-west-1"),
        ("AKIDGIVENBYHAND", "dynamodb", "us-east-1"),
    ]


@pytest.mark.usefixtures("hurried")
def test_threads_share_one_client(aws):
    """Forty threads that ask for it at once get the same, and it is made once."""
    made = []

    class Counted(ServicePool):
        service = "s3"

        def _connect_module_to_region(self, region):
            made.append(region)
            return super()._connect_module_to_region(region)

    pool = Counted(connect=True, regions=["us-east-1", "eu-west-1", "us-west-2"], endpoint_url=aws)
    together = threading.Barrier(40)

    def ask(number):
        together.wait(20)
        return [pool.regions[name] for name in pool.regions]

    with ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(ask, range(40)))
    assert sorted(made) == sorted(pool.regions)
    assert all(found == answers[0] for found in answers)


def test_a_slow_region_does_not_keep_others_from_connecting():
    """Regions are connected side by side: each waits for the other here."""
    together = threading.Barrier(2)

    class Slow(ServicePool):
        service = "s3"

        def _connect_module_to_region(self, region):
            together.wait(20)
            return region

    pool = Slow(connect=True, regions=["us-east-1", "eu-west-1"])
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(pool.region, pool.regions)) == ["us-east-1", "eu-west-1"]


def test_connecting_makes_no_client_and_no_request(fault_proxy):
    """Connecting all regions is free: clients come when they are asked for."""
    made = []

    class Counted(ServicePool):
        service = "s3"

        def _connect_module_to_region(self, region):
            made.append(region)

    pool = Counted(connect=True, endpoint_url=fault_proxy.url)
    assert (len(pool.regions) > 30, made, fault_proxy.seen) == (True, [], [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_makes_clients_of_its_own(aws):
    """A child does not use the connections of its parent, even if a lock was held as it forked."""
    program = f"""
import os, threading
from m3.aws.services import S3Pool

pool = S3Pool(connect=True, regions="us-east-1", endpoint_url={aws!r})
client = pool.regions.default
client.list_buckets()
pool._session._lock.acquire()
region = pool.regions.at("us-east-1")
region._lock.acquire()
child = os.fork()
if child == 0:
    thread = threading.Thread(target=lambda: pool.regions.default.list_buckets())
    thread.start()
    thread.join()
    os._exit(0 if pool.regions.default is not client else 1)
region._lock.release()
assert pool.regions.default is client
print(os.waitpid(child, 0)[1])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50
    )
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


def test_resources_are_for_each_thread(aws):
    """``resource=True`` gives boto3's resources: one per thread, over one client."""
    pool = S3Pool(connect=True, regions=["us-east-1"], endpoint_url=aws, resource=True)
    pool.regions.default.create_bucket(Bucket="shelf")
    pool.regions.default.Object("shelf", "book").put(Body=b"text")
    assert pool.regions.default.Object("shelf", "book").get()["Body"].read() == b"text"
    together = threading.Barrier(4)

    def own(_):
        together.wait(20)
        return pool.regions.default

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(own, range(4)))
    assert len({id(resource) for resource in found}) == 4
    assert len({id(resource.meta.client) for resource in found}) == 1
    assert pool.regions.default is pool.regions.default
    pool.shutdown()


def test_shutdown_closes_the_connections(aws):
    """The sockets of all clients are closed; a second shutdown does nothing."""
    with DynamoDBPool(regions=["us-east-1", "eu-west-1"], endpoint_url=aws) as pool:
        for client in pool.regions.values():
            client.list_tables()
        sessions = [client._endpoint.http_session for client in pool.regions.values()]
        managers = [manager.pools for session in sessions for manager in [session._manager]]
        assert [len(pools) for pools in managers] == [1, 1]
    assert [len(pools) for pools in managers] == [0, 0]
    assert list(pool.regions) == []
    pool.shutdown()


def test_a_missing_extra_is_named():
    """Without boto3, importing works, and making a pool says what to install."""
    program = """
import sys
sys.modules["boto3"] = None
from m3.aws.services import S3Pool
try:
    S3Pool()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "pools of AWS need boto3: pip install 'm3-pipeline[aws]'\n", done.stderr


def test_importing_does_not_import_boto3():
    """Only making a pool does."""
    program = "import m3.aws.services, sys; print('boto3' in sys.modules, 'asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert json.loads(done.stdout.lower().replace(" ", ",").join("[]")) == [False, False]
