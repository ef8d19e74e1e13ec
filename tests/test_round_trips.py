"""How many statements PostgreSQL receives for a request, by its own log."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from support.postgres import FragileServer, fragile_server
from support.service import Service, User, environment, running
from support.tokens import signed

# One message may hold several statements; it is one round trip and one line. A time limit may come
# first. A prepared statement's name begins as its text.
VERB = re.compile(r'(?:SET LOCAL [^;]*; )?(?:(?:PREPARE|EXECUTE) ")?(\w+)')
RECEIVED = re.compile(r"LOG:  statement: (.*)")


class Call(NamedTuple):
    method: str
    path: str
    body: Any
    status: int
    verb: str


CALLS = [
    Call("GET", "", None, 200, "SELECT"),
    Call("GET", "?status=pending&sort=title", None, 200, "SELECT"),
    Call("GET", "?limit=1", None, 200, "SELECT"),
    Call("GET", "?limit=1&sort=updated&order=asc&status=pending", None, 200, "SELECT"),
    Call("GET", "?limit=1&sort=title", None, 200, "SELECT"),
    Call("GET", "?limit=1&q=x", None, 200, "SELECT"),
    Call("PATCH", "", {"completed": True}, 200, "WITH"),
    Call("DELETE", "?status=all", None, 200, "WITH"),
    Call("POST", "", {"title": "x"}, 201, "INSERT"),
    Call("GET", "/{}", None, 200, "SELECT"),
    Call("PUT", "/{}", {"title": "x"}, 200, "UPDATE"),
    Call("PUT", "/{}", {}, 200, "SELECT"),
    Call("PATCH", "/{}/complete", None, 200, "UPDATE"),
    Call("DELETE", "/{}", None, 204, "DELETE"),
]
HEADS = [Call("HEAD", "", None, 200, "SELECT"), Call("HEAD", "/{}", None, 200, "SELECT")]
CHANGES = [call for call in CALLS if "{}" in call.path and call.method != "GET"]
READS = [call for call in [*CALLS, *HEADS] if call.method in {"GET", "HEAD"}]
OTHER = {"If-Match": '"2020-01-01T00:00:00Z"'}
ITEM_CALLS = [call for call in CALLS if "{}" in call.path]


class Counted(NamedTuple):
    """A service, and the server that logs what it receives."""

    service: Service
    server: FragileServer

    def send(
        self, user: User, call: Call, task_id: object, headers: dict[str, str] | None = None
    ) -> tuple[int, list[str]]:
        """Return the request's status, and the statements that it took."""
        before = self.server.log.stat().st_size
        path = call.path.format(task_id)
        status = user.call(call.method, path, json=call.body, headers=headers or {}).status_code
        with self.server.log.open() as log:
            log.seek(before)
            return status, RECEIVED.findall(log.read())


@pytest.fixture(scope="module")
def counted() -> Iterator[Counted]:
    with (
        fragile_server(log_statement="all") as server,
        running(environment(server.url)) as service,
    ):
        service.user().create()  # there is a connection now
        yield Counted(service, server)


@pytest.mark.parametrize("call", [*CALLS, *HEADS])
def test_a_request_costs_one_statement(counted: Counted, call: Call) -> None:
    user = counted.service.user()
    status, statements = counted.send(user, call, user.create()["id"])
    assert (status, verbs(statements)) == (call.status, [call.verb])


def verbs(statements: list[str]) -> list[str]:
    return [VERB.findall(statement)[0] for statement in statements]


@pytest.mark.parametrize("call", CHANGES)
def test_a_conditional_change_costs_one_statement(counted: Counted, call: Call) -> None:
    user = counted.service.user()
    for value in ("*", '"{}"'):
        task = user.create()
        headers = {"If-Match": value.format(task["updated_at"])}
        status, statements = counted.send(user, call, task["id"], headers)
        assert (status, verbs(statements)) == (call.status, [call.verb])


@pytest.mark.parametrize("call", READS)
def test_an_answer_that_the_client_has_costs_one_statement(counted: Counted, call: Call) -> None:
    user = counted.service.user()
    status, statements = counted.send(user, call, user.create()["id"], {"If-None-Match": "*"})
    assert (status, verbs(statements)) == (304, ["SELECT"])


@pytest.mark.parametrize("call", CHANGES)
def test_a_version_that_is_gone_costs_two(counted: Counted, call: Call) -> None:
    user = counted.service.user()
    status, statements = counted.send(user, call, user.create()["id"], OTHER)
    assert (status, verbs(statements)) == (412, [call.verb, "SELECT"])


@pytest.mark.parametrize("call", ITEM_CALLS)
def test_a_refusal_costs_two(counted: Counted, call: Call) -> None:
    task_id = counted.service.user().create()["id"]
    for wanted, expected in ((task_id, 403), (2**31 - 1, 404)):
        for headers in ({}, OTHER):
            user = counted.service.user()
            status, statements = counted.send(user, call, wanted, headers)
            assert (status, len(statements)) == (expected, 2)


@pytest.mark.parametrize("call", CALLS)
def test_a_request_without_a_right_token_costs_none(counted: Counted, call: Call) -> None:
    user = counted.service.user()
    task_id = user.create()["id"]
    valid = signed(sub=user.id)
    for token in ("x", signed(sub=user.id, exp=1), f"{valid}x", signed(sub=user.id, nbf=2e9)):
        headers = {"Authorization": f"Bearer {token}"}
        assert counted.send(user, call, task_id, headers) == (401, [])
    headers = {"Authorization": f"Bearer {signed(sub='someone else')}"}
    assert counted.send(user, call, task_id, headers) == (403, [])


@pytest.mark.parametrize("call", ITEM_CALLS)
def test_an_impossible_task_id_costs_none(counted: Counted, call: Call) -> None:
    user = counted.service.user()
    for task_id, expected in ((2**31, 404), (-(10**30), 404), ("x", 400)):
        assert counted.send(user, call, task_id, OTHER) == (expected, [])


@pytest.mark.parametrize("call", CHANGES)
def test_a_malformed_precondition_costs_none(counted: Counted, call: Call) -> None:
    user = counted.service.user()
    assert counted.send(user, call, 1, {"If-Match": "x"}) == (400, [])


def test_a_creation_with_a_key_costs_one_statement_and_its_repetition_two(
    counted: Counted,
) -> None:
    user = counted.service.user()
    call = next(call for call in CALLS if call.method == "POST")
    other = call._replace(body={"title": "another"})
    for request, status, expected in (
        (call, 201, ["WITH"]),
        (call, 201, ["WITH", "SELECT"]),
        (other, 422, ["WITH", "SELECT"]),
    ):
        answered, statements = counted.send(user, request, "", {"Idempotency-Key": "k"})
        assert (answered, verbs(statements)) == (status, expected)
    assert counted.send(user, call, "", {"Idempotency-Key": ""}) == (400, [])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_being_alive_costs_none(counted: Counted, method: str) -> None:
    before = counted.server.log.stat().st_size
    assert counted.service.client.request(method, "/livez").status_code == 200
    with counted.server.log.open() as log:
        log.seek(before)
        assert not RECEIVED.findall(log.read())
