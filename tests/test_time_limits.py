"""Many time limits with one timer of the event loop."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from time_limits import TimeLimit, TimeLimits

FOREVER = 60.0
SHORT = 0.05


async def outlasts(limits: TimeLimits, coroutine: Coroutine[Any, Any, None]) -> bool:
    """Tell whether the limit is over before the coroutine is."""
    try:
        with TimeLimit(limits):
            await coroutine
    except TimeoutError:
        return True
    return False


def test_what_takes_too_long_is_cancelled_and_nothing_else() -> None:
    async def run() -> list[bool]:
        limits = TimeLimits(SHORT)
        quick, slow = asyncio.sleep(0), asyncio.sleep(FOREVER)
        first = await asyncio.gather(outlasts(limits, quick), outlasts(limits, slow))
        # Another one, after the timer has found nothing to do.
        await asyncio.sleep(2 * SHORT)
        return [*first, await outlasts(limits, asyncio.sleep(FOREVER))]

    assert asyncio.run(run()) == [False, True, True]


def test_limits_end_in_the_order_in_which_they_began() -> None:
    ended = []

    async def wait(limits: TimeLimits, number: int) -> None:
        await asyncio.sleep(number * SHORT / 5)
        assert await outlasts(limits, asyncio.sleep(FOREVER))
        ended.append(number)

    async def run() -> None:
        limits = TimeLimits(SHORT)
        await asyncio.gather(*(wait(limits, number) for number in range(20)))

    asyncio.run(run())
    assert ended == list(range(20))


def test_a_renewed_limit_begins_anew() -> None:
    async def run() -> None:
        limits = TimeLimits(FOREVER)
        with TimeLimit(limits) as first, TimeLimit(limits) as second:
            ends = first.end, second.end
            first.renew()
            assert first.end > ends[1]
            assert second.end == ends[1]

    asyncio.run(run())


def test_a_renewed_limit_still_ends() -> None:
    async def renewed(limits: TimeLimits) -> None:
        with TimeLimit(limits) as limit:
            limit.renew()
            await asyncio.sleep(FOREVER)

    with pytest.raises(TimeoutError):
        asyncio.run(renewed(TimeLimits(SHORT)))


@pytest.mark.parametrize("seconds", [None, SHORT])
def test_without_a_limit_nothing_is_cancelled(seconds: float | None) -> None:
    async def run() -> None:
        with TimeLimit(TimeLimits(seconds)) as limit:
            limit.lift()
            await asyncio.sleep(4 * SHORT)

    asyncio.run(run())


def test_a_task_that_somebody_else_cancels_is_cancelled() -> None:
    async def cancelled_twice() -> None:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task
            task.cancel()
            raise

    async def run() -> list[bool]:
        limits = TimeLimits(SHORT)
        early = asyncio.create_task(outlasts(limits, asyncio.sleep(FOREVER)))
        both = asyncio.create_task(outlasts(limits, cancelled_twice()))
        await asyncio.sleep(0)
        early.cancel()
        await asyncio.wait([early, both])
        return [early.cancelled(), both.cancelled()]

    assert asyncio.run(run()) == [True, True]


def test_a_failure_at_the_end_of_the_limit_is_what_is_raised() -> None:
    async def fail() -> None:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            raise KeyError from None

    async def run() -> int:
        task = asyncio.current_task()
        assert task
        with pytest.raises(KeyError):
            await outlasts(TimeLimits(SHORT), fail())
        return task.cancelling()

    assert asyncio.run(run()) == 0
