"""Reading in blocks: to the end, and leaving nothing open."""

import socket

from m3.connectors._input.reading import Source, open_path


def test_a_read_without_data_is_waited_for_again(wakeup):
    """A descriptor that does not block, whose data went to somebody else, is no end of input."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        answers = iter([BlockingIOError, b"data", b""])

        def read(_size: int) -> bytes:
            answer = next(answers)
            if answer is BlockingIOError:
                raise BlockingIOError
            return answer

        theirs.send(b"x")
        source = Source("test", read, ours.fileno())
        assert list(source.blocks(wakeup)) == [b"data"]


def test_a_file_is_closed_after_use(tmp_path, descriptors):
    """Opening and leaving a path leaves no descriptor behind."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    before = descriptors()
    with open_path(path):
        assert len(descriptors()) == len(before) + 1
    assert descriptors() == before
