"""How many requests each user may send: counted by each worker, or in a Redis for all workers."""

import asyncio
import logging
import math
import time
from contextlib import suppress
from typing import Any

from limits import parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter as AsyncFixedWindow
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from pydantic import SecretStr

from errors import TooManyRequests

TIMEOUT = 0.25
"""Seconds that a request waits for Redis."""
PAUSE = 5.0
"""Seconds after a failure in which Redis is left alone, so that requests do not wait for it."""
REPORT_INTERVAL = 60.0
MAX_CALLS = 20
"""Calls of Redis at the same time, and so connections."""
TTL_ERROR = 0.5
"""Redis rounds the seconds that a key has left."""

logger = logging.getLogger(__name__)


class MemoryLimiter:
    """Counts the requests that one worker gets.

    Args:
        limit: Such as `600/minute`. The window begins with a user's first request.

    """

    def __init__(self, limit: str) -> None:
        self._limit = parse(limit)
        # Not the asynchronous one, which looks at every user's counter at each request: 0.9 ms with
        # 10,000 users. This one takes 5 microseconds.
        self._counters = FixedWindowRateLimiter(MemoryStorage())

    async def count(self, user_id: str) -> None:
        """Count a request.

        Raises:
            TooManyRequests: The user has sent too many.

        """
        if not self._counters.hit(self._limit, user_id):
            reset = self._counters.get_window_stats(self._limit, user_id).reset_time
            raise TooManyRequests(math.ceil(max(reset - time.time(), 0)) or 1)

    async def close(self) -> None:
        """Do nothing: there is no connection."""


class RedisLimiter:
    """Counts the requests that all workers get. While Redis is away, it lets everything pass.

    Args:
        limit: Such as `600/minute`. The window begins with a user's first request.
        url: Redis' URL.

    """

    def __init__(self, limit: str, url: str) -> None:
        from redis.asyncio import ConnectionPool  # noqa: PLC0415  # the extra `redis`
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        # Once more at once: Redis may have closed a connection while it was idle.
        self._connections = ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 1))
        pool: Any = self._connections  # for which limits has no type
        storage = RedisStorage(
            "async+redis://", implementation="redispy", key_prefix="todo", connection_pool=pool
        )
        self._limit = parse(limit)
        self._counters = AsyncFixedWindow(storage)
        self._calls = asyncio.Semaphore(MAX_CALLS)
        self._paused_until = -math.inf
        self._failing = False
        self._reported = -math.inf

    async def count(self, user_id: str) -> None:
        """Count a request, unless Redis is away.

        Raises:
            TooManyRequests: The user has sent too many.

        """
        now = time.monotonic()
        if now < self._paused_until:
            return
        if self._failing:
            self._paused_until = now + PAUSE  # while this request tries it, the others go on
        try:
            async with asyncio.timeout(TIMEOUT), self._calls:
                seconds = await self._seconds_to_wait(user_id)
        except Exception as exc:  # noqa: BLE001  # no error of a counter may fail a request
            self._pause(exc)
            return
        if self._failing:
            logger.info("The rate limit is enforced again")
            self._failing, self._paused_until = False, -math.inf
        if seconds:
            raise TooManyRequests(seconds)

    async def _seconds_to_wait(self, user_id: str) -> int:
        if await self._counters.hit(self._limit, user_id):
            return 0
        reset = (await self._counters.get_window_stats(self._limit, user_id)).reset_time
        return math.ceil(max(reset - time.time(), 0) + TTL_ERROR)

    def _pause(self, exc: Exception) -> None:
        now = time.monotonic()
        self._failing, self._paused_until = True, now + PAUSE
        if now >= self._reported + REPORT_INTERVAL:
            self._reported = now
            # The class alone: the message may hold a part of the URL.
            reason = type(exc).__name__
            logger.warning("The rate limit is not enforced, as Redis does not answer: %s", reason)

    async def close(self) -> None:
        """Close the connections."""
        with suppress(Exception):
            async with asyncio.timeout(TIMEOUT):
                await self._connections.disconnect()


def limiter(limit: str, storage: SecretStr | None) -> MemoryLimiter | RedisLimiter:
    """Return what counts the requests, in the Redis if there is one."""
    return RedisLimiter(limit, storage.get_secret_value()) if storage else MemoryLimiter(limit)
