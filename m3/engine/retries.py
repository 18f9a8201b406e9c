"""When an item on which a stage has raised is tried again."""

import time

from m3.errors import Reject, RetryLater, StopPipeline
from m3.policies import Retry

__all__ = ("MOST_WAITING", "delay_before_next")

MOST_WAITING = 16_384
"""So many items may wait in one worker; then it takes no other before one of them is tried."""


def delay_before_next(
    retry: Retry | None, error: BaseException, attempts: int, since: float
) -> float | None:
    """
    Return in how many seconds to try an item again, or None to give it up.

    Args:
        retry: the policy of the stage; None if it has no such one.
        error: what the stage raised.
        attempts: how often it was tried.
        since: when it first failed, on the monotonic clock.
    """
    if isinstance(error, RetryLater):
        return error.seconds if retry is None or attempts < retry.attempts else None
    if retry is None or attempts >= retry.attempts:
        return None
    if isinstance(error, (Reject, StopPipeline)) or not isinstance(error, retry.on):
        return None
    seconds = retry.backoff.delay_after(attempts)
    most = retry.backoff.max_elapsed
    if most is not None and time.monotonic() + seconds - since > most:
        return None
    return seconds
