"""One log format for every line that the process prints."""

import logging
import logging.config
import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from traceback import FrameSummary, StackSummary, TracebackException, walk_tb
from types import CodeType
from typing import Any
from urllib.parse import quote

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Half a token too, as what is logged is cut first. One pass, whatever a client sends.
TOKEN = re.compile(r"eyJ[\w.-]*", re.ASCII)
MAX_ENDPOINT_LENGTH = 300
CALL_HANDLERS = logging.Logger.callHandlers
"""As it is at the start: Sentry puts another one in its place."""


@dataclass(slots=True)
class RequestContext:
    """What all log lines of a request have in common."""

    endpoint: str
    request_id: str
    user_id: str = "-"
    status: int = 0
    """The response's, when it has begun."""


suffixes: list[Callable[[], str]] = []
"""What else each line ends with."""
request_context: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


class LineFormatter(logging.Formatter):
    """Format `[TIMESTAMP] [LEVEL] [USER_ID] [ENDPOINT] [MESSAGE]`.

    A traceback takes several lines, each with all five fields. Nothing that a client sends can
    start a line or close a field. Anything that looks like a token is left out.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, and a line for each line of its traceback."""
        prefix, suffix = _around(record.created, record.levelname)
        messages = [record.getMessage() + suffix]
        if record.exc_info and record.exc_info[0]:
            messages += self.formatException(record.exc_info).split("\n")
        if record.stack_info:
            messages += record.stack_info.split("\n")
        return "\n".join(_printable(f"{prefix} [{message}]") for message in messages)

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802  # logging's own
        """Return the whole traceback.

        As logging does, but each frame's source is read once. An outage fails hundreds of requests
        at the same places, and this is five times as fast on the event loop.
        """
        whole = TracebackException(*ei, limit=0, compact=True)
        parts: list[tuple[TracebackException | None, BaseException | None]] = [(whole, ei[1])]
        for part, exc in parts:
            if part and exc:
                frames = (_frame(frame.f_code, line) for frame, line in walk_tb(exc.__traceback__))
                part.stack = StackSummary.from_list(list(frames))
                parts += [(part.__cause__, exc.__cause__), (part.__context__, exc.__context__)]
        return "".join(whole.format()).rstrip("\n")


class LineHandler(logging.StreamHandler[Any]):
    """Writes to standard error; lines of each request without a LogRecord."""

    def write(self, message: str) -> None:
        """Write a line of level info. One that cannot be written is lost; no request fails."""
        prefix, suffix = _around(time.time(), "INFO")
        line = _printable(f"{prefix} [{message}{suffix}]")
        try:
            with self.lock:  # type: ignore[union-attr]  # a handler always has one
                self.stream.write(f"{line}\n")
                if not (self.stream.line_buffering or getattr(self.stream, "write_through", False)):
                    self.flush()
        except (OSError, ValueError):
            pass


def log_request(logger: logging.Logger, message: str) -> None:
    """Log a line that every request has.

    A LogRecord's way through `logging` would take a seventh of a request's CPU time. It is taken
    only if somebody else listens: another handler, a filter, a factory of records, Sentry.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    handler = logging.root.handlers[0] if len(logging.root.handlers) == 1 else None
    if (
        isinstance(handler, LineHandler)
        and isinstance(handler.formatter, LineFormatter)
        and not (handler.filters or logger.filters or logger.handlers)
        and logger.parent is logging.root
        and logging.getLogRecordFactory() is logging.LogRecord
        and logging.Logger.callHandlers is CALL_HANDLERS
    ):
        handler.write(message)
    else:
        logger.info(message)


def _around(created: float, level: str) -> tuple[str, str]:
    """Return a line's fields before the message, and what its message ends with."""
    second = int(created)
    prefix = f"[{_second(second)}.{int((created - second) * 1000):03}Z] [{level}]"
    suffix = "".join(each() for each in suffixes) if suffixes else ""
    context = request_context.get()
    if context is None:
        return f"{prefix} [-] [-]", suffix
    endpoint = context.endpoint[:MAX_ENDPOINT_LENGTH].replace("[", "%5B").replace("]", "%5D")
    prefix = f"{prefix} [{_quoted(context.user_id)}] [{endpoint}]"
    return prefix, f" request_id={context.request_id}{suffix}"


@lru_cache(maxsize=8)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=1024)
def _quoted(user_id: str) -> str:
    return quote(user_id, safe="@:+|")


@lru_cache(maxsize=4096)
def _frame(code: CodeType, line: int) -> FrameSummary:
    return FrameSummary(code.co_filename, line, code.co_name, lookup_line=True)


def _printable(text: str) -> str:
    if text.isascii() and text.isprintable() and "eyJ" not in text:
        return text
    visible = CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", TOKEN.sub("(token)", text))
    return visible.encode("ascii", "backslashreplace").decode("ascii")


def configure_logging(level: str) -> None:
    """Send every logger of the process, uvicorn's included, to standard error in one format."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"()": LineFormatter}},
            "handlers": {
                "stderr": {"class": "logs.LineHandler", "formatter": "line"},
            },
            "root": {"handlers": ["stderr"], "level": level.upper()},
            "loggers": {
                "uvicorn": {"handlers": [], "level": level.upper(), "propagate": True},
                "uvicorn.error": {"handlers": [], "level": level.upper(), "propagate": True},
                # Its lines would repeat those of the request log, and show the query string.
                "uvicorn.access": {"handlers": [], "propagate": False},
                # A line for each fetch of Better Auth's keys; jwks.py logs what matters.
                "httpx": {"level": "WARNING"},
                "httpcore": {"level": "WARNING"},
                # Seven lines when it is loaded; what it does to the schema has lines of its own.
                "alembic.runtime.plugins": {"level": "WARNING"},
                # Each attempt to reach a Sentry or a collector that is away.
                "urllib3": {"level": "ERROR"},
                # The reloader's, a line for every file that anything writes.
                "watchfiles": {"level": "WARNING"},
            },
        }
    )
    logging.captureWarnings(capture=True)
