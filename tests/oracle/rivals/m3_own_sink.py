"""m3 with a sink of the user's own, which only appends: at least once."""

from work import INPUT, OUTPUT, QUEUE_SIZE, WORKERS, Sink, answer

from m3 import Backend, Pipeline


class Write(Backend):
    max_workers = 1

    def setup(self):
        self.sink = Sink()

    def process(self, data):
        self.sink.write(data + b"\n")


(
    Pipeline("file", path=INPUT, state=OUTPUT + ".state", checkpoint_interval=0.05)
    .transport(answer, workers=WORKERS, queue_size=QUEUE_SIZE)
    .backend(Write, queue_size=QUEUE_SIZE)
    .run()
)
