"""Which regions a pool has, and how they are named."""

import pytest

from m3.aws import ServicePool
from m3.aws.regions import meant
from m3.aws.services import IamPool, S3Pool, SqsPool, SupportPool
from m3.errors import ConfigError, NotConnectedError, UnknownNameError

pytestmark = pytest.mark.usefixtures("aws_environment")

KNOWN = {
    "aws": ["eu-north-1", "eu-west-1", "us-east-1"],
    "aws-cn": ["cn-north-1"],
    "aws-iso-e": ["eu-isoe-west-1"],
}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (None, KNOWN["aws"]),
        ("*", KNOWN["aws"]),
        (["*"], KNOWN["aws"]),
        ("us_east_1", ["us-east-1"]),
        (["us-east-1", "eu_west_1"], ["us-east-1", "eu-west-1"]),
        ("eu-*", ["eu-north-1", "eu-west-1"]),
        (["us-east-1", "eu-*", "*-1"], ["us-east-1", "eu-north-1", "eu-west-1"]),
        ("aws-cn", ["cn-north-1"]),
        ("cn-*", ["cn-north-1"]),
        (["aws-cn", "eu-west-1"], ["cn-north-1", "eu-west-1"]),
        ("eu-isoe-*", ["eu-isoe-west-1"]),
        ([], []),
    ],
)
def test_what_is_meant(wanted, names):
    """Names in both spellings, patterns, partitions, and lists of these, each region once."""
    assert meant(wanted, KNOWN, strict=True) == names


@pytest.mark.parametrize("wanted", ["us-eats-1", ["eu-west-1", "us-eats-1"]])
def test_an_unknown_region_names_the_nearest(wanted):
    """A typo is an error at once, which is a ValueError and says what is meant."""
    with pytest.raises(UnknownNameError, match=r"'us-eats-1'; did you mean 'us-east-1'") as caught:
        S3Pool(regions=wanted)
    assert isinstance(caught.value, ValueError)
    assert caught.value.near[0] == "us-east-1"


def test_a_pattern_that_fits_nothing_is_an_error():
    """It is not an empty pool."""
    with pytest.raises(UnknownNameError, match="mars"):
        meant("mars-*", KNOWN, strict=False)


@pytest.mark.parametrize("wanted", [123, [123]])
def test_a_region_is_a_string(wanted):
    """Anything else is a TypeError."""
    with pytest.raises(TypeError):
        S3Pool(regions=wanted)


def test_all_regions_are_those_of_botocore():
    """Without ``regions``, the pool has every region of the partition ``aws``."""
    import boto3

    pool = S3Pool(connect=True)
    assert list(pool.regions) == boto3.Session().get_available_regions("s3")
    assert len(pool.regions) > 30


@pytest.mark.parametrize("name", ["us-west-1", "us_west_1", "US-WEST-1"])
def test_a_region_has_several_names(name):
    """Both spellings are the same client, as an item, a method's argument and an attribute."""
    pool = S3Pool(connect=True, regions=["us-west-1", "us-east-1"])
    client = pool.regions["us-west-1"]
    assert client.meta.region_name == "us-west-1"
    assert name in pool.regions
    assert pool.regions[name] is pool.region(name) is pool.regions.get(name) is client
    assert pool.regions.us_west_1 is pool.us_west_1 is client


def test_regions_are_a_mapping():
    """Names in the order that was given, and clients."""
    pool = S3Pool(connect=True, regions=["us-west-1", "eu-west-1"])
    assert list(pool.regions) == ["us-west-1", "eu-west-1"]
    assert [client.meta.region_name for client in pool.regions.values()] == list(pool.regions)
    assert dict(pool.regions) == dict(pool.regions.items())
    assert pool.regions.get("us-east-1") is None
    assert "us-east-1" not in pool.regions
    assert 1 not in pool.regions


def test_an_unconnected_pool_says_so():
    """It has no regions; asking for one says how to connect it."""
    pool = S3Pool(regions=["us-east-1"])
    assert (list(pool.regions), dict(pool.regions)) == ([], {})
    for ask in (
        lambda: pool.region("us-east-1"),
        lambda: pool.regions["us-east-1"],
        lambda: pool.call("list_buckets"),
    ):
        with pytest.raises(NotConnectedError, match="pass connect=True") as caught:
            ask()
    assert isinstance(caught.value, LookupError)
    with pytest.raises(AttributeError):
        pool.us_east_1  # noqa: B018


@pytest.mark.parametrize("pool_class", [S3Pool, IamPool])
@pytest.mark.parametrize("regions", [[], (), iter(())])
def test_a_pool_has_a_region_at_least(pool_class, regions):
    """None at all is a mistake, which is told as the pool is made, also by an endpoint."""
    for options in ({}, {"endpoint_url": "http://localhost:9000"}):
        with pytest.raises(ConfigError, match=r"regions=\[\]: .* leave it out for all"):
            pool_class(regions=regions, **options)


def test_a_region_that_the_pool_lacks():
    """The error says which it has, and what is near."""
    pool = S3Pool(connect=True, regions=["us-west-1"])
    with pytest.raises(NotConnectedError, match=r"it has us-west-1; .* 'us-west-1'\?"):
        pool.region("us-west-2")
    with pytest.raises(AttributeError, match="us_west_2"):
        pool.regions.us_west_2  # noqa: B018


def test_regions_can_be_added():
    """Connected at once, also in a pool that is not; kept over a shutdown; none that is unknown."""
    pool = S3Pool(regions=["us-west-1"])
    pool.add_region("eu_west_1")
    assert list(pool.regions) == ["eu-west-1"]
    pool.connect()
    client = pool.regions["eu-west-1"]
    pool.add_region("eu-west-1")
    assert pool.regions["eu-west-1"] is client
    with pytest.raises(UnknownNameError, match="us-east-1"):
        pool.add_region("us-eest-1")
    pool.shutdown()
    assert list(pool.regions) == []
    pool.setup()
    assert list(pool.regions) == ["us-west-1", "eu-west-1"]
    pool.shutdown()


