"""AWS fails in some region: what that does to the pool, and to the other regions."""

import gzip
import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError
from fault_proxy import EXPIRED, SLOW_DOWN, Fault

from m3.aws import ServicePool
from m3.aws.circuit import FAILURES
from m3.aws.services import DynamoDBPool, S3Pool, SqsPool

REGIONS = ["us-east-1", "eu-west-1", "ap-southeast-2"]
ONCE = {"retries": {"mode": "standard", "total_max_attempts": 1}, "read_timeout": 5}


@pytest.fixture
def pool(fault_proxy):
    """A pool of three regions that does not retry, behind the proxy."""
    with SqsPool(regions=REGIONS, endpoint_url=fault_proxy.url, client_config=ONCE) as pool:
        yield pool


def failing(*regions, fault=SLOW_DOWN):
    """Return what has these regions fail."""
    return lambda request: fault if request.region in regions else None


def asked(proxy):
    """Return the regions that were asked, in order."""
    return [request.region for request in proxy.seen]


def test_a_failing_region_is_reported_and_fails_nothing_else(pool, fault_proxy):
    """mangrove hid it in a future (a regression test owed to it): ``errors`` says which and why."""
    fault_proxy.fault = failing("eu-west-1", fault=Fault(403, "UnrecognizedClientException"))
    pool.regions["us-east-1"].list_queues()
    with pytest.raises(ClientError):
        pool.regions["eu-west-1"].list_queues()
    assert list(pool.errors) == ["eu-west-1"]
    assert "UnrecognizedClientException" in str(pool.errors["eu-west-1"])
    pool.health()
    fault_proxy.fault = failing()
    pool.regions["eu-west-1"].list_queues()
    assert pool.errors == {}


def test_health_asks_every_region(pool, fault_proxy, caplog):
    """It logs those that fail, and raises when none is left."""
    fault_proxy.fault = failing("eu-west-1")
    pool.health()
    assert sorted(asked(fault_proxy)) == sorted(REGIONS)
    assert [record.getMessage()[:20] for record in caplog.records] == ["SqsPool in eu-west-1"]
    fault_proxy.fault = failing(*REGIONS)
    with pytest.raises(ClientError, match="SlowDown"):
        pool.health()


def test_being_denied_is_an_answer(pool, fault_proxy):
    """Whoever may not list queues may still send to one; expired credentials are no health."""
    fault_proxy.fault = failing(*REGIONS, fault=Fault(403, "AccessDenied"))
    pool.health()
    fault_proxy.fault = failing(*REGIONS, fault=EXPIRED)
    with pytest.raises(ClientError, match="ExpiredToken"):
        pool.health()


def test_a_region_that_cannot_be_made_is_tried_again(aws_environment):
    """The error is reported, and is not kept for ever as in mangrove."""
    attempts = []

    class Moody(ServicePool):
        service = "s3"

        def _connect_module_to_region(self, region):
            attempts.append(region)
            if len(attempts) == 1:
                raise OSError("not now")
            return "a client"

    pool = Moody(connect=True, regions=["us-east-1", "us-west-1"])
    with pytest.raises(OSError, match="not now"):
        pool.region("us-east-1")
    assert list(pool.errors) == ["us-east-1"]
    assert pool.region("us-east-1") == "a client"
    assert pool.errors == {}


def test_throttling_is_retried(fault_proxy):
    """Two answers of SlowDown cost two attempts, and the caller sees none of them."""
    answers = [SLOW_DOWN, SLOW_DOWN]
    fault_proxy.fault = lambda request: answers.pop() if answers else None
    with S3Pool(regions="us-east-1", endpoint_url=fault_proxy.url) as pool:
        pool.limiter("us-east-1")._sleep = lambda seconds: None
        pool.limiter("us-east-1").acquire = lambda: None
        pool.regions.default.list_buckets()
        assert len(fault_proxy.seen) == 3
        assert pool.errors == {}


def test_all_users_of_a_region_slow_down_together(fault_proxy):
    """One throttled call limits its region for all threads, and no other region."""
    with S3Pool(regions=REGIONS, endpoint_url=fault_proxy.url, client_config=ONCE) as pool:
        fault_proxy.fault = failing("eu-west-1")
        with pytest.raises(ClientError):
            pool.regions["eu-west-1"].list_buckets()
        limited = pool.limiter("eu-west-1")
        assert limited.rate is not None
        assert pool.limiter("us-east-1").rate is None
        waited = threading.Event()
        limited._sleep = lambda seconds: (waited.set(), threading.Event().wait(seconds))
        fault_proxy.fault = failing()
        with ThreadPoolExecutor(1) as another:
            another.submit(pool.regions["eu-west-1"].list_buckets).result(30)
        assert waited.is_set()


def test_botocores_adaptive_mode_is_a_limiter_per_client(aws):
    """Who asks for it has one per region as well, for the clients are shared."""
    adaptive = {"retries": {"mode": "adaptive"}}
    with S3Pool(regions=REGIONS[:2], endpoint_url=aws, client_config=adaptive) as pool:
        assert [c.meta.config.retries["mode"] for c in pool.regions.values()] == ["adaptive"] * 2
        assert pool.regions["us-east-1"] is pool.regions["us-east-1"]


