"""Objects of S3, read and written."""

import gzip
import hashlib
import json
import random
import secrets
from collections import Counter
from typing import ClassVar

import pytest
from aws_stages import REGION
from fault_proxy import SLOW_DOWN, Fault

from m3 import BatchError, Pipeline
from m3.aws.services import S3Pool
from m3.connectors._aws import bodies
from m3.connectors.s3 import S3Backend, S3Frontend
from m3.errors import CleanupError, InputChangedError, PlanError, RecordTooLongError, StateError
from m3.policies import Backoff
from m3.testing import BackendBattery, FrontendBattery

pytestmark = pytest.mark.once


def new_bucket(client):
    """Make a bucket of a name of its own; return that."""
    name = f"b-{secrets.token_hex(6)}"
    region = client.meta.region_name
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
    return name


def put(client, bucket, **objects):
    for key, body in objects.items():
        client.put_object(Bucket=bucket, Key=key, Body=body)


def contents(client, bucket, prefix=""):
    """Return the bodies of all objects by their keys."""
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {
        each["Key"]: client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
        for each in listed
    }


def entries(client, bucket):
    """Return what the list of a bucket says of its objects."""
    return [
        {
            "bucket": bucket,
            "key": each["Key"],
            "etag": each["ETag"],
            "size": each["Size"],
            "modified": each["LastModified"].isoformat(),
        }
        for each in client.list_objects_v2(Bucket=bucket)["Contents"]
    ]


@pytest.mark.usefixtures("on_moto")
@pytest.mark.timeout(300)
class Bucket:
    """What the batteries have in common: a bucket for each scenario."""

    def prepare(self):
        self.client = self.aws.client("S3Pool")
        self.bucket = new_bucket(self.client)
        self.fill()

    def fill(self):
        pass


class TestS3Lines(Bucket, FrontendBattery):
    def fill(self):
        put(self.client, self.bucket, a=b"1\n2\n3\n", b=b"", c=b"4\n5", d=b"6\n7\n8\n9\n10\n")

    def make(self):
        return self.aws.given(S3Frontend(bucket=self.bucket, encoding="utf-8"))

    def expected(self):
        return [str(number) for number in range(1, 11)]

    def grow_input(self):
        put(self.client, self.bucket, e=b"11\n")
        return ["11"]

    def change_input(self):
        put(self.client, self.bucket, a=b"x\n", c=b"y\n", d=b"z\n")


class TestS3CompressedLines(TestS3Lines):
    def fill(self):
        lines = gzip.compress(b"1\n2\n3\n4\n5\n6\n7\n"), gzip.compress(b"8\n9\n10")
        put(self.client, self.bucket, a=lines[0], c=lines[1], d=b"")


class TestS3Objects(Bucket, FrontendBattery):
    objects: ClassVar = {f"in/{number:02}": b"%d" % number for number in range(10)}

    def prepare(self):
        """Leave what is there: the items have the name of the bucket, and times."""
        if not hasattr(self, "bucket"):
            super().prepare()
        elif contents(self.client, self.bucket) != self.objects:
            self.fill()

    def fill(self):
        put(self.client, self.bucket, **self.objects)

    def make(self):
        frontend = S3Frontend(bucket=self.bucket, prefix="in/", read="object")
        return self.aws.given(frontend)

    def expected(self):
        bodies = contents(self.client, self.bucket, "in/")
        return [{**each, "body": bodies[each["key"]]} for each in entries(self.client, self.bucket)]

    def grow_input(self):
        put(self.client, self.bucket, **{"in/99": b"99"})
        return self.expected()[-1:]

    def change_input(self):
        put(self.client, self.bucket, **dict.fromkeys(self.objects, b"changed"))


class TestS3ObjectPerItem(Bucket, BackendBattery):
    def make(self):
        return self.aws.given(S3Backend(bucket=self.bucket, key="out/{id}.json"))

    def items(self):
        return [{"id": number, "name": f"item {number}"} for number in range(10)]

    def read_back(self):
        return [json.loads(body) for body in contents(self.client, self.bucket).values()]

    def unwritable(self):
        return {"name": "without an id"}


