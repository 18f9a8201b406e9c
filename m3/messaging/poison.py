"""Poison messages: whoever receives one comes to an end, and so does the next one."""

from m3.errors import Reject
from m3.messaging.entities import Delivery

__all__ = ("MOST_DELIVERIES", "poison_in")

MOST_DELIVERIES = 20
"""How often a message is delivered at most, which is what RabbitMQ 4 has for quorum queues."""


def poison_in(delivery: Delivery, most: int = MOST_DELIVERIES) -> Reject | None:
    """Return why a message is not tried once more, if it has come more often than *most*."""
    if delivery.attempts <= max(most, MOST_DELIVERIES):
        return None
    times = delivery.attempts - 1
    return Reject(
        f"a message in {delivery.queue!r} was delivered {times} times, and whoever had it has "
        "never said what became of it; it may be what kills them, so it is not tried again"
    )
