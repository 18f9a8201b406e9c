"""Threads and ``queue.Queue`` by hand; a run that is started again begins at the start."""

import queue
import threading

from work import QUEUE_SIZE, WORKERS, Sink, answer, lines

END = object()
items = queue.Queue(QUEUE_SIZE)
results = queue.Queue(QUEUE_SIZE)


def transform():
    while (line := items.get()) is not END:
        results.put(answer(line))


def consume():
    sink = Sink()
    while (line := results.get()) is not END:
        sink.write(line)


workers = [threading.Thread(target=transform) for _ in range(WORKERS)]
writer = threading.Thread(target=consume)
for thread in (*workers, writer):
    thread.start()
for line in lines():
    items.put(line)
for _ in workers:
    items.put(END)
for thread in workers:
    thread.join()
results.put(END)
writer.join()
