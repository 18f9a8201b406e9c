"""The pools that have names."""

import importlib
import re

import boto3
import pytest

from m3.aws import ServicePool, services
from m3.errors import UnknownNameError

pytestmark = pytest.mark.usefixtures("aws_environment")

MANGROVE = set(
    """
    Ec2Pool S3Pool EmrPool AutoscalePool DynamoDB2Pool DynamoDBPool RdsPool ElasticachePool
    RedshiftPool SimpleDBPool CloudFormationPool BeanstalkPool IamPool StsPool CloudSearchPool
    ElasticTranscoderPool SwfPool SqsPool SimpleNotificationPool SimpleEmailPool VpcPool ElbPool
    GlacierPool MechanicalTurkPool SupportPool
    """.split()  # noqa: SIM905 - as it stands in mangrove's list
)


def test_mangroves_names_are_there():
    """All 25 can be imported, also those of services that are gone."""
    assert set(services.__all__) >= MANGROVE
    assert len(MANGROVE) == 25


@pytest.mark.parametrize("name", services.__all__)
def test_each_is_connected_or_says_what_to_use(name):
    """Where boto3 has the service, its probe needs no parameters; where not, the error helps."""
    pool_class = getattr(services, name)
    if pool_class.service not in boto3.Session().get_available_services():
        with pytest.raises(UnknownNameError, match=re.escape(f"; use {pool_class.successor}")):
            pool_class()
        return
    pool = pool_class(connect=True)
    client = pool.regions[next(iter(pool.regions))]
    model = client.meta.service_model
    if pool.probe:
        operation = model.operation_model(client.meta.method_to_api_mapping[pool.probe])
        required = set(getattr(operation.input_shape, "required_members", []))
        assert required <= {"accountId"}  # which botocore fills in
    pool.shutdown()


@pytest.mark.parametrize("name", services.__all__)
def test_each_successor_exists(name):
    """The error's advice can be followed."""
    successor = getattr(services, name).successor
    if not successor:
        return
    expression = successor.rpartition(": ")[2]
    module = importlib.import_module("m3.aws.services")
    advised = eval(expression, {**vars(module), "ServicePool": ServicePool})
    advised()
