"""
Every snippet of mangrove's page, with m3's import paths and today's calls of boto3.

The page's own slips are put right: ``p.add.regions[...]`` is ``p.add_region(...)``, its
imaginary service is Amazon S3 under another class name, and the brackets of its last
declaration match.  Each is run as a program, and its output is what the page shows.
"""

import sys

import pytest

HELPERS = """
from m3.aws.services import Ec2Pool, S3Pool, SqsPool

ec2_pool = Ec2Pool(connect=True)  # As a default every regions will be connected
s3_pool = S3Pool(connect=True, regions=['us-east-1', 'us-west-1'])
sqs_pool = SqsPool(connect=True, default_region='us-east-1')

# Once your pool is created you can access the various regions specific
# client through the .regions property.
print(len(ec2_pool.regions['us_west_1'].describe_instances()['Reservations']))
print(ec2_pool.regions['us_east_1'].describe_images(Owners=['self'])['Images'])

# If you've set a default_region, you might access it directly.
print(sqs_pool.regions.default.list_queues().get('QueueUrls', []))

# Any time, you're able to add a region connection to the pool
s3_pool.add_region('us-east-2')
print(s3_pool.regions['us_east_2'].meta.region_name)
"""

OWN_POOL = """
from m3.aws.pool import ServicePool

class MySupperDupperPool(ServicePool):
    # Subclassing ServicePool is as easy as setting a class
    # attribute to the name of the related boto service class
    # name
    _aws_module_name = 's3'

p = MySupperDupperPool(connect=True, regions=['eu-west-1', 'us-west-1'])
print(p.regions['us_west_1'].list_buckets()['Buckets'])  # in this example, a S3 pool

p.add_region('ap-southeast-1')
print(p.regions['ap_southeast_1'].meta.region_name)
"""

SEVERAL = """
from m3.aws.pool import ServiceMixinPool

class WebRelatedServicesPool(ServiceMixinPool):
    _aws_services = {
        'ec2': {
            'regions': ['us-east-1', 'eu-west-1'],
            'default_region': 'eu-west-1',
        },
        's3': {
            'regions': '*',
            'default_region': 'eu-west-1',
        },
        'sqs': {}
    }

mixin_pool = WebRelatedServicesPool(connect=True, regions=['us_west_1', 'eu_west_1'])
print(mixin_pool.s3)
print(len(mixin_pool.ec2.regions['us_west_1'].describe_instances()['Reservations']))
"""


@pytest.mark.parametrize(
    ("snippet", "output"),
    [
        (HELPERS, ["0", "[]", "[]", "us-east-2"]),
        (OWN_POOL, ["[]", "ap-southeast-1"]),
        (SEVERAL, ["<S3Pool of s3: us-west-1, eu-west-1>", "0"]),
    ],
    ids=["helpers", "own pool", "several services"],
)
def test_snippet(snippet, output, aws, run_program, monkeypatch):
    """AWS is moto's server, which the environment names."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    done = run_program(sys.executable, "-c", snippet)
    assert (done.stdout.splitlines(), done.stderr) == (output, "")
