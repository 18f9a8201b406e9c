"""m3 with its own sink for files: effectively once."""

from work import INPUT, OUTPUT, QUEUE_SIZE, WORKERS, Faults, answer

from m3 import Pipeline
from m3.connectors.file import FileBackend


class Write(FileBackend):
    """The ready-made sink, which fails as those of the others do."""

    def setup(self):
        self.faults = Faults()
        super().setup()

    def process_batch(self, items):
        for item in items:
            self.faults.before_write()
            super().process_batch([item])


(
    Pipeline("file", path=INPUT, state=OUTPUT + ".state", checkpoint_interval=0.05)
    .transport(answer, workers=WORKERS, queue_size=QUEUE_SIZE)
    .backend(Write, path=OUTPUT, queue_size=QUEUE_SIZE)
    .run()
)
