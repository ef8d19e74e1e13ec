"""A cold burst: many clients at once are the first to ask anything of an app just started."""

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from benchmarks.harness import App, running, token
from benchmarks.tasks import Owner

CLIENTS = 200
TIMEOUT = 10.0
"""Seconds after which a request counts as failed."""


def cold_burst(app: App, owners: Sequence[Owner]) -> tuple[int, float]:
    """Start the app, let all clients get a task at once; return the failures and the seconds."""
    with running(app):
        return asyncio.run(_burst(app.url, owners))


async def _burst(url: str, owners: Sequence[Owner]) -> tuple[int, float]:
    address = urlsplit(url)
    requests = [
        f"GET /api/{owner.user_id}/tasks/{owner.first} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Authorization: Bearer {token(owner.user_id)}\r\nConnection: close\r\n\r\n"
        for owner in (owners[number % len(owners)] for number in range(CLIENTS))
    ]
    gate = asyncio.Barrier(CLIENTS)

    async def ask(request: str) -> bool:
        try:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
        except OSError:
            await gate.wait()
            return False
        await gate.wait()
        try:
            writer.write(request.encode())
            answer = await asyncio.wait_for(reader.read(), TIMEOUT)
        except OSError:
            return False
        finally:
            writer.close()
        return answer.startswith(b"HTTP/1.1 200 ")

    started = time.perf_counter()
    succeeded = sum(await asyncio.gather(*map(ask, requests)))
    return CLIENTS - succeeded, time.perf_counter() - started
