"""
An ``async`` stage: one thread, a hundred conversations at once.

    python examples/async_stage.py

The other side is an echo server on this machine that takes its time.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from m3 import Pipeline, Transport

DELAY = 0.02


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what came, after a while."""
    line = await reader.readline()
    await asyncio.sleep(DELAY)
    writer.write(line)
    await writer.drain()
    writer.close()


class Ask(Transport[int, str]):
    """Sends a number to the server and waits for it to come back."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def transport(self, data: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"%d\n" % data)
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line.decode().strip()


@contextmanager
def server() -> Iterator[int]:
    """Run the echo server in a thread of its own; yields its port."""
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listening.close()
        loop.run_until_complete(listening.wait_closed())
        loop.close()


def main(count: int = 300) -> None:
    """Ask *count* times, a hundred at once, and compare with one after the other."""
    answers: list[str] = []
    with server() as port:
        report = (
            Pipeline(range(count))
            .transport(Ask, port=port, concurrency=100, ordering="input")
            .backend(answers.append)
            .run()
        )
    assert answers == [str(number) for number in range(count)]
    print(f"{count} answers in {report.wall:.2f} s; one by one: {count * DELAY:.0f} s or more")


if __name__ == "__main__":
    main()
