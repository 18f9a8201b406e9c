"""
Two services that call each other and tell each other what happens.

    python examples/services.py
    python examples/services.py amqp://guest:guest@localhost

Orders are placed over RPC; the stock says when something runs low, and the orders
service, which handles that event, orders more of it.  Without an argument the bus is
in memory.
"""

import sys
import threading
from typing import ClassVar

from m3.services import (
    ClusterRpcProxy,
    Event,
    EventDispatcher,
    RemoteError,
    Service,
    event_handler,
    rpc,
    run_services,
)

LOW = 2


class RunningLow(Event):
    """Dispatched when there are few left of a thing."""

    type = "low"


class Stock:
    """Knows how many there are of each thing."""

    name = "stock"
    dispatch = EventDispatcher()
    counts: ClassVar = {"nut": 4}
    lock = threading.Lock()

    @rpc(expected_exceptions=LookupError)
    def take(self, thing: str) -> int:
        """Take one, and return how many are left."""
        with self.lock:
            if not self.counts.get(thing):
                raise LookupError(f"no {thing} left")
            self.counts[thing] -= 1
            left = self.counts[thing]
        if left == LOW:
            self.dispatch(RunningLow(thing))
        return left

    @rpc
    def add(self, thing: str, count: int) -> None:
        """Add some."""
        with self.lock:
            self.counts[thing] += count


class Orders:
    """Sells things, and sees to it that there are more."""

    name = "orders"
    stock = Service("stock")
    filled_up = threading.Event()

    @rpc(expected_exceptions=RemoteError)
    def place(self, thing: str) -> str:
        """Sell one."""
        return f"{thing} sold, {self.stock.take(thing)} left"

    @event_handler("stock", "low")
    def fill_up(self, thing: str) -> None:
        """Order more."""
        self.stock.add(thing, 10)
        self.filled_up.set()


def main() -> None:
    """Sell nuts until they run low, and once more when there are new ones."""
    config = {"AMQP_URI": sys.argv[1] if len(sys.argv) > 1 else "memory://"}
    with run_services(config, Stock, Orders), ClusterRpcProxy(config) as cluster:
        for _ in range(2):
            print(cluster.orders.place("nut"))
        Orders.filled_up.wait()
        print(cluster.orders.place("nut"))
        try:
            cluster.orders.place("bolt")
        except RemoteError as error:
            print(error)


if __name__ == "__main__":
    main()
