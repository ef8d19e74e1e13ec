"""Several workers for one port: started together, replaced when they die, ended together.

A worker is `server.py` in a process of its own, with the listening sockets and a pipe as its
standard input. It ends when the pipe is closed: by the supervisor, or by the system if that is
killed.
"""

import ctypes
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from logs import configure_logging

WORKER = Path(__file__).with_name("server.py")
STARTUP_FAILURE = 3
"""The exit code of a process that cannot start: uvicorn's, which is not imported here."""
CHECK_INTERVAL = 0.1
END_TIMEOUT = 28
"""Seconds in which workers may end by themselves: more than `server.SHUTDOWN_TIMEOUT`, but less
than the 30 after which platforms kill."""

HANDSHAKE_TIME = 0.05
"""Seconds in which the handshakes end that have begun."""
SO_ATTACH_FILTER = 26
# A classic BPF program on the TCP header: load the flags, drop a SYN, keep everything else.
DROP_SYN = struct.pack(
    "=" + 4 * "HBBI", *(0x30, 0, 0, 13), *(0x45, 0, 1, 0x02), *(0x06, 0, 0, 0), *(0x06, 0, 0, 2**18)
)

logger = logging.getLogger(__name__)


class Supervisor:
    """The process that keeps the workers running. It never accepts a connection."""

    def __init__(self, number: int, sockets: Sequence[socket.socket]) -> None:
        self._number = number
        self._sockets = sockets
        self._ending = False

    def run(self) -> int:
        """Keep the workers running until SIGTERM or SIGINT; return the exit code."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._end)
        exit_code = 0
        workers = [self._start() for _ in range(self._number)]
        while not self._ending:
            time.sleep(CHECK_INTERVAL)
            for index, worker in enumerate(workers):
                code = worker.poll()
                if code == STARTUP_FAILURE:
                    logger.critical("Worker %d could not start, so the service ends", worker.pid)
                    self._ending, exit_code = True, STARTUP_FAILURE
                elif code is not None and not self._ending:
                    logger.error("Worker %d ended with %d; another one starts", worker.pid, code)
                    workers[index] = self._start()
        self._end_all(workers)
        return exit_code

    def _end(self, *_: object) -> None:
        self._ending = True

    def _start(self) -> "subprocess.Popen[bytes]":
        # No health check: a slow start, or a busy machine, is no reason to kill a worker.
        files = [listener.fileno() for listener in self._sockets if sys.platform != "win32"]
        worker = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, WORKER], stdin=subprocess.PIPE, pass_fds=files
        )
        assert worker.stdin
        with suppress(BrokenPipeError):  # it has ended already
            worker.stdin.write(_pack(self._sockets, worker.pid))
            worker.stdin.flush()
        return worker

    def _end_all(self, workers: Sequence["subprocess.Popen[bytes]"]) -> None:
        for listener in self._sockets:
            stop_handshakes(listener)
        time.sleep(HANDSHAKE_TIME)
        # First, so that the port is closed when the last worker closes its own sockets. A worker
        # has emptied the queue by then; while one is left, it accepts what arrives.
        for listener in self._sockets:
            listener.close()
        for worker in workers:
            if worker.stdin:
                worker.stdin.close()
        deadline = time.monotonic() + END_TIMEOUT
        for worker in workers:
            try:
                worker.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.error("Worker %d does not end and is killed", worker.pid)  # noqa: TRY400
                worker.kill()
                worker.wait()


def stop_handshakes(listener: socket.socket) -> None:
    """Let Linux drop each attempt to connect; connections that are already in the queue stay.

    Otherwise the kernel may take one more between the last `accept` and the close, and reset it. A
    client sends a dropped SYN again after a second, and is refused then.
    """
    if sys.platform == "linux":
        program = ctypes.create_string_buffer(DROP_SYN)
        described = struct.pack("HP", len(DROP_SYN) // 8, ctypes.addressof(program))
        with suppress(OSError):  # a kernel that does not allow it
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, described)


def supervise(number: int, sockets: Sequence[socket.socket], log_level: str) -> NoReturn:
    """Turn this process into the supervisor of so many workers."""
    if sys.platform == "win32":  # whose exec would be another process
        sys.exit(Supervisor(number, sockets).run())
    for listener in sockets:
        listener.set_inheritable(True)
    # Reading the settings has taken 50 MB that the supervisor does not need.
    files = [str(listener.fileno()) for listener in sockets]
    os.execv(sys.executable, [sys.executable, __file__, log_level, str(number), *files])  # noqa: S606


def join() -> list[socket.socket]:
    """Be a worker: return the listening sockets, and end when the supervisor closes the pipe."""
    sockets = _unpack(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    return sockets


def _end_with_supervisor() -> None:
    # Not sys.stdin.read: a thread that holds its lock cannot be left behind at the end.
    os.read(0, 1)
    signal.raise_signal(signal.SIGTERM)


def _pack(sockets: Sequence[socket.socket], process: int) -> bytes:
    if sys.platform == "win32":
        return json.dumps([each.share(process).hex() for each in sockets]).encode() + b"\n"
    return json.dumps([each.fileno() for each in sockets]).encode() + b"\n"


def _unpack(line: bytes) -> list[socket.socket]:
    if sys.platform == "win32":
        return [socket.fromshare(bytes.fromhex(shared)) for shared in json.loads(line)]
    return [socket.socket(fileno=file) for file in json.loads(line)]


def main(log_level: str, number: str, *files: str) -> NoReturn:
    """Run the supervisor."""
    configure_logging(log_level)
    sockets = [socket.socket(fileno=int(file)) for file in files]
    sys.exit(Supervisor(int(number), sockets).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
