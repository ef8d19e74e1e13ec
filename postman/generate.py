"""Makes the Postman collection from the OpenAPI document: `uv run -m postman.generate`."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from postman.steps import FOLDERS, Step

FOLDER = Path(__file__).parent
COLLECTION = "collection.json"
ENVIRONMENT = "environment.json"
SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
DESCRIPTION = """Made from the OpenAPI document; docs/postman.md says how to use it.

Set `base_url`, `user_id` and `token` in the environment, then run the collection from its top.
**It deletes all tasks of the user: take a user of its own.**"""
# A user id may have any characters; in the path it is percent-encoded.
ENCODE_USER = 'pm.variables.set("user_in_path", encodeURIComponent(pm.variables.get("user_id")));'

Document = dict[str, Any]


def document() -> Document:
    """Return the service's OpenAPI document, which no setting changes."""
    os.environ |= {
        "DATABASE_URL": "postgresql://127.0.0.1/unused",
        "BETTER_AUTH_SECRET": "unused-0123456789-0123456789-0123456789",
        "ALLOWED_ORIGINS": "http://localhost:3000",
    }
    from main import app  # noqa: PLC0415  # it reads the settings

    return app.openapi()


def collection(document: Document) -> dict[str, Any]:
    """Make the collection."""
    return {
        "info": {
            "name": document["info"]["title"],
            "version": document["info"]["version"],
            "description": DESCRIPTION,
            "schema": SCHEMA,
        },
        "auth": {
            "type": "bearer",
            "bearer": [{"key": "token", "value": "{{token}}", "type": "string"}],
        },
        "event": [_script("prerequest", ENCODE_USER)],
        "item": [
            {"name": name, "item": [request(document, step) for step in steps]}
            for name, steps in FOLDERS.items()
        ],
    }


def environment() -> dict[str, Any]:
    """Make the environment."""
    values = {"base_url": "http://localhost:8000", "user_id": "postman", "token": ""}
    return {
        "name": "Todo API on this machine",
        "values": [
            {
                "key": key,
                "value": value,
                "type": "secret" if key == "token" else "default",
                "enabled": True,
            }
            for key, value in values.items()
        ],
    }


def request(document: Document, step: Step) -> dict[str, Any]:
    """Make one request with its tests."""
    method, path, operation = _find(document, step.operation)
    headers = [{"key": key, "value": value} for key, value in step.headers.items()]
    made: dict[str, Any] = {
        "method": method.upper(),
        "header": headers,
        "url": _url(path, operation, step),
        "description": operation.get("description", ""),
    }
    if not step.has_token:
        made["auth"] = {"type": "noauth"}
    if "requestBody" in operation:
        headers.append({"key": "Content-Type", "value": "application/json"})
        made["body"] = {
            "mode": "raw",
            "raw": json.dumps(_body(operation, step), indent=2, ensure_ascii=False),
            "options": {"raw": {"language": "json"}},
        }
    events = [_script("test", f"{_contract(document, operation, step)}\n{step.tests.strip()}")]
    if step.before:
        events.insert(0, _script("prerequest", step.before))
    return {"name": step.name, "event": events, "request": made}


def _find(document: Document, operation_id: str) -> tuple[str, str, dict[str, Any]]:
    [found] = [
        (method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation["operationId"] == operation_id
    ]
    return found


def _url(path: str, operation: dict[str, Any], step: Step) -> dict[str, Any]:
    path = path.replace("{user_id}", step.user).replace("{task_id}", "{{task_id}}")
    query = []
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query":
            name = parameter["name"]
            value = step.query.get(name, parameter["schema"].get("default") or "")
            query.append(
                {
                    "key": name,
                    "value": value,
                    "description": parameter.get("description", ""),
                    "disabled": name not in step.query,
                }
            )
    sent = "&".join(f"{key}={value}" for key, value in step.query.items())
    return {
        "raw": f"{{{{base_url}}}}{path}" + (f"?{sent}" if sent else ""),
        "host": ["{{base_url}}"],
        "path": path.removeprefix("/").split("/"),
        "query": query,
    }


def _body(operation: dict[str, Any], step: Step) -> Any:  # noqa: ANN401  # whatever JSON it is
    if step.body is not None:
        return step.body
    content = operation["requestBody"]["content"]["application/json"]
    return next(iter(content["examples"].values()))["value"]


def _contract(document: Document, operation: dict[str, Any], step: Step) -> str:
    """Test what the document says of the response."""
    tests = (
        f'pm.test("the status is {step.status}", () => pm.response.to.have.status({step.status}));'
    )
    response = operation["responses"][str(step.status)]
    if "content" not in response:
        return (
            f'{tests}\npm.test("there is no body", () => pm.expect(pm.response.text()).to.eql(""));'
        )
    schema = json.dumps(_inlined(document, response["content"]["application/json"]["schema"]))
    return f"""{tests}
pm.test("the body is as documented", () => pm.response.to.have.jsonSchema({schema}));"""


def _inlined(document: Document, schema: Any) -> Any:  # noqa: ANN401  # a part of a JSON schema
    """Replace references by what they name; drop what is only for people."""
    if isinstance(schema, list):
        return [_inlined(document, each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _inlined(document, document["components"]["schemas"][name])
    return {
        key: {name: _inlined(document, each) for name, each in value.items()}
        if key == "properties"
        else _inlined(document, value)
        for key, value in schema.items()
        if key not in {"title", "description", "examples", "example"}
    }


def _script(listen: str, code: str) -> dict[str, Any]:
    return {"listen": listen, "script": {"type": "text/javascript", "exec": code.split("\n")}}


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER, help="the folder")
    output: Path = parser.parse_args().output
    for name, made in ((COLLECTION, collection(document())), (ENVIRONMENT, environment())):
        text = json.dumps(made, indent=2, ensure_ascii=False)
        (output / name).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
