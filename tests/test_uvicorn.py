"""What protocol.py, exchange.py and server.py rely on inside uvicorn, which promises none of it.

If a new version of uvicorn fails here, read what has changed before you raise the upper bound in
pyproject.toml: tests/test_protocol.py and its neighbours show whether it still works.
"""

import asyncio
import inspect
import tomllib

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from errors import ServerError
from exchange import Exchange, answer_with
from protocol import Protocol
from server import OPTIONS
from support.service import PROJECT

OWN = {"cycle", "url", "failure", "closes", "fail"}


async def attributes_of_a_protocol() -> set[str]:
    config = uvicorn.Config(answer_with(ServerError()), log_config=None)
    return set(vars(HttpToolsProtocol(config, ServerState(), {})))


def test_a_protocol_has_what_ours_uses() -> None:
    assert asyncio.run(attributes_of_a_protocol()) >= {
        *("app", "loop", "logger", "access_logger", "server_state", "parser", "transport"),
        *("flow", "scope", "headers", "cycle", "expect_100_continue"),
        *("timeout_keep_alive", "timeout_keep_alive_task"),
    }
    assert set(dir(HttpToolsProtocol)) >= {
        *("_start_asgi_task", "_unset_keepalive_if_required", "timeout_keep_alive_handler"),
    }
    start = vars(HttpToolsProtocol)["_start_asgi_task"]
    assert list(inspect.signature(start).parameters) == ["self", "cycle", "app"]


def test_an_exchange_has_what_ours_uses() -> None:
    assert list(inspect.signature(RequestResponseCycle).parameters) == [
        *("scope", "transport", "flow", "logger", "access_logger", "access_log"),
        *("default_headers", "message_event", "expect_100_continue", "keep_alive", "on_response"),
    ]
    source = inspect.getsource(RequestResponseCycle)
    for name in (
        *("more_body", "keep_alive", "response_started", "response_complete", "disconnected"),
        *("default_headers", "waiting_for_100_continue", "expected_content_length"),
    ):
        assert f"self.{name} = " in source


@pytest.mark.parametrize(
    ("ours", "base"), [(Protocol, HttpToolsProtocol), (Exchange, RequestResponseCycle)]
)
def test_what_ours_overrides_is_there(ours: type, base: type) -> None:
    public = {name for name in vars(ours) if not name.startswith("_")}
    assert public - OWN <= set(vars(base)) | set(vars(asyncio.Protocol))


def test_flow_control_and_state_have_what_ours_uses() -> None:
    assert {"pause_reading", "resume_reading", "drain"} <= set(vars(FlowControl))
    assert {"read_paused", "write_paused"} <= set(vars(FlowControl(asyncio.Transport())))
    assert set(vars(ServerState())) >= {"connections", "tasks", "default_headers", "total_requests"}


def test_a_server_takes_ours() -> None:
    assert set(inspect.signature(uvicorn.Config).parameters) >= set(OPTIONS)
    source = inspect.getsource(uvicorn.Server)
    assert "config.http_protocol_class(" in source
    for name in ("servers", "lifespan", "server_state", "config", "started"):
        assert f"self.{name}" in source


def test_uvicorn_has_an_upper_bound() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (uvicorn_requirement,) = [each for each in project["dependencies"] if "uvicorn" in each]
    assert "<" in uvicorn_requirement
