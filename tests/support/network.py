"""Free ports, and a network that loses packets."""

import random
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

_kept: list[socket.socket] = []


def free_port() -> int:
    """Choose one below those that systems give to clients, or a client may soon have it.

    On Linux, this process keeps it from others that choose one: with a socket that is bound and
    does not listen. A server that allows reuse of its address, as all do, can listen beside it.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        keeper = socket.socket()
        try:
            keeper.bind(("127.0.0.1", port))
        except OSError:
            keeper.close()
            continue
        if sys.platform == "linux":
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _kept.append(keeper)
        else:
            keeper.close()
        return port


class Network:
    """A way to a server that can swallow everything: neither end hears of it."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._stranded: list[Event] = []
        self._flows = Event()
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    @contextmanager
    def swallowing(self) -> Iterator[None]:
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def strand(self) -> None:
        """Let what is connected now hang for good, as after a failover; new connections work."""
        self._flows.clear()
        self._stranded.append(self._flows)
        self._flows = Event()
        self._flows.set()

    def lead_to(self, port: int) -> None:
        """Lead new connections to another server; the others stay where they are."""
        self._target = port

    def accept(self) -> None:
        with suppress(OSError):  # the listener is shut down
            while True:
                Thread(target=self._connect, args=[self._listener.accept()[0]]).start()

    def _connect(self, near: socket.socket) -> None:
        flows = self._flows
        flows.wait()
        with near, socket.create_connection(("127.0.0.1", self._target)) as far:
            back = Thread(target=self._pump, args=[far, near, flows])
            back.start()
            self._pump(near, far, flows)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket, flows: Event) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                flows.wait()
                sink.sendall(content)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for flows in self._stranded:
            flows.set()
        with self._listener:
            self._listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def network_to(port: int) -> Iterator[Network]:
    network = Network(port)
    thread = Thread(target=network.accept)
    thread.start()
    try:
        yield network
    finally:
        network.close()
        thread.join()
