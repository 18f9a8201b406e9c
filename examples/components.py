"""
A service of four components, which a signal ends in good order.

    python examples/components.py

The database and the queue come up together, then what needs them; everything
goes down in reverse.  Here the service ends itself after some orders; press
Ctrl-C while it runs, and it ends the same way.
"""

import asyncio
import sqlite3

from m3 import Component, Conductor


class Database(Component):
    """A database; its methods are plain, and run in threads."""

    def setup(self) -> None:
        self.connection = sqlite3.connect(":memory:", check_same_thread=False)
        self.connection.execute("CREATE TABLE orders (number INTEGER)")

    def shutdown(self) -> None:
        self.connection.close()

    def health(self) -> None:
        self.connection.execute("SELECT 1")


class Queue(Component):
    """A queue in memory; its methods are coroutines."""

    async def setup(self) -> None:
        self.orders: asyncio.Queue[int] = asyncio.Queue(10)

    async def shutdown(self) -> None:
        await self.orders.join()


class Worker(Component):
    """Takes orders from the queue and stores them."""

    database: Database
    queue: Queue

    async def setup(self) -> None:
        self.task = asyncio.create_task(self.work())

    async def work(self) -> None:
        while True:
            number = await self.queue.orders.get()
            self.database.connection.execute("INSERT INTO orders VALUES (?)", (number,))
            self.queue.orders.task_done()

    async def shutdown(self) -> None:
        await self.queue.orders.join()
        self.task.cancel()


class Shop(Component):
    """Lets orders come in."""

    queue: Queue
    worker: Worker

    async def setup(self) -> None:
        self.task = asyncio.create_task(self.open())

    async def open(self) -> None:
        for number in range(config["orders"]):
            await self.queue.orders.put(number)
        await self.queue.orders.join()
        conductor.stop()

    async def shutdown(self) -> None:
        self.task.cancel()
        stored = self.worker.database.connection.execute("SELECT count(*) FROM orders")
        print(f"{stored.fetchone()[0]} orders are stored")


config = {"orders": 25}
conductor = Conductor(config)
conductor.add(Shop)

if __name__ == "__main__":
    conductor.serve()
    for node in conductor.graph().nodes:
        print(f"{node.name} needed {', '.join(node.needs) or 'nothing'}; it is {node.state}")
