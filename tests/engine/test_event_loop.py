"""An event loop that was struck is closed, though a task in it never ends."""

import asyncio
import gc
import threading

import pytest

from m3.engine import event_loop
from m3.engine.event_loop import EventLoop


def strike():
    raise SystemExit  # which asyncio lets through, as it does what is raised in its own code


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_task_that_never_ends_is_left_behind(monkeypatch):
    """It is cancelled and waited for no longer than a while; what can end does so before."""
    monkeypatch.setattr(event_loop, "LAST_WORDS", 0.01)
    ended, loops = [], []

    async def endless():
        while True:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                ended.append("cancelled")

    async def main():
        loops.append(asyncio.get_running_loop())
        tasks = [loops[0].create_task(endless()), loops[0].create_task(asyncio.sleep(1000))]
        loops[0].call_later(0, loops[0].call_soon, strike)
        try:
            await asyncio.wait(tasks)
        finally:
            ended.append("main")

    with pytest.raises(SystemExit), EventLoop() as loop:
        loop.run(main())
    assert sorted(ended[:2]) == ["cancelled", "main"]
    assert loops[0].is_closed()
    gc.collect()


@pytest.mark.parametrize("kind", [ValueError, GeneratorExit])
def test_what_a_callback_raises_comes_out(kind):
    """asyncio would log it, and whoever waits for what the callback was to do would wait on."""

    def fail():
        raise kind

    async def main():
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(kind), EventLoop() as loop:
        loop.run(main())
    assert type(loop.strike) is kind


def test_an_error_of_the_coroutine_itself_is_no_strike():
    """Then the tasks that are left are waited for, as asyncio.run() does."""
    ended = []

    async def last():
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def main():
        task = asyncio.create_task(last())
        await asyncio.sleep(0)
        raise ValueError(task)

    with pytest.raises(ValueError, match="Task"), EventLoop() as loop:
        loop.run(main())
    assert loop.strike is None
    assert ended == [True]


def test_a_loop_runs_one_coroutine_after_the_other():
    """Each in the same loop and thread; it returns what the coroutine does."""

    async def where():
        return asyncio.get_running_loop(), threading.current_thread()

    with EventLoop() as loop:
        assert loop.run(where()) == loop.run(where())
