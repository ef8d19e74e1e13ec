"""Time limits on tasks: `asyncio.timeout` for many at once, with one timer of the event loop."""

import asyncio
import math
import time
from types import TracebackType
from typing import Any, Self

MARGIN = 0.001
"""Seconds by which the loop's timer comes later: it counts in milliseconds."""


class TimeLimits:
    """Limits of the same length, so that they end in the order in which they began.

    A timer of the loop for each would take a twentieth of a request's CPU time.

    Args:
        seconds: How long; None is without a limit.

    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = math.inf if seconds is None else seconds
        self._running: dict[TimeLimit, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, limit: "TimeLimit") -> None:
        """Let a limit end, later than all that were added before."""
        self._running[limit] = None
        if self._timer is None and self.seconds < math.inf:
            self._look_after(self.seconds)

    def remove(self, limit: "TimeLimit") -> None:
        """Let a limit never end."""
        self._running.pop(limit, None)

    def _look_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds + MARGIN, self._look)

    def _look(self) -> None:
        """End the limits whose time is over, and look again when the next one's is."""
        self._timer = None
        now = time.monotonic()
        while self._running:
            first = next(iter(self._running))
            if first.end > now:
                self._look_after(first.end - now)
                break
            self.remove(first)
            first.expire()


class TimeLimit:
    """Cancels the task inside it when its time is over, and raises TimeoutError in its place."""

    end = math.inf
    """The time of the monotonic clock at which it is over."""
    _is_over = False

    def __init__(self, limits: TimeLimits) -> None:
        self._limits = limits

    def __enter__(self) -> Self:
        """Begin, for the current task."""
        task: asyncio.Task[Any] | None = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._begin()
        return self

    def renew(self) -> None:
        """Begin anew."""
        self.lift()
        self._begin()

    def _begin(self) -> None:
        self.end = time.monotonic() + self._limits.seconds
        self._limits.add(self)

    def lift(self) -> None:
        """Let the task take as long as it wants from now on."""
        self._limits.remove(self)

    def expire(self) -> None:
        """Cancel the task."""
        self._is_over = True
        self._task.cancel()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Raise TimeoutError if the limit was why the task was cancelled."""
        self.lift()
        # As in asyncio.timeout: if somebody else has cancelled the task too, it is cancelled.
        if (
            self._is_over
            and self._task.uncancel() <= self._cancelling
            and exc_type is asyncio.CancelledError
        ):
            raise TimeoutError from exc
