"""A PostgreSQL that is far away: each byte to it and from it arrives late."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import uvloop

BLOCK = 65536


@contextmanager
def distant(port: int, milliseconds: float) -> Iterator[int]:
    """Return a port that leads to the other one, so many milliseconds there and back."""
    seconds = milliseconds / 2000

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))

    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(BLOCK):
            loop.call_later(seconds, writer.write, data)
        loop.call_later(seconds, writer.close)

    loop = uvloop.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(connect, "127.0.0.1", 0))
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
