"""Hearing the messages of a queue, on a bus that has no shorter way."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m3.messaging.bus import Consumer
    from m3.messaging.entities import Message

__all__ = ("ListeningThread",)


class ListeningThread:
    """
    Receives from a consumer in a thread of its own; see :meth:`Bus.listen`.

    Args:
        consumer: what receives; closed in the end.
        hear: see there.
        ended: see there.
    """

    def __init__(
        self,
        consumer: "Consumer",
        hear: Callable[["Message"], object],
        ended: Callable[[Exception | None], object],
    ) -> None:
        self._consumer = consumer
        self._hear = hear
        self._ended = ended
        self._thread = threading.Thread(target=self._run, name="m3-listener", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            consumer.close()
            raise

    def close(self) -> None:
        """Hear nothing more; returns when the thread has ended."""
        self._consumer.stop()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            while (delivery := self._consumer.receive()) is not None:
                self._consumer.ack(delivery)
                self._hear(delivery.message)
        except Exception as raised:
            error = raised
        self._ended(error)