class TestS3LinesWritten(Bucket, BackendBattery):
    keeps_order = False

    def make(self):
        return self.aws.given(S3Backend(bucket=self.bucket, prefix="out/"))

    def read_back(self):
        bodies = contents(self.client, self.bucket).values()
        return [line for body in bodies for line in body.decode().splitlines()]

    def unwritable(self):
        return float("nan")

    def change_output(self):
        for key in contents(self.client, self.bucket):
            self.client.delete_object(Bucket=self.bucket, Key=key)


# -- reading through a connection that breaks


@pytest.fixture
def client(aws, moto):
    """Return a client of the server itself, which is empty."""
    return moto.client("S3Pool")


@pytest.fixture
def bucket(client):
    return new_bucket(client)


@pytest.fixture
def through(fault_proxy, monkeypatch):
    """Return what gives a stage a pool whose calls go through the proxy; no pause is made."""
    monkeypatch.setattr(bodies, "PAUSES", Backoff(initial=0.0))
    pool = S3Pool(connect=True, regions=[REGION], endpoint_url=fault_proxy.url)

    def give(stage):
        stage.s3 = pool
        return stage

    yield give
    pool.shutdown()


def is_of_object(request, bucket):
    """Return whether an object is asked for, and not the list of them."""
    is_read = request.method == "GET" and request.path.startswith(f"/{bucket}/")
    return is_read and "list-type" not in request.path


@pytest.mark.timeout(120)
def test_bodies_that_are_cut_off_are_read_to_their_end(client, bucket, through, fault_proxy):
    """Resets at random bytes of 200 objects: what is read has the hashes of what was written."""
    chance = random.Random(7)
    wanted = {}
    for number in range(200):
        body = chance.randbytes(chance.randrange(1, 200_000))
        client.put_object(Bucket=bucket, Key=f"{number:03}", Body=body)
        wanted[f"{number:03}"] = hashlib.sha256(body).hexdigest()

    cuts = Counter()

    def cut(request):
        cuts[request.path] += is_of_object(request, bucket)
        is_cut = 0 < cuts[request.path] <= 4 and chance.random() < 0.7
        return Fault(cut=chance.randrange(200_000)) if is_cut else None

    fault_proxy.fault = cut
    found = {}

    def take(item):
        found[item["key"]] = hashlib.sha256(item["body"]).hexdigest()

    frontend = S3Frontend(bucket=bucket, read="object", compression="none")
    Pipeline(through(frontend)).backend(take).run()
    assert found == wanted
    ranges = [each for each in fault_proxy.seen if "range" in each.headers]
    assert len(ranges) > 50
    assert all("if-match" in each.headers for each in ranges)


def test_lines_are_whole_where_a_body_is_cut_off(client, bucket, through, fault_proxy):
    """Each line comes once, also the one that the reset was in."""
    lines = [f"line {number}" for number in range(1000)]
    put(client, bucket, a="\n".join(lines).encode())
    cuts = iter([5000, 1, 3000])
    fault_proxy.fault = lambda request: (
        Fault(cut=next(cuts, None)) if is_of_object(request, bucket) else None
    )
    found = []
    frontend = S3Frontend(bucket=bucket, encoding="utf-8")
    Pipeline(through(frontend)).backend(found.append).run()
    assert found == lines


def test_an_object_that_is_replaced_while_it_is_read_ends_the_run(
    client, bucket, through, fault_proxy
):
    """What comes is never of two versions."""
    put(client, bucket, a=b"old\n" * 1000)
    reads = []

    def replace(request):
        if not is_of_object(request, bucket):
            return None
        reads.append(request)
        if len(reads) == 2:
            put(client, bucket, a=b"new\n" * 1000)
        return Fault(cut=1000) if len(reads) == 1 else None

    fault_proxy.fault = replace
    found = []
    pipeline = Pipeline(through(S3Frontend(bucket=bucket, encoding="utf-8")))
    with pytest.raises(Exception, match="was replaced while it was read") as caught:
        pipeline.backend(found.append).run()
    assert isinstance(caught.value.__cause__, InputChangedError)
    assert set(found) <= {"old"}


