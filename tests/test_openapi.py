"""The OpenAPI document tells the truth, and its page works without the internet."""

import itertools
import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import errors
from openapi_examples import HEADERS
from support.service import PROJECT, Service, User, environment, running
from test_schemas import BLANKS

TASKS = "/api/{user_id}/tasks"
TASK = "/api/{user_id}/tasks/{task_id}"
ANYWHERE = {"408", "431"}
ALWAYS = {"400", "401", "403", "413", "429", "500", *ANYWHERE}
OPERATIONS = {
    ("/livez", "get"): {"200", *ANYWHERE},
    ("/health", "get"): {"200", "503", *ANYWHERE},
    (TASKS, "get"): {"200", "304", *ALWAYS},
    (TASKS, "post"): {"201", "422", *ALWAYS},
    (TASKS, "patch"): {"200", *ALWAYS},
    (TASKS, "delete"): {"200", *ALWAYS},
    (TASK, "get"): {"200", "304", "404", *ALWAYS},
    (TASK, "put"): {"200", "404", "412", *ALWAYS},
    (TASK, "delete"): {"204", "404", "412", *ALWAYS},
    (f"{TASK}/complete", "patch"): {"200", "404", "412", *ALWAYS},
}


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    body: dict[str, Any] = service.client.get("/openapi.json").json()
    return body


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_operation_documents_its_real_statuses(document: dict[str, Any]) -> None:
    documented = {key: set(value["responses"]) for key, value in operations(document).items()}
    assert documented == OPERATIONS
    assert "HTTPValidationError" not in str(document)
    for operation in operations(document).values():
        if reused := operation["responses"].get("422"):
            (example,) = reused["content"]["application/json"]["examples"].values()
            assert example["value"]["code"] == "IDEMPOTENCY_KEY_REUSED"


def test_every_error_has_the_error_body_and_an_example(document: dict[str, Any]) -> None:
    for operation in operations(document).values():
        for status, response in operation["responses"].items():
            if status >= "400" and status != "503":
                content = response["content"]["application/json"]
                assert content["schema"] == {"$ref": "#/components/schemas/ErrorResponse"}
                for example in content["examples"].values():
                    assert set(example["value"]) == {"detail", "code"}


def test_the_examples_are_the_specifications(document: dict[str, Any]) -> None:
    responses = operations(document)["/api/{user_id}/tasks/{task_id}", "put"]["responses"]
    examples = {
        (status, example["value"]["detail"], example["value"]["code"])
        for status, response in responses.items()
        for example in response["content"]["application/json"].get("examples", {}).values()
    }
    assert examples >= {
        ("400", "Title must be between 1 and 200 characters", "VALIDATION_ERROR"),
        ("401", "Invalid or expired authentication token", "UNAUTHORIZED"),
        ("403", "Access denied: user_id mismatch", "FORBIDDEN"),
        ("403", "Access denied: task belongs to another user", "FORBIDDEN"),
        ("404", "Task with id 999 not found", "NOT_FOUND"),
        ("412", "The task has changed in the meantime", "PRECONDITION_FAILED"),
        ("500", "Internal server error", "SERVER_ERROR"),
    }


