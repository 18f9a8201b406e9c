"""pypeln's thread stages."""

import pypeln
from work import QUEUE_SIZE, WORKERS, Sink, answer, lines


def write(line, sink):
    sink.write(line)


stage = pypeln.thread.map(answer, lines(), workers=WORKERS, maxsize=QUEUE_SIZE)
pypeln.thread.each(
    write, stage, workers=1, maxsize=QUEUE_SIZE, on_start=lambda: {"sink": Sink()}, run=True
)
