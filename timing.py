"""How long the database takes: measured only if someone listens, as the log at level debug does."""

import logging
import time
from typing import Protocol

logger = logging.getLogger(__name__)


class Listener(Protocol):
    """Someone who is told what a request spent on the database."""

    def waited(self, pool: object, seconds: float) -> None:
        """Take note that somebody waited for a connection of the pool."""

    def executed(self, statement: str, began: int, failed: bool) -> None:  # noqa: FBT001
        """Take note of a statement, without its values, that began at a time in nanoseconds."""


listeners: list[Listener] = []


class LogListener:
    """Logs each wait and each statement at level debug."""

    def waited(self, _pool: object, seconds: float) -> None:
        """Log a wait."""
        logger.debug("Waited %.1f ms for a connection", seconds * 1000)

    def executed(self, statement: str, began: int, failed: bool) -> None:  # noqa: FBT001
        """Log a statement."""
        outcome = "failed after" if failed else "took"
        milliseconds = (time.time_ns() - began) / 1e6
        logger.debug("Statement %s %.1f ms: %s", outcome, milliseconds, " ".join(statement.split()))