def test_all_but_health_need_the_bearer_token(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for (path, _), operation in operations(document).items():
        is_open = path in {"/health", "/livez"}
        expected: Any = [] if is_open else [{"HTTPBearer": []}]
        assert operation.get("security") == expected


def test_the_authorize_dialog_says_what_to_paste(document: dict[str, Any]) -> None:
    description = document["components"]["securitySchemes"]["HTTPBearer"]["description"]
    assert "without the word `Bearer`" in description


def test_servers_and_tags_are_described(document: dict[str, Any]) -> None:
    assert [server["url"] for server in document["servers"]] == ["/"]
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert tags == {tag for operation in operations(document).values() for tag in operation["tags"]}


def test_the_version_is_the_projects(document: dict[str, Any]) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert document["info"]["version"] == project["version"]


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    names = {operation["operationId"] for operation in operations(document).values()}
    assert names == {
        *(
            "check_health",
            "check_liveness",
            "list_tasks",
            "create_task",
            "get_task",
            "update_task",
            "delete_task",
        ),
        *("toggle_task", "update_tasks", "delete_tasks"),
    }
    for operation in operations(document).values():
        assert operation["summary"]
        assert operation["description"]


def test_conditional_headers_are_documented(document: dict[str, Any]) -> None:
    headers = {
        (path.partition("tasks")[2], method): {
            parameter["name"]: parameter["schema"]
            for parameter in operation.get("parameters", [])
            if parameter["in"] == "header"
        }
        for (path, method), operation in operations(document).items()
        if path.startswith(TASKS)
    }
    task = "/{task_id}"
    for call in (("", "get"), (task, "get")):
        assert list(headers[call]) == ["If-None-Match"]
    for call in ((task, "put"), (task, "delete"), (f"{task}/complete", "patch")):
        assert list(headers[call]) == ["If-Match"]
    assert list(headers["", "post"]) == ["Idempotency-Key"]
    for (path, method), operation in operations(document).items():
        for status, response in operation["responses"].items():
            is_bulk = path.endswith("tasks") and method in {"patch", "delete"}
            has_etag = status in {"200", "201", "304", "412"} and "tasks" in path and not is_bulk
            assert ("ETag" in response.get("headers", {})) == has_etag, (path, method, status)


def test_the_schemas_say_what_is_accepted(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    title = {"type": "string", "minLength": 1, "maxLength": 200}
    storable = {"type": "string", "maxLength": 1000, "pattern": r"^[^\x00]*$"}
    assert schemas["TaskCreate"]["required"] == ["title"]
    for name in ("TaskCreate", "TaskUpdate"):
        properties = schemas[name]["properties"]
        assert title.items() <= properties["title"].items()
        assert storable in properties["description"]["anyOf"]
        assert {"type": "null"} in properties["description"]["anyOf"]
    assert schemas["TaskUpdate"]["properties"]["completed"]["type"] == "boolean"
    assert "required" not in schemas["TaskUpdate"]
    assert set(schemas["TaskResponse"]["required"]) == {
        *("id", "user_id", "title", "description", "completed", "created_at", "updated_at")
    }
    assert schemas["TaskStatus"]["enum"] == ["all", "pending", "completed"]
    assert schemas["TaskSort"]["enum"] == ["created", "title", "updated"]


def patterns(part: object) -> Iterator[str]:
    """Yield every regular expression in a part of the document."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "pattern" and isinstance(value, str):
                yield value
            yield from patterns(value)
    elif isinstance(part, list):
        for value in part:
            yield from patterns(value)


def test_patterns_hold_no_character_outside_ascii(document: dict[str, Any]) -> None:
    found = set(patterns(document))
    assert len(found) == 5
    for pattern in found:
        assert pattern.isascii()
        assert r"\u" not in pattern
        re.compile(pattern)


def test_the_titles_pattern_refuses_nothing_that_is_accepted(document: dict[str, Any]) -> None:
    pattern = document["components"]["schemas"]["TaskCreate"]["properties"]["title"]["pattern"]
    for title in (*BLANKS, "🎉", "e\u0301", "\u2800x"):
        assert re.search(pattern, f"{title}x")
    for title in ("", " ", "\t\n", "\u3000", "NUL \0", "\0"):
        assert not re.search(pattern, title)


def test_every_error_stands_in_the_document(document: dict[str, Any]) -> None:
    def documented() -> Iterator[tuple[str, str]]:
        for operation in operations(document).values():
            for status, response in operation["responses"].items():
                for media in response.get("content", {}).values():
                    for example in media.get("examples", {}).values():
                        if code := example["value"].get("code"):
                            yield status, code

    def raised(error: type[errors.ApiError]) -> Iterator[tuple[str, str]]:
        for each in error.__subclasses__():
            yield f"{each.status.value}", each.code
            yield from raised(each)

    assert set(documented()) == set(raised(errors.ApiError))


def test_the_codes_are_an_enumeration(document: dict[str, Any]) -> None:
    documented = document["components"]["schemas"]["ErrorResponse"]["properties"]["code"]["enum"]
    source = (PROJECT / "errors.py").read_text(encoding="utf-8")
    assert set(documented) == {*re.findall('code = "(.+)"', source), "METHOD_NOT_ALLOWED"}


def resolved(document: dict[str, Any], response: dict[str, Any]) -> dict[str, dict[str, Any]]:
    headers = document["components"]["headers"]
    return {name: headers[name] for name in response.get("headers", {})}


def test_responses_have_the_documented_headers(
    user: User, document: dict[str, Any], database_url: str
) -> None:
    with running(environment(database_url, RATE_LIMIT="1/day")) as service:
        hasty = service.user()
        hasty.create()
        refused = hasty.call("GET")
    task = user.create()
    user.create()
    item, key = f"/{task['id']}", {"Idempotency-Key": "once"}
    current = f'"{task["updated_at"]}"'
    calls: list[tuple[str, str, httpx.Response]] = [
        ("/livez", "get", user.client.get("/livez")),
        ("/health", "get", user.client.get("/health")),
        (TASKS, "get", refused),
        (TASKS, "get", user.call("GET")),
        (TASKS, "get", user.call("GET", params={"limit": "1"})),
        (TASKS, "get", user.call("GET", params={"limit": "0"})),
        (TASKS, "get", user.call("GET", headers={"If-None-Match": "*"})),
        (TASKS, "get", user.client.get(user.path)),
        (TASKS, "get", user.client.get("/api/another/tasks", headers=user.headers)),
        (TASKS, "post", user.call("POST", json={"title": "x"}, headers=key)),
        (TASKS, "post", user.call("POST", json={"title": "x"}, headers=key)),
        (TASKS, "post", user.call("POST", json={"title": "y"}, headers=key)),
        (TASKS, "post", user.call("POST", content=b"x" * 70_000)),
        (TASKS, "patch", user.call("PATCH", json={"completed": False})),
        (TASKS, "delete", user.call("DELETE", params={"status": "completed"})),
        (TASK, "get", user.call("GET", item)),
        (TASK, "get", user.call("GET", item, headers={"If-None-Match": current})),
        (TASK, "get", user.call("GET", "/2147483647")),
        (TASK, "put", user.call("PUT", item, json={}, headers={"If-Match": current})),
        (TASK, "put", user.call("PUT", item, json={}, headers={"If-Match": '"old"'})),
        (f"{TASK}/complete", "patch", user.call("PATCH", f"{item}/complete")),
        (TASK, "delete", user.call("DELETE", item, headers={"If-Match": "*"})),
    ]
    assert len({response.status_code for _, _, response in calls}) == 12
    sent: set[str] = set()
    for path, method, response in calls:
        status = str(response.status_code)
        documented = resolved(document, operations(document)[path, method]["responses"][status])
        names = {name for name in documented if name in response.headers}
        assert names >= {name for name, header in documented.items() if header.get("required")}
        # `no-store`, which most responses have, tells a client nothing.
        told = {name for name in HEADERS if response.headers.get(name, "no-store") != "no-store"}
        assert names >= told, (path, status)
        for name in names:
            pattern = documented[name]["schema"].get("pattern", "")
            assert re.search(pattern, response.headers[name])
        sent |= names
    assert sent == set(document["components"]["headers"]) == set(HEADERS)


def test_examples_keep_their_null(document: dict[str, Any]) -> None:
    content = operations(document)[TASKS, "get"]["responses"]["200"]["content"]["application/json"]
    whole, page, last = (example["value"] for example in content["examples"].values())
    fields = {"id", "user_id", "title", "description", "completed", "created_at", "updated_at"}
    for body in (whole, page, last):
        assert body["count"] == len(body["tasks"])
        for task in body["tasks"]:
            assert set(task) == fields
    assert set(whole) == {"tasks", "count"}
    assert set(page) == set(last) == {"tasks", "count", "total", "next_cursor"}
    assert last["next_cursor"] is None


def test_parameters_have_a_description_and_an_example(document: dict[str, Any]) -> None:
    for operation in operations(document).values():
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            assert parameter["description"]
            assert '"null"' not in json.dumps(schema)
            # Swagger UI fills in an `example`, and sends it.
            assert ("example" in parameter) == (parameter["in"] == "path")
            assert {"example", "$ref"} & {*parameter, *schema} or schema["examples"]


def test_the_documented_examples_work(user: User, document: dict[str, Any]) -> None:
    def body(path: str, method: str) -> dict[str, Any]:
        request = operations(document)[f"/api/{{user_id}}/tasks{path}", method]["requestBody"]
        (example,) = request["content"]["application/json"]["examples"].values()
        value: dict[str, Any] = example["value"]
        return value

    created = user.create(**body("", "post"))
    changes = body("/{task_id}", "put")
    changed = user.call("PUT", f"/{created['id']}", json=changes)
    assert changed.json() == created | changes | {"updated_at": changed.json()["updated_at"]}


def test_the_examples_types_have_every_description(document: dict[str, Any]) -> None:
    """The browser suite compares them whole: `npm run types` makes them."""
    types = (PROJECT / "examples" / "frontend" / "lib" / "openapi.d.ts").read_text("utf-8")
    words = " ".join(re.sub(r"\n *\*", " ", types).split())
    parts = [document["paths"], document["components"]["schemas"]]
    missing = [text for text in descriptions(parts) if text not in words]
    assert missing == [], "npm run types"


def descriptions(node: object) -> Iterator[str]:
    """Return every description in this part of the document, on one line each."""
    if isinstance(node, list):
        yield from itertools.chain.from_iterable(map(descriptions, node))
    elif isinstance(node, dict):
        if isinstance(text := node.get("description"), str):
            yield " ".join(text.split())
        yield from itertools.chain.from_iterable(map(descriptions, node.values()))


def test_the_documentation_page_needs_no_other_server(service: Service) -> None:
    page = service.client.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    assert '"persistAuthorization": true' in page.text
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 3
    for link in [*links, "/openapi.json"]:
        assert link.startswith("/")
        asset = service.client.get(link)
        assert asset.status_code == 200
        assert len(asset.content) > 1000
