"""Plain functions that wait on the event loop."""

import asyncio
import gc
import weakref
from contextvars import ContextVar

import pytest

from greenlets import Greenlets, await_, in_greenlet

name: ContextVar[str] = ContextVar("name", default="nobody")


def waits() -> str:
    assert in_greenlet()
    await_(asyncio.sleep(0.001))
    return name.get()


def fails() -> None:
    await_(asyncio.sleep(0.001))
    raise KeyError


def test_one_runs_function_after_function_each_in_its_callers_context() -> None:
    async def run() -> list[str]:
        greenlets = Greenlets()
        found = []
        for each in ("Ada", "Grace"):
            name.set(each)
            found.append(await greenlets.call(waits))
            with pytest.raises(KeyError):
                await greenlets.call(fails)
        assert not in_greenlet()
        return found

    assert asyncio.run(run()) == ["Ada", "Grace"]


def test_several_wait_at_the_same_time() -> None:
    turns: list[tuple[int, int]] = []

    def work(number: int) -> int:
        for turn in range(3):
            turns.append((turn, number))
            await_(asyncio.sleep(0))
        return number

    async def run() -> list[int]:
        return await asyncio.gather(*(Greenlets().call(work, number) for number in range(3)))

    assert asyncio.run(run()) == [0, 1, 2]
    assert turns == sorted(turns)


def test_a_cancelled_function_is_told_and_its_greenlet_is_used_again() -> None:
    told = []

    def work() -> None:
        try:
            await_(asyncio.sleep(60))
        except asyncio.CancelledError:
            told.append(True)
            raise

    async def run() -> str:
        greenlets = Greenlets()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(greenlets.call(work), 0.01)
        return await greenlets.call(waits)

    assert asyncio.run(run()) == "nobody"
    assert told == [True]


def test_what_a_function_held_is_freed() -> None:
    class Body:
        """Something large."""

    bodies = []

    def fail(body: Body) -> None:
        bodies.append(weakref.ref(body))
        raise KeyError

    async def run() -> None:
        greenlets = Greenlets()
        with pytest.raises(KeyError):
            await greenlets.call(fail, Body())
        await greenlets.call(waits)
        assert bodies[0]() is None

    gc.disable()  # the exception is in no cycle either
    try:
        asyncio.run(run())
    finally:
        gc.enable()
