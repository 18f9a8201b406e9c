"""Pools as their users have them: clients of regions, several services, resources of m3."""

import threading
from unittest.mock import Mock

import pytest

from m3.aws import ServiceMixinPool, ServicePool
from m3.aws.services import S3Pool
from m3.components.component import Component
from m3.errors import ConfigError, UnknownNameError

REGIONS = ["us-east-1", "eu-west-1", "ap-southeast-2"]


class Store(ServiceMixinPool):
    services = {
        "s3": {"regions": ["us-east-1", "eu-west-1"], "default_region": "us-east-1"},
        "sqs": {"regions": "eu-*", "default_region": "eu-west-1"},
    }


def test_a_client_per_region(aws):
    """What is made through the client of a region is there and nowhere else."""
    with ServicePool.of("sqs")(regions=REGIONS, endpoint_url=aws) as pool:
        for name, client in pool.regions.items():
            client.create_queue(QueueName=f"queue-{name}")
        for name, client in pool.regions.items():
            (url,) = client.list_queues()["QueueUrls"]
            assert url.endswith(f"queue-{name}")


def test_it_is_a_component(aws):
    """``setup`` connects it, ``shutdown`` closes it, and then it can be set up again."""
    pool = S3Pool(regions=REGIONS, endpoint_url=aws)
    assert isinstance(pool, Component)
    for _ in range(2):
        pool.setup()
        assert list(pool.regions) == REGIONS
        pool.regions["eu-west-1"].list_buckets()
        pool.shutdown()
        assert list(pool.regions) == []


def test_clients_that_were_made_before_are_made_anew_for_more_threads(aws):
    """Each thread has a connection, also where the pool was used before it was set up."""
    pool = S3Pool(connect=True, regions="us-east-1", endpoint_url=aws)
    pool.add_region("eu-west-1")
    pool.regions.default = "eu-west-1"
    before = pool.regions.default
    for threads, connections, is_same in [(8, 10, True), (24, 24, False), (12, 24, True)]:
        pool.threads = threads
        pool.setup()
        assert list(pool.regions) == ["us-east-1", "eu-west-1"]
        assert (pool.regions.default is before) is is_same
        before = pool.regions.default
        assert before.meta.config.max_pool_connections == connections
    before.list_buckets()
    pool.shutdown()


def test_any_service_by_name(aws):
    """``of`` gives one class per service, which can stand in an annotation."""
    assert ServicePool.of("kinesis") is ServicePool.of("kinesis")
    assert ServicePool.of("kinesis").__name__ == "KinesisPool"
    pool = ServicePool.of("kinesis")(connect=True, regions="us-east-1", endpoint_url=aws)
    assert pool.regions.default.list_streams()["StreamNames"] == []
    pool.shutdown()


@pytest.mark.usefixtures("aws_environment")
def test_an_unknown_service_names_the_nearest():
    """As the pool is made; a mixin pool too."""
    with pytest.raises(
        UnknownNameError, match="no service 'rekogniton'; did you mean 'rekognition'"
    ):
        ServicePool.of("rekogniton")()
    with pytest.raises(UnknownNameError, match="did you mean 'dynamodb'"):
        type("Mixed", (ServiceMixinPool,), {"services": {"dynamdb": {}}})()


@pytest.mark.usefixtures("aws_environment")
@pytest.mark.parametrize(
    ("pool", "shown"),
    [
        (S3Pool, "<S3Pool of s3: not connected>"),
        (lambda: S3Pool(True, "us-east-1"), "<S3Pool of s3: us-east-1>"),
        (lambda: S3Pool(True).regions, "<regions of S3Pool: 34 regions>"),
        (Store, "<Store of s3, sqs>"),
    ],
)
def test_how_pools_are_shown(pool, shown):
    """By their service and their regions."""
    assert repr(pool()) == shown


@pytest.mark.usefixtures("aws_environment")
def test_a_class_needs_a_service():
    """ServicePool itself is none; the error says what to do."""
    with pytest.raises(UnknownNameError, match=r"ServicePool\.of"):
        ServicePool()


