"""The OpenAPI document tells the truth, and its page works without the internet."""

import re
import tomllib
from typing import Any

import pytest

from support.service import PROJECT, Service, User
from test_schemas import BLANKS

OPERATIONS = {
    ("/livez", "get"): {"200"},
    ("/health", "get"): {"200", "503"},
    ("/api/{user_id}/tasks", "get"): {"200", "304", "400", "401", "403", "500"},
    ("/api/{user_id}/tasks", "patch"): {"200", "400", "401", "403", "413", "500"},
    ("/api/{user_id}/tasks", "delete"): {"200", "400", "401", "403", "500"},
    ("/api/{user_id}/tasks", "post"): {"201", "400", "401", "403", "413", "422", "500"},
    ("/api/{user_id}/tasks/{task_id}", "get"): {"200", "304", "400", "401", "403", "404", "500"},
    ("/api/{user_id}/tasks/{task_id}", "put"): {
        *("200", "400", "401", "403", "404", "412", "413", "500")
    },
    ("/api/{user_id}/tasks/{task_id}", "delete"): {"204", "400", "401", "403", "404", "412", "500"},
    ("/api/{user_id}/tasks/{task_id}/complete", "patch"): {
        *("200", "400", "401", "403", "404", "412", "500")
    },
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
            if status in {"400", "401", "403", "404", "412", "413", "422", "500"}:
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
        expected: Any = None if is_open else [{"HTTPBearer": []}]
        assert operation.get("security") == expected


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
    }
    task = "/{task_id}"
    for call in (("", "get"), (task, "get")):
        assert list(headers[call]) == ["If-None-Match"]
    for call in ((task, "put"), (task, "delete"), (f"{task}/complete", "patch")):
        assert headers[call] == {"If-Match": {"type": "string", "title": "If-Match"}}
    for (path, method), operation in operations(document).items():
        for status, response in operation["responses"].items():
            is_bulk = path.endswith("tasks") and method in {"patch", "delete"}
            has_etag = status in {"200", "201", "304", "412"} and "tasks" in path and not is_bulk
            assert ("ETag" in response.get("headers", {})) == has_etag, (path, method, status)


def test_the_schemas_say_what_is_accepted(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    title = {"type": "string", "minLength": 1, "maxLength": 200}
    storable = {"type": "string", "maxLength": 1000, "pattern": "^[^\\u0000]*$"}
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


@pytest.mark.parametrize("title", [*BLANKS, "NUL \0"])
def test_the_titles_pattern_says_what_is_refused(document: dict[str, Any], title: str) -> None:
    pattern = document["components"]["schemas"]["TaskCreate"]["properties"]["title"]["pattern"]
    assert re.search(pattern, f"{title}x") or "\0" in title
    assert not re.search(pattern, title)


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
