"""Bodies of messages: what is written is read, and nothing else is."""

import gzip
import pickle
import tracemalloc
import zlib

import pytest

from m3.errors import BodyError
from m3.messaging import Message
from m3.messaging.bodies import BYTES, JSON, TEXT, Bodies, Format

VALUES = (None, True, 0, -1, 1.5, 10**30, "", "ä \N{SNOWMAN} \0", [], {}, [1, {"a": [None]}])


@pytest.mark.parametrize("value", VALUES)
def test_json_comes_back(value):
    """What JSON has is written and read back as the same, compressed or not."""
    for bodies in (Bodies(), Bodies(compress_from=0)):
        message = bodies.dumps(value, correlation_id="1")
        assert bodies.loads(message) == value
        assert (message.content_type, message.correlation_id) == ("application/json", "1")


@pytest.mark.parametrize(("form", "value"), [(TEXT, "ä"), (BYTES, b"\0\xff"), (BYTES, b"")])
def test_other_formats_come_back(form, value):
    """A format that was named is read and written."""
    bodies = Bodies(form, JSON)
    assert bodies.loads(bodies.dumps(value)) == value
    assert bodies.loads(Bodies().dumps([1])) == [1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"x", "\ud800"])
def test_what_json_has_not_is_refused(value):
    """A value that would not come back is an error, which says what it is."""
    with pytest.raises(BodyError, match="cannot be written as application/json"):
        Bodies().dumps(value)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"NaN", b"[1] 2", b"\xff", b"[" * 100_000, b"1" * 5000, b"-Infinity"]
)
def test_what_is_no_json_is_refused(body):
    """Whatever a body is, reading it raises nothing else."""
    with pytest.raises(BodyError):
        Bodies().loads(Message(body=body))


def test_pickles_are_not_read(tmp_path):
    """A pickle is refused without a look at it, unless its format was named."""

    class Touch:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    body = pickle.dumps(Touch())
    for kind in ("application/x-python-serialize", "application/json", "pickle", ""):
        with pytest.raises(BodyError):
            Bodies().loads(Message(body=body, content_type=kind))
    assert not (tmp_path / "touched").exists()

    own = Format("application/x-python-serialize", pickle.dumps, pickle.loads)
    assert Bodies(own).loads(Bodies(own).dumps({1, 2})) == {1, 2}


def test_the_type_may_have_parameters():
    """``application/json; charset=utf-8`` is JSON, in capitals too."""
    message = Message(body=b"1", content_type="Application/JSON; charset=utf-8")
    assert Bodies().loads(message) == 1


def test_long_bodies_are_refused():
    """A body over the limit is neither written nor read."""
    bodies = Bodies(limit=10)
    assert bodies.loads(bodies.dumps("x" * 8)) == "x" * 8
    with pytest.raises(BodyError, match="more than the 10 bytes"):
        bodies.dumps("x" * 9)
    with pytest.raises(BodyError, match="more than the 10 bytes"):
        bodies.loads(Message(body=b'"' + b"x" * 9 + b'"'))


def test_a_bomb_is_not_unpacked():
    """A compressed body that would be longer than the limit takes little more memory than that."""
    packer = zlib.compressobj()
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    message = Message(body=bomb, headers={"compression": "application/x-gzip"})
    tracemalloc.start()
    try:
        with pytest.raises(BodyError, match="more than the"):
            Bodies(limit=2**20).loads(message)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress])
def test_compressed_bodies(pack):
    """zlib and gzip are read; what is damaged, cut off, or of another kind is refused."""
    packed = pack(b'"' + b"x" * 1000 + b'"')
    headers = {"compression": "gzip"}
    assert Bodies().loads(Message(body=packed, headers=headers)) == "x" * 1000
    for body in (packed[:-5], b"x" + packed, b""):
        with pytest.raises(BodyError):
            Bodies().loads(Message(body=body, headers=headers))
    for other in ("application/x-lzma", 7, ["gzip"]):
        with pytest.raises(BodyError, match="gzip is"):
            Bodies().loads(Message(body=packed, headers={"compression": other}))
