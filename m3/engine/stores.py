"""What a run keeps beside its items: dead letters and checkpoints."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from m3.engine.checkpoints import Checkpoints, needs_rounds
from m3.engine.failures import KeepLetter
from m3.engine.letterbox import Letterbox, letterbox_of
from m3.engine.plan import Plan
from m3.engine.workers import Worker
from m3.errors import StageError

if TYPE_CHECKING:
    from m3.engine.engine import Engine

__all__ = ("Stores",)


class Stores:
    """
    The dead letters and the checkpoints of a run, as far as it has them.

    Attributes:
        has_rounds: whether its backends commit while it lasts.
        wants_positions: whether it keeps where an item came from.
        letters: its dead letters; None before :meth:`open`, or if it keeps none.
    """

    def __init__(self, plan: Plan) -> None:
        self.has_rounds = needs_rounds(plan)
        self.wants_positions = plan.state is not None or plan.dead_letters is not None
        self.letters: Letterbox | None = None
        self._plan = plan
        self._checkpoints: Checkpoints | None = None

    def open(self) -> None:
        """Open what there is, before the stages are set up."""
        self.letters = letterbox_of(self._plan)

    def begin(self, engine: "Engine", workers: list[Worker]) -> None:
        """Have the stages, which are set up, go back to the last checkpoint."""
        if self.has_rounds:
            self._checkpoints = Checkpoints(engine, workers)
            self._checkpoints.begin()

    def take_in(self, worker: Worker) -> None:
        """Have *worker*, which was made while the run lasts, wait for nothing that is over."""
        if self._checkpoints is not None:
            self._checkpoints.take_in(worker)

    def start(self) -> None:
        """Make checkpoints from now on."""
        if self._checkpoints is not None:
            self._checkpoints.start()

    @property
    def keep_letter(self) -> KeepLetter | None:
        """What keeps items as dead letters; None if there is no place for them."""
        return None if self.letters is None else self.letters.put

    def undone(self) -> int:
        """Return how many delivered items the next run will undo; 0 while this one lasts."""
        return 0 if self._checkpoints is None else self._checkpoints.undone()

    @property
    def confirm(self) -> Callable[[], Exception | None] | None:
        """
        What blocks until all that was settled before is durable, and returns why it is not.

        None if nothing has to be durable before an item counts as delivered.
        """
        if self._checkpoints is not None:
            return self._checkpoints.confirm
        return None if self.letters is None else self.letters.confirm

    def end(self) -> None:
        """Take note that all workers have passed on all that they will."""
        if self._checkpoints is not None:
            self._checkpoints.end()

    def give_up(self) -> None:
        """Let nobody wait for a checkpoint any longer."""
        if self._checkpoints is not None:
            self._checkpoints.give_up()

    def join(self) -> None:
        """Block until no thread of theirs is left."""
        if self._checkpoints is not None:
            self._checkpoints.join()

    def close(self, seconds: float | None = None) -> list[StageError]:
        """
        Make durable what is not yet, and let another run use them; return what went wrong.

        May be called again, for what was opened since.

        Args:
            seconds: about so long it waits for who still uses them; None for as long as it takes.
        """
        failures = []
        for what, store in (("checkpoint", self._checkpoints), ("dead letters", self.letters)):
            try:
                if store is not None:
                    store.close(seconds)
            except Exception as error:
                failures.append(StageError(error, stage=what, worker=0))
        return failures
