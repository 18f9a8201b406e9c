"""
Three classes and ``create()``, as programs for os-m3-engine are written.

    seq 5 | python examples/subclassing.py

``config`` is any object; Ctrl-C stops the engine, which first finishes what it has.
"""

import signal
import sys
from collections.abc import Iterator
from types import SimpleNamespace

from m3 import Backend, Frontend, Transport, create


class Numbers(Frontend[int]):
    """Reads a number per line."""

    def produce(self) -> Iterator[int]:
        for line in self.config.source:
            yield int(line)


class Power(Transport[int, str]):
    """Raises to the power that the configuration names."""

    def transport(self, data: int) -> str:
        return f"{data} to the power of {self.config.exponent} is {data**self.config.exponent}"


class Show(Backend[str]):
    """Prints, and says when it begins and ends."""

    def setup(self) -> None:
        print("ready", file=sys.stderr)

    def process(self, data: str) -> None:
        print(data)

    def cleanup(self) -> None:
        print("done", file=sys.stderr)


def main() -> None:
    """Build the engine, let Ctrl-C stop it, and run it to the end."""
    engine = create(
        frontend_cls=Numbers,
        transport_cls=Power,
        backend_cls=Show,
        app_config=SimpleNamespace(source=sys.stdin, exponent=3),
        engine_transport_config=SimpleNamespace(thread_num=2, queue_size=10),
    )
    signal.signal(signal.SIGINT, lambda _signum, _frame: engine.stop())
    engine.start()


if __name__ == "__main__":
    main()
