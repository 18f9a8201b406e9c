"""The objects of a bucket, in the order of their keys."""

from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ("Found", "find", "listed")


class Found(NamedTuple):
    """An object, as the list of a bucket has it."""

    key: str
    etag: str
    """Different for different contents."""
    size: int
    modified: str
    """When it was written, in ISO 8601."""


def listed(client: Any, bucket: str, prefix: str, *, behind: str = "") -> Iterator[Found]:
    """
    Yield the objects whose keys begin with *prefix*, page by page, in the order of the keys.

    What the console shows as a folder, an empty object with a slash at its end, is none.

    Args:
        client: of S3.
        bucket: where they are.
        prefix: of their keys.
        behind: the key behind which to begin.
    """
    options = {"StartAfter": behind} if behind else {}
    while True:
        page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, **options)
        for each in page.get("Contents", ()):
            if each["Size"] or not each["Key"].endswith("/"):
                yield found_of(each)
        if not page["IsTruncated"]:
            return
        options = {"ContinuationToken": page["NextContinuationToken"]}


def find(client: Any, bucket: str, key: str) -> Found | None:
    """Return the object called *key*, or None; it needs no right to read it."""
    page = client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    found = [found_of(each) for each in page.get("Contents", ()) if each["Key"] == key]
    return found[0] if found else None


def found_of(entry: Any) -> Found:
    """Return an entry of a list."""
    return Found(entry["Key"], entry["ETag"], entry["Size"], entry["LastModified"].isoformat())
