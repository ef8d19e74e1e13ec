"""The service listens on all interfaces, IPv4 and IPv6."""

import socket
import subprocess
import sys

import httpx
import pytest
from uvicorn.config import STARTUP_FAILURE

from server import bind
from support.network import free_port
from support.service import PATIENCE, PROJECT, environment, running
from workers import stop_handshakes


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_ipv4_and_ipv6_are_served(database_url: str, workers: str) -> None:
    env = environment(database_url, WEB_CONCURRENCY=workers)
    with running(env, program=("main.py",)) as service:
        port = httpx.URL(service.url).port
        for host in ("127.0.0.1", "127.0.0.2", "[::1]"):
            assert httpx.get(f"http://{host}:{port}/health", timeout=PATIENCE).status_code == 200
        assert service.stop() == 0


def test_a_client_has_the_address_that_it_came_from() -> None:
    """Not `::ffff:127.0.0.1`, which FORWARDED_ALLOW_IPS would have to name then."""
    for listener in bind(free_port()):
        with listener:
            listener.listen()
            port = listener.getsockname()[1]
            host = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}[listener.family]
            with socket.create_connection((host, port)), listener.accept()[0] as accepted:
                assert accepted.getpeername()[0] == host


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::"])
def test_a_port_that_another_process_has_is_one_line(address: str, workers: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as other:
        port = str(other.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "main.py"],
            cwd=PROJECT,
            env=environment("postgresql://127.0.0.1:1/x", PORT=port, WEB_CONCURRENCY=workers),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert (ended.returncode, ended.stdout) == (STARTUP_FAILURE, "")
    (line,) = ended.stderr.splitlines()
    assert line.endswith(f"[Port {port} cannot be used: Address already in use]")


def test_a_port_that_another_process_takes_while_it_starts_is_one_line() -> None:
    """Two that start at once can both bind the port; only one of them can listen."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("0.0.0.0", 0))
        port = str(other.getsockname()[1])
        env = environment("postgresql://127.0.0.1:1/x", PORT=port, LOG_LEVEL="info")
        process = subprocess.Popen(
            [sys.executable, "main.py"], cwd=PROJECT, env=env, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr
        with process, process.stderr as log:
            assert "Starting on port" in log.readline()
            other.listen()
            try:
                assert process.wait(PATIENCE) == STARTUP_FAILURE
            finally:
                process.kill()
            assert "[The port cannot be used: Address already in use]" in log.read()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_listener_that_is_about_to_close_takes_no_new_connection(host: str) -> None:
    """What it has taken before is still there, and its data too."""
    with (
        socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        ) as listener,
        socket.create_connection(listener.getsockname()[:2]) as early,
    ):
        stop_handshakes(listener)
        if sys.platform == "linux":
            with pytest.raises(TimeoutError):
                socket.create_connection(listener.getsockname()[:2], timeout=0.3)
        early.sendall(b"x")
        taken, _ = listener.accept()
        with taken:
            assert taken.recv(1) == b"x"
            taken.sendall(b"y")
            assert early.recv(1) == b"y"
            listener.settimeout(0)
            with pytest.raises(BlockingIOError):
                listener.accept()