class TestFailover:
    def test_the_next_region_answers(self, pool, fault_proxy):
        """In the order of the pool."""
        fault_proxy.fault = failing("us-east-1")
        pool.call("list_queues")
        assert asked(fault_proxy) == ["us-east-1", "eu-west-1"]

    def test_the_order_can_be_given(self, fault_proxy):
        """It may leave regions out; what is none of the pool's is an error."""
        order = ["ap_southeast_2", "us-east-1"]
        options = {"regions": REGIONS, "endpoint_url": fault_proxy.url, "client_config": ONCE}
        with SqsPool(failover=order, **options) as pool:
            fault_proxy.fault = failing("ap-southeast-2")
            pool.call("list_queues")
            assert asked(fault_proxy) == ["ap-southeast-2", "us-east-1"]
        with pytest.raises(ValueError, match="none of its regions"):
            SqsPool(failover=["us-west-1"], **options)

    def test_a_region_that_keeps_failing_is_left_out(self, pool, fault_proxy):
        """After three failures it is not asked; after half a minute one call tries it."""
        fault_proxy.fault = failing("us-east-1")
        clock = pool.regions.at("us-east-1").circuit
        now = clock._clock()
        clock._clock = lambda: now
        for limited in map(pool.limiter, REGIONS):
            limited.acquire = lambda: None
        for _ in range(FAILURES + 2):
            pool.call("list_queues")
        assert asked(fault_proxy).count("us-east-1") == FAILURES
        now += 30
        fault_proxy.fault = failing()
        fault_proxy.seen.clear()
        pool.call("list_queues")
        pool.call("list_queues")
        assert asked(fault_proxy) == ["us-east-1", "us-east-1"]

    def test_a_trial_is_not_spent_on_a_region_that_is_not_needed(self, pool):
        """A half-open region keeps its one trial until it is its turn."""
        last = pool.regions.at(REGIONS[2]).circuit
        for _ in range(FAILURES):
            last.failed(OSError("down"))
        now = last._clock() + 30
        last._clock = lambda: now
        pool.call("list_queues")
        assert last.state == "half-open"

    def test_when_all_fail_the_last_error_is_raised(self, pool, fault_proxy):
        """With a note for each that failed before."""
        fault_proxy.fault = failing(*REGIONS)
        with pytest.raises(ClientError, match="SlowDown") as caught:
            pool.call("list_queues")
        assert [note.partition(":")[0] for note in caught.value.__notes__] == REGIONS[:2]

    def test_when_all_are_open_all_are_tried(self, pool, fault_proxy):
        """Better late than not at all."""
        for region in pool.regions.every():
            for _ in range(FAILURES):
                region.circuit.failed(OSError("down"))
        pool.call("list_queues")
        assert asked(fault_proxy) == ["us-east-1"]

    def test_what_is_wrong_everywhere_is_raised_at_once(self, pool, fault_proxy):
        """A queue that is not there, a wrong parameter, expired credentials: no other is asked."""
        with pytest.raises(ClientError, match="NonExistentQueue"):
            pool.call("get_queue_url", QueueName="absent")
        with pytest.raises(Exception, match="Unknown parameter"):
            pool.call("list_queues", Colour="red")
        fault_proxy.fault = failing("us-east-1", fault=EXPIRED)
        with pytest.raises(ClientError, match="ExpiredToken"):
            pool.call("list_queues")
        assert set(asked(fault_proxy)) == {"us-east-1"}
        assert pool.errors == {}

    def test_a_reset_connection_fails_over(self, pool, fault_proxy):
        """As a server that is not there does."""
        fault_proxy.fault = failing("us-east-1", fault=Fault(cut=0))
        pool.call("list_queues")
        assert asked(fault_proxy)[-1] == "eu-west-1"
        assert isinstance(pool.errors["us-east-1"], HTTPClientError)

    def test_nothing_listens(self, aws_environment):
        """The last error says where no connection could be made."""
        url = "http://127.0.0.1:1"
        with DynamoDBPool(regions=REGIONS, endpoint_url=url, client_config=ONCE) as pool:
            with pytest.raises(EndpointConnectionError):
                pool.call("list_tables")
            assert list(pool.errors) == REGIONS


def test_a_black_hole_does_not_slow_the_other_regions(fault_proxy):
    """While calls to one region of three hang, all calls to the others are answered."""
    hung, lift = threading.Semaphore(0), threading.Event()

    def fault(request):
        if request.region == "us-east-1":
            hung.release()
            return Fault(wait=lift)
        return None

    fault_proxy.fault = fault
    with (
        SqsPool(regions=REGIONS, endpoint_url=fault_proxy.url) as pool,
        ThreadPoolExecutor(16) as threads,
    ):
        stuck = [threads.submit(pool.regions["us-east-1"].list_queues) for _ in range(8)]
        for _ in stuck:
            assert hung.acquire(timeout=20)
        others = [
            threads.submit(pool.regions[REGIONS[1 + number % 2]].list_queues)
            for number in range(40)
        ]
        assert all("ResponseMetadata" in call.result(40) for call in others)
        assert not any(call.done() for call in stuck)
        lift.set()
        assert all("ResponseMetadata" in call.result(40) for call in stuck)


def test_the_proxy_cuts_bodies(fault_proxy):
    """A body that is cut is an error, never short or wrong bytes."""
    numbers = random.Random(4)
    with S3Pool(regions="us-east-1", endpoint_url=fault_proxy.url) as pool:
        client = pool.regions.default
        client.create_bucket(Bucket="shelf")
        body = gzip.compress(numbers.randbytes(50_000))
        client.put_object(Bucket="shelf", Key="a", Body=body)
        for cut in [0, *(numbers.randrange(len(body)) for _ in range(10))]:
            fault_proxy.fault = lambda request, cut=cut: (
                Fault(cut=cut) if request.method == "GET" else None
            )
            with pytest.raises((HTTPClientError, OSError)):
                client.get_object(Bucket="shelf", Key="a")["Body"].read()
        fault_proxy.fault = failing()
        whole = client.get_object(Bucket="shelf", Key="a")["Body"].read()
        assert hashlib.sha256(whole).digest() == hashlib.sha256(body).digest()