class TestDefault:
    def test_the_one_that_is_named(self):
        """By either spelling."""
        pool = SqsPool(connect=True, default_region="us_east_1")
        assert pool.regions.default is pool.regions["us-east-1"]

    def test_the_one_of_the_environment(self, monkeypatch):
        """AWS_DEFAULT_REGION counts, if the pool has it."""
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
        pool = SqsPool(connect=True)
        assert pool.regions.default.meta.region_name == "eu-west-3"
        with pytest.raises(NotConnectedError):
            SqsPool(connect=True, regions=["us-east-1", "us-east-2"]).regions.default  # noqa: B018

    def test_the_only_one(self):
        """Where there is one region, it is the default."""
        pool = SqsPool(connect=True, regions="us-east-2")
        assert pool.regions.default is pool.regions["us-east-2"]

    def test_none(self):
        """Where it could be any, asking for it is an error that says what to do."""
        with pytest.raises(NotConnectedError, match="default_region="):
            SqsPool(connect=True).regions.default  # noqa: B018

    def test_it_can_be_set(self):
        """To a region of the pool; another is a ValueError, what is no name a TypeError."""
        pool = SqsPool(connect=True, regions=["us-east-1", "us-east-2"])
        pool.regions.default = "us_east_2"
        assert pool.regions.default is pool.regions["us-east-2"]
        with pytest.raises(ValueError, match="eu-west-1"):
            pool.regions.default = "eu-west-1"
        with pytest.raises(TypeError):
            pool.regions.default = 123

    def test_it_must_be_one_of_the_pool(self):
        """As the pool is made, not when it is used."""
        with pytest.raises(ConfigError, match="'us-east-1' is none of its regions: eu-west-1"):
            SqsPool(regions=["eu-west-1"], default_region="us-east-1")


@pytest.mark.parametrize(
    ("pool_class", "wanted", "region"),
    [
        (IamPool, None, "us-east-1"),
        (IamPool, "*", "us-east-1"),
        (IamPool, ["eu-west-1"], "us-east-1"),
        (IamPool, "aws-cn", "cn-northwest-1"),
        (IamPool, ["aws-cn"], "cn-northwest-1"),
        (IamPool, "cn_north_1", "cn-northwest-1"),
        (IamPool, ["us-gov-*"], "us-gov-west-1"),
        (SupportPool, "us-gov-east-1", "us-gov-west-1"),
        (ServicePool.of("savingsplans"), "cn-north-1", "cn-north-1"),
        (SupportPool, None, "us-east-1"),
        (ServicePool.of("route53"), None, "us-east-1"),
        (ServicePool.of("cloudfront"), None, "us-east-1"),
    ],
)
def test_a_global_service_has_one_client(pool_class, wanted, region):
    """In the region that its partition uses for that; it is the default."""
    pool = pool_class(connect=True, regions=wanted)
    assert list(pool.regions) == [region]
    assert pool.regions.default is pool.regions[region]


def test_a_global_service_has_one_client_per_partition():
    """Of regions of several partitions, each stands for its own."""
    pool = IamPool(connect=True, regions=["eu-west-1", "cn-*", "us-east-1"])
    assert list(pool.regions) == ["us-east-1", "cn-northwest-1"]
    pool.add_region("aws-us-gov")
    assert list(pool.regions) == ["us-east-1", "cn-northwest-1", "us-gov-west-1"]


@pytest.mark.parametrize("wanted", ["us-eats-1", ["aws-cn", "us-eats-1"]])
def test_an_unknown_region_of_a_global_service_names_the_nearest(wanted):
    """It is not taken for the partition ``aws``."""
    with pytest.raises(UnknownNameError, match=r"'us-eats-1'; did you mean 'us-east-1'"):
        IamPool(regions=wanted)


@pytest.mark.parametrize("service", ["bedrock-runtime", "s3tables", "redshift-data"])
def test_a_service_that_is_not_in_the_tables_is_not_global(service):
    """It may be in any region, and is called in those that are named."""
    pool_class = ServicePool.of(service)
    pool = pool_class(connect=True, regions=["eu-west-1", "cn-north-1"])
    assert list(pool.regions) == ["eu-west-1", "cn-north-1"]
    assert pool.regions["eu-west-1"].meta.region_name == "eu-west-1"
    assert {"us-east-1", "eu-west-1"} <= {*pool_class(connect=True).regions}
    with pytest.raises(UnknownNameError, match="us-east-1"):
        pool_class(regions="us-eats-1")


@pytest.mark.parametrize("pool_class", [S3Pool, IamPool])
def test_a_service_elsewhere_may_have_regions_of_its_own(pool_class):
    """With an endpoint, names are taken as they are."""
    pool = pool_class(connect=True, regions=["garage"], endpoint_url="http://localhost:9000")
    assert pool.regions.garage.meta.endpoint_url == "http://localhost:9000"


def test_the_override_points():
    """A subclass may say which regions there are, and how to connect to one."""

    class Moons(ServicePool):
        service = "s3"

        def _get_module_regions(self):
            return ["moon-1", "moon-2"]

        def _connect_module_to_region(self, region):
            return f"connected to {region}"

    pool = Moons(connect=True, regions="moon-*")
    assert dict(pool.regions) == {"moon-1": "connected to moon-1", "moon-2": "connected to moon-2"}
    with pytest.raises(UnknownNameError, match="moon-1"):
        Moons(regions=["moon-3"])
    pool.shutdown()
