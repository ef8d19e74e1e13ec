"""PostgreSQL servers that a test may stop, freeze and hide behind a network that loses packets."""

import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import psutil

from embedded import EmbeddedPostgres


class FragileServer(EmbeddedPostgres):
    """A server of the test's own."""

    @property
    def processes(self) -> list[psutil.Process]:
        postmaster = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        return [postmaster, *postmaster.children(recursive=True)]

    def end(self, how: signal.Signals) -> None:
        """SIGINT: fast, connections are ended. SIGQUIT: immediate, as a crash."""
        postmaster = self.processes[0]
        postmaster.send_signal(how)
        psutil.wait_procs([postmaster], timeout=60)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        processes = self.processes
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()


@contextmanager
def fragile_server() -> Iterator[FragileServer]:
    with tempfile.TemporaryDirectory(prefix="todo-backend-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        server = FragileServer(folder / "postgres", {"max_connections": "300"})
        server.start()
        try:
            yield server
        finally:
            server.stop()


class Network:
    """A way to a server that can swallow everything: neither end hears of it."""

    def __init__(self, port: int) -> None:
        self._target = port
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

    def accept(self) -> None:
        with suppress(OSError):  # the listener is shut down
            while True:
                Thread(target=self._connect, args=[self._listener.accept()[0]]).start()

    def _connect(self, near: socket.socket) -> None:
        self._flows.wait()
        with near, socket.create_connection(("127.0.0.1", self._target)) as far:
            back = Thread(target=self._pump, args=[far, near])
            back.start()
            self._pump(near, far)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                self._flows.wait()
                sink.sendall(content)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
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
