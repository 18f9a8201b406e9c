"""
The objects of a bucket are copied to a bucket in another region, compressed.

    python examples/copy_to_region.py SOURCE TARGET

Both buckets must exist, the first in us-east-1 and the second in eu-west-1.  The
clients of the two regions are made once, and used by all workers.
"""

import gzip
import sys
from collections.abc import Iterator
from typing import NamedTuple

from m3 import Backend, Frontend, Pipeline, Transport
from m3.aws.services import S3Pool


class Letter(NamedTuple):
    """An object on its way."""

    key: str
    body: bytes


class Keys(Frontend[str]):
    """The keys of all objects in a bucket."""

    s3: S3Pool

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def produce(self) -> Iterator[str]:
        client = self.s3.regions["us-east-1"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            yield from (found["Key"] for found in page.get("Contents", ()))


class Read(Transport[str, Letter]):
    """The object of each key."""

    s3: S3Pool

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def transport(self, key: str) -> Letter:
        found = self.s3.regions["us-east-1"].get_object(Bucket=self.bucket, Key=key)
        return Letter(key, found["Body"].read())


class Write(Backend[Letter]):
    """Puts each object, compressed, into a bucket."""

    s3: S3Pool

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def process(self, letter: Letter) -> None:
        body = gzip.compress(letter.body)
        client = self.s3.regions["eu-west-1"]
        client.put_object(Bucket=self.bucket, Key=f"{letter.key}.gz", Body=body)


def main() -> None:
    """Copy, and say how much that was."""
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/copy_to_region.py SOURCE TARGET")
    source, target = sys.argv[1:]
    regions = S3Pool(regions=["us-east-1", "eu-west-1"])
    report = (
        Pipeline(Keys, bucket=source, resources={S3Pool: regions})
        .transport(Read, bucket=source, workers=8)
        .backend(Write, bucket=target, workers=8)
        .run()
    )
    print(f"{report.delivered} objects copied")


if __name__ == "__main__":
    main()