def test_a_body_that_never_comes_ends_the_run(client, bucket, through, fault_proxy):
    """After several attempts at the same byte, the error is that of the connection."""
    put(client, bucket, a=b"x" * 1000)
    fault_proxy.fault = lambda request: Fault(cut=0) if is_of_object(request, bucket) else None
    with pytest.raises(Exception, match="the connection broke 1,000 bytes"):
        Pipeline(through(S3Frontend(bucket=bucket))).backend(print).run()


def test_throttling_is_waited_for(client, bucket, through, fault_proxy):
    """503 SlowDown now and then: everything comes, once."""
    put(client, bucket, **{f"{number:02}": b"%d\n" % number for number in range(20)})
    slow = iter([True, True, False, True] + [False] * 100)
    fault_proxy.fault = lambda request: SLOW_DOWN if next(slow, False) else None
    found = []
    frontend = S3Frontend(bucket=bucket, encoding="utf-8")
    Pipeline(through(frontend)).backend(found.append).run()
    assert found == [str(number) for number in range(20)]


# -- reading


def read(moto, bucket, **options):
    found = []
    frontend = moto.given(S3Frontend(bucket=bucket, **options))
    report = Pipeline(frontend, on_error="skip").backend(found.append).run()
    return found, report


def test_what_is_too_long_is_a_failure(client, bucket, moto):
    """A line, or an object as a whole, beyond the limit fails alone."""
    put(client, bucket, a=b"short\n" + b"x" * 100, b=b"more\n")
    found, report = read(moto, bucket, limit=10)
    assert found == [b"short", b"more"]
    assert isinstance(report.item_errors[0].error, RecordTooLongError)
    found, report = read(moto, bucket, limit=10, read="object")
    assert [item["key"] for item in found] == ["b"]
    assert "s3://" in str(report.item_errors[0])


def test_what_is_decompressed_has_a_limit(client, bucket, moto):
    """An object that becomes suspiciously long ends the run, as a file does."""
    put(client, bucket, a=gzip.compress(bytes(5_000_000)))
    with pytest.raises(Exception, match="max_ratio"):
        read(moto, bucket)
    with pytest.raises(Exception, match="max_output"):
        read(moto, bucket, max_ratio=1e9, max_output=1000, read="object")


@pytest.mark.parametrize("options", [{"bucket": "another"}, {"prefix": "b"}])
def test_a_checkpoint_of_other_objects_is_refused(client, bucket, moto, options):
    """State that was kept of another bucket or prefix is not gone on with."""
    put(client, bucket, a=b"1\n2\n")
    first = moto.given(S3Frontend(bucket=bucket))
    first.wants_positions = True
    first.setup()
    checkpoint = first.checkpoint(next(iter(first.produce())).position)
    first.cleanup()
    other = moto.given(S3Frontend(**{"bucket": bucket, **options}))
    with pytest.raises(StateError, match=f"s3://{bucket}/a"):
        other.resume(checkpoint)


def test_more_objects_than_one_list_has_are_read(client, bucket, moto):
    """A list has 1,000 keys; what follows is asked for."""
    for number in range(1005):
        client.put_object(Bucket=bucket, Key=f"{number:04}", Body=b"")
    client.put_object(Bucket=bucket, Key="folder/", Body=b"")
    found, _ = read(moto, bucket, read="key", start_after="0001")
    assert [item["key"] for item in found] == [f"{number:04}" for number in range(2, 1005)]


def test_only_what_the_list_says_can_be_read(client, bucket, through, fault_proxy):
    """With read="key", no object is fetched."""
    put(client, bucket, a=b"1", b=b"22")
    found = []
    Pipeline(through(S3Frontend(bucket=bucket, read="key"))).backend(found.append).run()
    assert found == entries(client, bucket)
    assert not [each for each in fault_proxy.seen if is_of_object(each, bucket)]


def test_an_object_that_is_gone_is_left_out(client, bucket, through, fault_proxy, caplog):
    """Deleted between the list and the read: a log says so, and the others are read."""
    put(client, bucket, a=b"1\n", b=b"2\n")

    def delete(request):
        if request.path.startswith(f"/{bucket}/a"):
            client.delete_object(Bucket=bucket, Key="a")

    fault_proxy.fault = delete
    found = []
    Pipeline(through(S3Frontend(bucket=bucket))).backend(found.append).run()
    assert found == [b"2"]
    assert f"s3://{bucket}/a is gone" in caplog.text


