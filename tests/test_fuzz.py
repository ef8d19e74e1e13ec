"""Generated requests: whatever JSON or HTTP can carry is kept as it is, or refused."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.service import PATIENCE, PROJECT, Service, User, assert_clean_log, environment, running
from support.tokens import signed

pytestmark = pytest.mark.fuzz

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
# Every code point, lone surrogates too: JSON can carry them as escapes. Hypothesis also takes
# strings from the source, such as the mark of a token for which the log is searched.
ANY_TEXT = st.text(st.characters(exclude_categories=())).filter(lambda text: "eyJ" not in text)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda children: st.lists(children) | st.dictionaries(ANY_TEXT, children),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "title": ANY_TEXT | st.text(min_size=195, max_size=205) | ANY_JSON,
        "description": ANY_TEXT | st.text(min_size=995, max_size=1005) | ANY_JSON,
        "completed": st.booleans() | ANY_JSON,
        "id": ANY_JSON,
        "user_id": ANY_JSON,
    },
)
NEW_TASKS = st.fixed_dictionaries({"title": ANY_TEXT}, optional={"description": ANY_TEXT}) | FIELDS
TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            ["Content-Type", "Accept", "Origin", "X-Request-ID", "Cookie", "Expect", "Range",
             "Authorization", "Access-Control-Request-Method", "Access-Control-Request-Headers",
             "Content-Encoding", "Forwarded", "X-Forwarded-For", "If-None-Match", "Upgrade"]
        )
        | st.text(TOKEN_CHARACTERS, min_size=1, max_size=20),
        st.binary(max_size=60).map(lambda raw: re.sub(rb"[\0-\x08\n-\x1f\x7f]", b"", raw).strip()),
    ),
    max_size=6,
)  # fmt: skip
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]) | st.text(
    TOKEN_CHARACTERS, min_size=1, max_size=10
)
PIECES = st.sampled_from(
    ["/", "//", "/api", "/api/", "{user}", "/tasks", "/tasks/", "/complete", "/health", "/docs",
     "/openapi.json", "?", "status=", "sort=", "all", "title", "&", ";", "=", "%00", "%ff", "%2F",
     "%ed%a0%80", "%", "..", "1", "-1", "2147483648", "9" * 400, "+", "*"]
)  # fmt: skip
TARGETS = st.lists(PIECES | ANY_TEXT.map(lambda text: quote(text, errors="replace"))).map("".join)
PATHS = st.sampled_from(["/health", "{tasks}", "{tasks}", "{tasks}/{id}", "{tasks}/{id}/complete",
                         "/api/other/tasks", "/", "{tasks}/"])  # fmt: skip
BODIES = (
    st.binary()
    | ANY_JSON.map(lambda value: json.dumps(value).encode())
    | FIELDS.map(lambda fields: json.dumps(fields).encode())
)
# Valid requests are accepted, but for conflicts: a version that is old, a key that is used.
SCHEMATHESIS = f"""
hooks = "{PROJECT}/tests/support/schemathesis_hooks.py"
[parameters]
"path.user_id" = "{{user_id}}"
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "412", "422"]
"""


def examples(number: int) -> settings:
    return settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))


def test_any_json_is_kept_as_it_is_or_refused(
    service: Service, sized: Sized, record_property: Record
) -> None:
    user, kept = service.user(), 0

    @examples(sized(200, 10_000))
    @given(NEW_TASKS, FIELDS)
    def keep_or_refuse(new: dict[str, Any], changes: dict[str, Any]) -> None:
        nonlocal kept
        response = user.call("POST", json=new)
        assert response.status_code in {201, 400}, response.text
        if response.status_code == 400:
            return
        task = response.json()
        assert (task["title"], task["description"]) == (new["title"], new.get("description"))
        changed = user.call("PUT", f"/{task['id']}", json=changes)
        assert changed.status_code in {200, 400}, changed.text
        if changed.status_code == 200:
            names = {"title", "description", "completed"}
            task |= {name: value for name, value in changes.items() if name in names}
        stored = user.call("GET", f"/{task['id']}").json()
        assert {**stored, "updated_at": None} == {**task, "updated_at": None}
        assert user.call("DELETE", f"/{task['id']}").status_code == 204
        kept += 1

    keep_or_refuse()
    assert kept
    record_property("Generated task bodies", f"{sized(200, 10_000):,} | {kept:,} kept as sent")


def test_any_user_id_is_kept_as_it_is_or_refused(service: Service, sized: Sized) -> None:
    @examples(sized(200, 5_000))
    @given(ANY_TEXT | st.text(min_size=250, max_size=260))
    def keep_or_refuse(user_id: str) -> None:
        path = f"/api/{quote(user_id, safe='', errors='surrogatepass')}/tasks"
        headers = {"Authorization": f"Bearer {signed(sub=user_id)}"}
        response = service.client.post(path, headers=headers, json={"title": "x"})
        storable = 1 <= len(user_id) <= 255 and re.fullmatch("[^\0\ud800-\udfff]+", user_id)
        if not user_id:
            assert response.status_code == 404  # /api//tasks is no path of the API's
        elif user_id in {".", ".."}:
            assert response.status_code in {201, 404}  # clients resolve such paths themselves
        elif storable:
            assert response.status_code == 201
            assert response.json()["user_id"] == user_id
        else:
            assert response.status_code == 401

    keep_or_refuse()


def test_no_request_gives_a_server_error(
    database_url: str, sized: Sized, record_property: Record
) -> None:
    times = sized(500, 20_000)
    statuses: dict[int, int] = {}
    with running(environment(database_url), program=("main.py",)) as service:
        user = service.user()
        address = ("127.0.0.1", int(urlsplit(service.url).port or 0))
        task = user.create()
        places = {"{user}": user.id, "{tasks}": user.path, "{id}": str(task["id"])}

        @examples(times)
        @given(METHODS, PATHS, st.just("") | TARGETS, HEADERS, BODIES, st.booleans())
        def ask(  # noqa: PLR0913, PLR0917  # a request's parts
            method: str,
            path: str,
            target: str,
            headers: list[tuple[str, bytes]],
            body: bytes,
            valid_token: bool,  # noqa: FBT001
        ) -> None:
            for name, value in places.items():
                path, target = path.replace(name, value), target.replace(name, value)
            lines = [f"{method} {path}{target} HTTP/1.1".encode(), b"Host: x", b"Connection: close"]
            lines += [f"{name}: ".encode() + value for name, value in headers]
            if valid_token:
                lines.append(f"Authorization: {user.headers['Authorization']}".encode())
            lines += [b"Content-Length: %d" % len(body), b"", b""]
            with socket.create_connection(address, timeout=PATIENCE) as connection:
                connection.sendall(b"\r\n".join(lines))
                with suppress(ConnectionError):
                    connection.sendall(body)
                with http.client.HTTPResponse(connection, method=method) as response:
                    response.begin()
                    content = response.read()
            statuses[response.status] = statuses.get(response.status, 0) + 1
            assert response.status < 500
            if response.status >= 400 and method != "HEAD":
                assert set(json.loads(content)) == {"detail", "code"}

        ask()
        assert_clean_log(service.output())
    assert {200, 400, 401, 404, 405} <= set(statuses)
    record_property("Generated requests", f"{times:,} | {dict(sorted(statuses.items()))}")


@pytest.mark.parametrize("with_token", [True, False])
def test_schemathesis_finds_nothing(
    database_url: str, tmp_path: Path, sized: Sized, record_property: Record, *, with_token: bool
) -> None:
    """All phases and all checks, against the service's own document, again until it is enough."""
    cases = 0
    with running(environment(database_url, LOG_LEVEL="info"), program=("main.py",)) as service:
        user = User(service.user().id, service.client)
        configuration = tmp_path / "schemathesis.toml"
        configuration.write_text(SCHEMATHESIS.format(user_id=user.id))
        token = signed(sub=user.id, exp=4_000_000_000)
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            f"--config-file={configuration}",
            "run",
            f"{service.url}/openapi.json",
            "--checks=all",
            "--phases=examples,coverage,fuzzing,stateful",
            f"--max-examples={sized(20, 1_000)}",
            "--no-color",
            *([f"--header=Authorization: Bearer {token}"] if with_token else []),
        ]
        while cases < sized(1, 10_000):
            run = subprocess.run(
                command,
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(PROJECT)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert run.returncode == 0, run.stdout + run.stderr
            generated = re.search(r"(\d+) generated", run.stdout)
            assert generated, run.stdout
            cases += int(generated[1])
    record_property(
        f"Schemathesis, all phases and checks, {'with' if with_token else 'without'} a token",
        f"{cases:,} | no failure",
    )
