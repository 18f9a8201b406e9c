"""
Pools of the usual services, by name.

A pool of any other service that boto3 knows is ``ServicePool.of("rekognition")``.  Where
AWS winds a service down, ``successor`` is what the error names once boto3 has it no more.
"""

from m3.aws.pool import ServicePool

__all__ = (
    "AutoscalePool",
    "BeanstalkPool",
    "CloudFormationPool",
    "CloudSearchPool",
    "DynamoDB2Pool",
    "DynamoDBPool",
    "Ec2Pool",
    "ElasticTranscoderPool",
    "ElasticachePool",
    "ElbPool",
    "EmrPool",
    "GlacierPool",
    "IamPool",
    "KinesisPool",
    "MechanicalTurkPool",
    "RdsPool",
    "RedshiftPool",
    "S3Pool",
    "SimpleDBPool",
    "SimpleEmailPool",
    "SimpleNotificationPool",
    "SqsPool",
    "StsPool",
    "SupportPool",
    "SwfPool",
    "VpcPool",
)


class AutoscalePool(ServicePool):
    """Clients of Amazon EC2 Auto Scaling."""

    service = "autoscaling"
    probe = "describe_auto_scaling_groups"


class BeanstalkPool(ServicePool):
    """Clients of AWS Elastic Beanstalk."""

    service = "elasticbeanstalk"
    probe = "describe_applications"


class CloudFormationPool(ServicePool):
    """Clients of AWS CloudFormation."""

    service = "cloudformation"
    probe = "list_stacks"


class CloudSearchPool(ServicePool):
    """Clients of Amazon CloudSearch."""

    service = "cloudsearch"
    probe = "describe_domains"
    successor = "OpenSearch: ServicePool.of('opensearch')"


class DynamoDB2Pool(ServicePool):
    """Clients of what boto 2 called its second interface to DynamoDB."""

    service = "dynamodb2"
    successor = "DynamoDBPool"


class DynamoDBPool(ServicePool):
    """Clients of Amazon DynamoDB."""

    service = "dynamodb"
    probe = "list_tables"


class Ec2Pool(ServicePool):
    """Clients of Amazon EC2."""

    service = "ec2"
    probe = "describe_regions"


class ElasticTranscoderPool(ServicePool):
    """Clients of Amazon Elastic Transcoder, which AWS has closed."""

    service = "elastictranscoder"
    probe = "list_pipelines"
    successor = "MediaConvert: ServicePool.of('mediaconvert')"


class ElasticachePool(ServicePool):
    """Clients of Amazon ElastiCache."""

    service = "elasticache"
    probe = "describe_cache_clusters"


class ElbPool(ServicePool):
    """Clients of Elastic Load Balancing, of classic load balancers."""

    service = "elb"
    probe = "describe_load_balancers"


class EmrPool(ServicePool):
    """Clients of Amazon EMR."""

    service = "emr"
    probe = "list_clusters"


class GlacierPool(ServicePool):
    """Clients of Amazon S3 Glacier's own interface."""

    service = "glacier"
    probe = "list_vaults"
    successor = "the storage classes of S3: S3Pool"


class IamPool(ServicePool):
    """Clients of AWS Identity and Access Management, which is global."""

    service = "iam"
    probe = "list_account_aliases"


class KinesisPool(ServicePool):
    """Clients of Amazon Kinesis."""

    service = "kinesis"
    probe = "list_streams"


class MechanicalTurkPool(ServicePool):
    """Clients of Amazon Mechanical Turk."""

    service = "mturk"
    probe = "get_account_balance"


class RdsPool(ServicePool):
    """Clients of Amazon RDS."""

    service = "rds"
    probe = "describe_db_instances"


class RedshiftPool(ServicePool):
    """Clients of Amazon Redshift."""

    service = "redshift"
    probe = "describe_clusters"


class S3Pool(ServicePool):
    """Clients of Amazon S3."""

    service = "s3"
    probe = "list_buckets"


class SimpleDBPool(ServicePool):
    """Clients of Amazon SimpleDB."""

    service = "sdb"
    probe = "list_domains"
    successor = "DynamoDBPool"


class SimpleEmailPool(ServicePool):
    """Clients of Amazon SES."""

    service = "ses"
    probe = "get_send_quota"


class SimpleNotificationPool(ServicePool):
    """Clients of Amazon SNS."""

    service = "sns"
    probe = "list_topics"


class SqsPool(ServicePool):
    """Clients of Amazon SQS."""

    service = "sqs"
    probe = "list_queues"


class StsPool(ServicePool):
    """Clients of AWS Security Token Service."""

    service = "sts"
    probe = "get_caller_identity"


class SupportPool(ServicePool):
    """Clients of AWS Support, which is global."""

    service = "support"
    probe = "describe_severity_levels"


class SwfPool(ServicePool):
    """Clients of Amazon Simple Workflow Service."""

    service = "swf"


class VpcPool(ServicePool):
    """Clients of Amazon VPC, whose operations are EC2's."""

    service = "ec2"
    probe = "describe_vpcs"