# -- writing


def writing(backend):
    backend.setup()
    return backend


def test_a_large_object_is_sent_in_parts_with_checksums(client, bucket, through, fault_proxy):
    """Each part has a CRC-32, and the whole is what was written."""
    backend = writing(through(S3Backend(bucket=bucket, prefix="big-")))
    line = b"x" * 1_000_000
    for _ in range(20):
        backend.process_batch([line])
    backend.cleanup()
    (body,) = contents(client, bucket).values()
    assert body == (line + b"\n") * 20
    parts = [each for each in fault_proxy.seen if "partNumber" in each.path]
    assert len(parts) == 3
    for each in parts:
        assert "crc32" in str(each.headers).lower()


def test_an_upload_that_failed_leaves_nothing(client, bucket, through, fault_proxy):
    """Nobody pays for parts of what is never finished, and no object lacks lines."""
    backend = writing(through(S3Backend(bucket=bucket, prefix="big-")))
    fault_proxy.fault = lambda request: (
        Fault(400, "InvalidRequest") if "partNumber=2" in request.path else None
    )
    with pytest.raises(Exception, match="InvalidRequest"):
        backend.process_batch([b"x" * 20_000_000])
    with pytest.raises(Exception, match="InvalidRequest"):
        backend.process_batch([b"y"])
    backend.failed = True
    backend.cleanup()
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    assert contents(client, bucket) == {}


@pytest.mark.parametrize("status", [500, 200, 403])
def test_an_object_that_cannot_be_finished_at_the_end_leaves_no_upload(
    client, bucket, fault_proxy, status
):
    """S3 says so by a status, or by 200 and an error: the run fails, and what was sent is gone."""
    fault_proxy.fault = lambda request: (
        Fault(status, "InternalError")
        if request.method == "POST" and "uploadId" in request.path
        else None
    )
    once = {"retries": {"mode": "standard", "total_max_attempts": 1}}
    pool = S3Pool(regions=REGION, endpoint_url=fault_proxy.url, client_config=once)
    pipeline = Pipeline(["x" * 9_000_000], resources={S3Pool: pool})
    with pytest.raises(CleanupError, match="InternalError"):
        pipeline.backend(S3Backend, bucket=bucket, prefix="big-").run()
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    assert contents(client, bucket) == {}


def test_lines_of_an_upload_that_failed_are_not_passed_over(client, bucket, fault_proxy):
    """Those before the failure were counted as delivered: the run fails, whatever the policy."""
    fault_proxy.fault = lambda request: (
        Fault(400, "InvalidRequest") if "partNumber=2" in request.path else None
    )
    pool = S3Pool(regions=REGION, endpoint_url=fault_proxy.url)
    pipeline = Pipeline(["x" * 1_000_000] * 20, resources={S3Pool: pool})
    pipeline.backend(S3Backend, bucket=bucket, prefix="big-", batch=1, on_error="skip")
    with pytest.raises(CleanupError, match="InvalidRequest"):
        pipeline.run()
    assert contents(client, bucket) == {}


def test_uploads_of_a_run_that_died_are_aborted(client, bucket, moto):
    """When a run goes on, what the last one has left unfinished is thrown away."""
    backend = writing(moto.given(S3Backend(bucket=bucket, prefix="out/")))
    backend.resume(None)
    mark = backend.commit()
    others = client.create_multipart_upload(Bucket=bucket, Key="out/other-00000")["UploadId"]
    client.create_multipart_upload(Bucket=bucket, Key=f"out/{mark['writer']}-00000")
    writing(moto.given(S3Backend(bucket=bucket, prefix="out/"))).resume(mark)
    left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [each["UploadId"] for each in left] == [others]


def test_an_object_ends_when_it_is_large_enough(client, bucket, moto):
    """The lines of all objects, in the order of their keys, are what was written."""
    backend = moto.given(S3Backend(bucket=bucket, prefix="out/", suffix=".txt", object_size=100))
    lines = [f"line {number}" for number in range(50)]
    Pipeline(lines).backend(backend, batch=None).run()
    bodies_ = contents(client, bucket)
    assert len(bodies_) >= 1
    assert all(key.endswith(".txt") for key in bodies_)
    assert b"".join(bodies_.values()).decode().splitlines() == lines


