from collections.abc import Callable, Iterator
from typing import Any

from m3._order import Collect, Sequencer
from m3._parking import Switch
from m3._queue import BoundedQueue
from m3._steps import Step
from m3._tokens import Ledger, Tally, Token
from m3._waiting import Attempt

def pump(
    iterator: Iterator[Any],
    first: Step,
    tally: Tally,
    policy: Callable[[BaseException, Any, Any, list[Any] | None, int], int],
    stopping: Switch,
    tracking: bool,
    ledger: Ledger | None = None,
) -> None: ...
def serve(inbox: BoundedQueue[Any], first: Step, tally: Tally, aborting: Switch) -> None: ...
def serve_ordered(
    inbox: BoundedQueue[Any],
    first: Step,
    tally: Tally,
    aborting: Switch,
    sequencer: Sequencer,
    collected: Collect,
    after: Step,
) -> None: ...
def take_over(
    first: Step,
    error: BaseException,
    attempt: Attempt,
    sequencer: Sequencer | None = None,
    collected: Collect | None = None,
    after: Step | None = None,
) -> None: ...
def settle_attempt(attempt: Attempt, outcome: int, tally: Tally) -> None: ...
def take(inbox: BoundedQueue[Any]) -> tuple[Any, Token | None, int]: ...
def deliver(token: Token | None, tally: Tally) -> None: ...
def end(first: Step, tally: Tally, aborting: Switch) -> None: ...
def abandon(first: Step) -> None: ...
def hand_over(first: Step) -> None: ...
def wake(inbox: BoundedQueue[Any], tally: Tally, aborting: Switch) -> None: ...
def discard(queue: BoundedQueue[Any], tally: Tally) -> None: ...
def close(queue: BoundedQueue[Any]) -> None: ...