@pytest.mark.usefixtures("aws_environment")
def test_a_fake_is_handed_out_as_it_is():
    """What an override returns is the client, whatever attributes it pretends to have."""
    fake = Mock()

    class Faked(S3Pool):
        def _connect_module_to_region(self, region):
            return fake

    with Faked(regions="us-east-1") as pool:
        assert pool.regions.default is fake
    fake.close.assert_called_once_with()


class TestMixin:
    def test_its_services_are_attributes(self, aws):
        """Each with the regions and the default that the class declares."""
        pool = Store(connect=True, endpoint_url=aws)
        assert list(pool.s3.regions) == ["us-east-1", "eu-west-1"]
        assert pool.s3.regions.default.meta.region_name == "us-east-1"
        assert len(pool.sqs.regions) > 5
        assert pool.sqs.eu_west_1 is pool.sqs.regions.default
        pool.s3.regions.default.list_buckets()
        pool.shutdown()
        assert (list(pool.s3.regions), list(pool.sqs.regions)) == ([], [])

    def test_connecting_it_connects_them(self, aws):
        """mangrove's never did; without ``connect`` they are connected later."""
        pool = Store(endpoint_url=aws)
        assert list(pool.s3.regions) == []
        pool.connect()
        assert "us-east-1" in pool.s3.regions
        pool.shutdown()
        pool.threads = 32
        pool.setup()
        assert pool.s3.us_east_1.meta.config.max_pool_connections == 32
        pool.health()
        pool.shutdown()

    def test_a_service_is_added(self, aws):
        """It has the options of the others, unless it is given its own (mangrove: KeyError)."""
        pool = Store(connect=True, endpoint_url=aws)
        added = pool.add_service("dynamodb", connect=True, regions=["eu-west-3"])
        assert pool.dynamodb is added
        assert added.regions.default.meta.endpoint_url == aws
        assert pool.add_service("cognito-idp") is pool.cognito_idp
        pool.shutdown()
        assert list(added.regions) == []

    @pytest.mark.usefixtures("aws_environment")
    @pytest.mark.parametrize("service", ["connect", "config", "health"])
    def test_a_service_that_is_called_like_something_of_it_is_refused(self, service):
        """It would take the place of that; the error says how to have a pool of it."""
        declared = type("Wrong", (ServiceMixinPool,), {"services": {service: {}}})
        for make in (declared, lambda: Store().add_service(service)):
            with pytest.raises(ConfigError, match=rf"of\('{service}'\)") as caught:
                make()
        assert str(caught.value).startswith("Store: ")
        assert ServicePool.of(service)().service == service

    @pytest.mark.usefixtures("aws_environment")
    @pytest.mark.parametrize("regions", [["eu-west-1"], "abc 123"])
    def test_a_wrong_declaration_is_a_value_error(self, regions):
        """A default that is none of the regions, and a text that is no region."""
        declared = {"s3": {"regions": regions, "default_region": "us-east-1"}}
        with pytest.raises(ValueError, match=r"none of its regions|no region"):
            type("Wrong", (ServiceMixinPool,), {"services": declared})()

    @pytest.mark.usefixtures("aws_environment")
    def test_an_unknown_option_is_a_type_error(self):
        """It is not ignored."""
        with pytest.raises(TypeError, match="'region'"):
            type("Wrong", (ServiceMixinPool,), {"services": {"s3": {"region": "us-east-1"}}})()


def test_one_class_for_two_threads():
    """Threads that ask for the class of a service at once get the same one."""
    classes = []
    others = []

    def ask():
        classes.append(ServicePool.of(Name("threads-test")))

    class Name(str):
        __slots__ = ()

        def title(self):
            if not others:
                others.append(threading.Thread(target=ask))
                others[0].start()
                others[0].join(0.1)
            return super().title()

    ask()
    others[0].join(10)
    assert len(classes) == 2
    assert classes[0] is classes[1]


def test_a_client_that_is_made_during_the_shutdown():
    """A client that is being made when the pool is shut down is closed as well."""
    client = Mock()

    class Slow(S3Pool):
        def _connect_module_to_region(self, region):
            self.shutdown()
            return client

    pool = Slow(connect=True, regions=["eu-west-1"])
    assert pool.regions["eu-west-1"] is client
    client.close.assert_called_once_with()