def test_what_is_written_can_be_compressed(client, bucket, moto):
    """Both ways; the same item makes the same bytes."""
    for options in ({"key": "{id}"}, {"prefix": "lines-"}):
        backend = writing(moto.given(S3Backend(bucket=bucket, compression="gzip", **options)))
        backend.process_batch([{"id": 1}])
        backend.process_batch([{"id": 1}])
        backend.cleanup()
    one, lines = contents(client, bucket).values()
    assert gzip.decompress(one) == b'{"id":1}'
    assert gzip.decompress(lines) == b'{"id":1}\n' * 2
    assert client.get_object(Bucket=bucket, Key="1")["ContentEncoding"] == "gzip"


def test_objects_of_two_workers_do_not_meet(client, bucket, moto):
    """Each worker has objects of its own."""
    workers = [writing(moto.given(S3Backend(bucket=bucket, prefix="out/"))) for _ in range(2)]
    for number, backend in enumerate(workers):
        backend.process_batch([f"worker {number}"])
        backend.cleanup()
    assert sorted(contents(client, bucket).values()) == [b"worker 0\n", b"worker 1\n"]


@pytest.mark.parametrize("workers", [{"backend": 3}, {"frontend": 3, "backend": 0}])
def test_an_instance_with_a_prefix_has_one_worker(workers):
    """Several would write to one object at once; they are refused before anything runs."""
    pipeline = Pipeline(list, workers=workers.get("frontend", 1))
    pipeline.backend(S3Backend(bucket="b", prefix="out/"), workers=workers["backend"])
    with pytest.raises(PlanError, match="can have 1 worker"):
        pipeline.engine()


@pytest.mark.parametrize("shares_one", [False, True])
def test_several_workers_lose_nothing(aws, client, bucket, shares_one):
    """Each has an instance of the class; an instance with a key has nothing that they overwrite."""
    options = {"bucket": bucket, **({"key": "{n}"} if shares_one else {"prefix": "out/"})}
    pool = S3Pool(regions=REGION, endpoint_url=aws)
    pipeline = Pipeline([{"n": n} for n in range(200)], resources={S3Pool: pool})
    if shares_one:
        pipeline.backend(S3Backend(**options), workers=4)
    else:
        pipeline.backend(S3Backend, workers=4, object_size=100, **options)
    assert pipeline.run().delivered == 200
    bodies_ = contents(client, bucket).values()
    lines = [line for body in bodies_ for line in body.splitlines()]
    assert sorted(json.loads(line)["n"] for line in lines) == [*range(200)]


def test_the_body_of_an_object_can_be_a_field(client, bucket, moto):
    """What was read as a whole can be written as it was, under a key of its own."""
    backend = moto.given(S3Backend(bucket=bucket, key="copy/{key}", body="body"))
    backend = writing(backend)
    backend.process_batch([{"key": "a", "body": b"\x00\xff"}])
    with pytest.raises(BatchError, match="body"):
        backend.process_batch([{"key": "a"}])
    assert contents(client, bucket) == {"copy/a": b"\x00\xff"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "key"),
        ({"key": "{a}", "prefix": "b"}, "key"),
        ({"key": "constant"}, "no field"),
        ({"key": "{}"}, "name between braces"),
        ({"key": "{a"}, "a field of the item is written {name}"),
        ({"prefix": "a", "compression": "zip"}, "gzip"),
        ({"prefix": "a", "object_size": 0}, "object_size"),
    ],
)
def test_options_that_cannot_be_are_refused(options, says):
    """The message names the option and what can be."""
    with pytest.raises(ValueError, match=says):
        S3Backend(bucket="b", **options)


def test_a_bucket_that_is_not_there_fails_the_setup(client, moto):
    """Before any item is read or written."""
    for stage in (S3Frontend(bucket="no-such"), S3Backend(bucket="no-such", prefix="a")):
        with pytest.raises(Exception, match=r"NoSuchBucket|404"):
            moto.given(stage).setup()
