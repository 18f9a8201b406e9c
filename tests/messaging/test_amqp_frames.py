"""What is received is cut into AMQP's frames, however it arrives."""

import socket
import struct
import threading
from itertools import pairwise

import pytest
from amqp.exceptions import UnexpectedFrame
from hypothesis import given
from hypothesis import strategies as st

from m3._wire import Frames
from m3.errors import BusError
from m3.messaging import connect

LONGEST = 200


def frames_of_a_connection():
    return Frames(UnexpectedFrame)


def written(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


@given(
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=LONGEST))),
    st.lists(st.integers(0, 400)),
)
def test_frames_are_the_same_in_any_pieces(frames, cuts):
    """Every frame is taken when its last byte is there, and not before."""
    data = b"".join(written(*frame) for frame in frames)
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    whole, taken = frames_of_a_connection(), []
    for begin, end in pairwise(places):
        whole.add(data[begin:end])
        while (frame := whole.take(LONGEST)) is not None:
            taken.append(frame)
    assert taken == frames


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", written(1, 0, bytes(LONGEST + 1)), b"\x01" * 300]
)
def test_what_is_no_frame(data):
    """What cannot be a frame is refused before anything is waited for, or kept in memory."""
    frames = frames_of_a_connection()
    frames.add(data)
    with pytest.raises(UnexpectedFrame):
        frames.take(LONGEST)


def test_a_frame_without_its_end():
    """A frame ends as it should."""
    frames = frames_of_a_connection()
    frames.add(written(1, 0, b"abc")[:-1] + b"x")
    with pytest.raises(UnexpectedFrame, match="ends with 0x78"):
        frames.take(LONGEST)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x00"])
def test_a_server_of_something_else(answer):
    """A server that does not speak AMQP is an error that names it, at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            client, _ = server.accept()
            with client:
                client.recv(8)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        with pytest.raises(BusError, match=f"127.0.0.1:{port}: "):
            connect(f"amqp://127.0.0.1:{port}").setup()
        thread.join()
