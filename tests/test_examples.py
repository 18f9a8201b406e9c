"""Each program in ``examples/`` does what its docstring says."""

import gzip
import hashlib
import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).parent.parent / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.fixture
def example(run_program):
    """Return a function that runs an example and returns its output, free of errors."""

    def run(name, *arguments, stdin=""):
        done = run_program(sys.executable, EXAMPLES / name, *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def test_every_example_has_a_test():
    """An example that no test runs would rot."""
    tested = {f"{name.removeprefix('test_')}.py" for name in globals() if name.startswith("test_")}
    assert set(PROGRAMS) <= tested


def test_word_count(example, tmp_path):
    """The words of all files are counted together."""
    for name, text in (("a", "one two two"), ("b", "two three\nthree three")):
        (tmp_path / name).write_text(text)
    counts = example("word_count.py", "a", "b").stdout.splitlines()
    assert sorted(line.split() for line in counts) == [["1", "one"], ["3", "three"], ["3", "two"]]


def test_log_report(example):
    """Each line of the log is failing, filtered or unreadable, and counted as that."""
    done = example("log_report.py")
    failures = json.loads(done.stdout)
    assert sum(failures.values()) == 201
    assert done.stderr == "1503 lines: 201 failing requests, 1299 others, 3 unreadable\n"


def test_fetch_pages(example):
    """Pages fetched by several workers come in the order of the requests."""
    assert example("fetch_pages.py").stdout.startswith("fetched 200 pages, in order;")


def test_hash_files(example, tmp_path):
    """Every file is hashed, and the lines are in the order of the names."""
    for name in ("a", "b/c", "d"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode() * 300_000)
    expected = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}"
        for path in (tmp_path / "a", tmp_path / "b/c", tmp_path / "d")
    ]
    assert example("hash_files.py", tmp_path).stdout.splitlines() == expected


def test_subclassing(example):
    """The classes get their config, and are set up and cleaned up around the work."""
    done = example("subclassing.py", stdin="1\n2\n3\n")
    assert sorted(line.split()[-1] for line in done.stdout.splitlines()) == ["1", "27", "8"]
    assert done.stderr == "ready\ndone\n"


def test_embedded(example):
    """The program goes on while the engine runs, and all of its jobs are done."""
    assert example("embedded.py").stdout.splitlines() == [
        "started: True; the program goes on",
        "['ARE', 'DONE', 'ELSEWHERE', 'JOBS', 'THESE']",
        "5 of 5 delivered; stopped: True",
    ]


def test_async_stage(example):
    """Answers that come together stay in order."""
    assert example("async_stage.py").stdout.startswith("300 answers in ")


def test_backend_pool(example, tmp_path):
    """The same pipeline writes to the storage that was chosen, which is closed in the end."""
    assert example("backend_pool.py", "memory").stdout == "memory: 26 texts are forgotten\n"
    assert example("backend_pool.py", "folder", "out").stdout == "folder: 26 files are in it\n"
    assert (tmp_path / "out" / "z").read_text() == "z"


def test_services(example):
    """Orders are placed, the stock is filled up, and a remote error is told."""
    assert example("services.py").stdout.splitlines() == [
        "nut sold, 3 left",
        "nut sold, 2 left",
        "nut sold, 11 left",
        "RemoteError LookupError no bolt left",
    ]


def test_copy_to_region(example, aws, monkeypatch):
    """All objects are at the other end, compressed."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    client = boto3.Session().client("s3", "us-east-1")
    for bucket in ("here", "there"):
        client.create_bucket(Bucket=bucket)
    for number in range(20):
        client.put_object(Bucket="here", Key=f"{number}", Body=b"letter %d" % number)
    assert example("copy_to_region.py", "here", "there").stdout == "20 objects copied\n"
    copied = client.get_object(Bucket="there", Key="7.gz")["Body"].read()
    client.close()
    assert gzip.decompress(copied) == b"letter 7"


@pytest.mark.parametrize(
    ("name", "arguments", "usage"),
    [
        ("backend_pool.py", ["folder"], "memory | folder ROOT"),
        ("backend_pool.py", ["memory", "x"], "memory | folder ROOT"),
        ("backend_pool.py", ["disk"], "memory | folder ROOT"),
        ("copy_to_region.py", [], "SOURCE TARGET"),
        ("copy_to_region.py", ["here"], "SOURCE TARGET"),
    ],
)
def test_usage(run_program, name, arguments, usage):
    """An example without what it needs says how it is called."""
    done = run_program(sys.executable, EXAMPLES / name, *arguments)
    assert done.returncode == 1
    assert done.stderr == f"usage: python examples/{name} {usage}\n"


def test_components(example):
    """Everything comes up in order, serves, and goes down in order."""
    assert example("components.py").stdout.splitlines() == [
        "25 orders are stored",
        "Queue needed nothing; it is stopped",
        "Database needed nothing; it is stopped",
        "Worker needed Database, Queue; it is stopped",
        "Shop needed Queue, Worker; it is stopped",
    ]
