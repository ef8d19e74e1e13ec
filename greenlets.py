"""Runs plain functions that may wait, while the event loop serves other requests."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")


class _Greenlet(greenlet):
    """Runs one function after another."""

    def __init__(self) -> None:
        super().__init__(self._serve)
        self.switch()

    def _serve(self) -> None:
        """Wait for functions, and run them."""
        outcome: Any = None
        while True:
            function, arguments = self.parent.switch((True, outcome))  # type: ignore[union-attr]
            try:
                outcome = function(*arguments), None
            except BaseException as exc:  # noqa: BLE001  # it goes to whoever called
                outcome = None, exc
            del function, arguments


class Greenlets:
    """Greenlets that are kept, as many as functions run at the same time.

    SQLAlchemy's `greenlet_spawn` makes a greenlet for each call. Its memory alone takes 7 µs to
    map; to start a function in one that exists takes 0.6 µs.
    """

    def __init__(self) -> None:
        self._idle: list[_Greenlet] = []

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what the function returns, or raise what it raises."""
        worker = self._idle.pop() if self._idle else _Greenlet()
        caller = getcurrent()
        worker.parent = caller
        worker.gr_context = caller.gr_context
        finished, value = worker.switch((function, arguments))
        while not finished:
            try:
                result = await value
            except BaseException as exc:  # noqa: BLE001  # the function waits for it
                finished, value = worker.throw(exc)
            else:
                finished, value = worker.switch(result)
        self._idle.append(worker)
        returned: T
        returned, error = value
        if error is None:
            return returned
        try:
            raise error
        finally:
            del error, value  # or the exception and this frame would hold each other


def await_(awaitable: Awaitable[T]) -> T:
    """Wait for something, in a function that `Greenlets` run."""
    result: T = getcurrent().parent.switch((False, awaitable))  # type: ignore[union-attr]
    return result


def in_greenlet() -> bool:
    """Tell whether `await_` may be called."""
    return isinstance(getcurrent(), _Greenlet)
