"""
The same, with a file that says how many lines were read.

It is written every 100 lines, with a rename, and the next run goes on there:
what people add when they start to care.
"""

import os
import queue
import threading

from work import OUTPUT, QUEUE_SIZE, WORKERS, Sink, answer, lines

END = object()
OFFSET = OUTPUT + ".offset"
items = queue.Queue(QUEUE_SIZE)
results = queue.Queue(QUEUE_SIZE)


def transform():
    while (line := items.get()) is not END:
        results.put(answer(line))


def consume():
    sink = Sink()
    while (line := results.get()) is not END:
        sink.write(line)


def remember(number):
    with open(OFFSET + ".new", "w") as file:
        file.write(str(number))
    os.replace(OFFSET + ".new", OFFSET)


first = 0
if os.path.exists(OFFSET):
    with open(OFFSET) as file:
        first = int(file.read())
workers = [threading.Thread(target=transform) for _ in range(WORKERS)]
writer = threading.Thread(target=consume)
for thread in (*workers, writer):
    thread.start()
for number, line in enumerate(lines()):
    if number >= first:
        items.put(line)
        if number % 100 == 0:
            remember(number)
for _ in workers:
    items.put(END)
for thread in workers:
    thread.join()
results.put(END)
writer.join()
