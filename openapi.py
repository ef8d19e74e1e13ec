"""Completes the OpenAPI document, so that generated clients and readers can rely on it."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from errors import (
    NOT_AN_OBJECT,
    ApiError,
    Causes,
    HeadersTooLarge,
    PayloadTooLarge,
    RequestTimeout,
    ServerError,
    TooManyRequests,
    Unauthorized,
    UserMismatch,
    ValidationFailed,
)
from openapi_examples import HEADERS
from schemas import ErrorResponse

SERVERS = [{"url": "/", "description": "The server that this document comes from"}]
TAGS = [
    {"name": "tasks", "description": "One task, or many at once; always the signed-in user's own."},
    {"name": "health", "description": "For platforms and monitors; without a token."},
]

# What the server refuses before the app sees the request.
PROTOCOL_ERRORS = (RequestTimeout(), HeadersTooLarge())
# Each is possible on every route that authenticates; a GET may send a body too.
ALWAYS = (
    *(Unauthorized(), UserMismatch(), PayloadTooLarge(), TooManyRequests(17)),
    *(*PROTOCOL_ERRORS, ServerError()),
)

# For readers and generated functions: what a call needs comes first.
PLACES = ("path", "query", "header")

Responses = dict[int | str, dict[str, Any]]


def operation_id(route: APIRoute) -> str:
    """Name an operation after its function; generated clients name their methods after it."""
    return route.name


def example(value: object) -> dict[str, Any]:
    """Document a response by an example."""
    return {"content": {"application/json": {"example": value}}}


def headers(*names: str) -> dict[str, Any]:
    """Document a response's headers, which HEADERS explains."""
    return {"headers": {name: _reference(name) for name in names}}


def _reference(header: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{header}"}


def with_errors(documented: Responses | None, declared: Dependant) -> Responses:
    """Add the errors that an endpoint's parameters can cause, and those that each request can."""
    return add_errors({**(documented or {})}, *_errors(declared), *ALWAYS)


def add_errors(responses: Responses, *errors: ApiError) -> Responses:
    """Add a response for each status of the errors, with an example for each error."""
    for error in sorted(errors, key=lambda error: error.status):
        summary = (type(error).__doc__ or "").partition("\n")[0]
        response = responses.setdefault(error.status.value, _error_response(error))
        if summary not in response["description"]:
            response["description"] = f"{response['description']} {summary}".strip()
        response["content"]["application/json"]["examples"][error.detail] = {
            "value": {"detail": error.detail, "code": error.code}
        }
    return responses


def _errors(declared: Dependant) -> Iterator[ApiError]:
    """Yield the errors in the `Causes` of the parameters' types. Each parameter can be invalid."""
    fields = [
        *(*declared.path_params, *declared.query_params),
        *(*declared.header_params, *declared.body_params),
    ]
    for field in fields:
        causes = [each for each in field.field_info.metadata if isinstance(each, Causes)]
        yield from causes[0].errors if causes else [ValidationFailed(f"{field.name} is not valid")]
    if declared.body_params:
        yield ValidationFailed(NOT_AN_OBJECT)


def _error_response(error: ApiError) -> dict[str, Any]:
    return {
        "model": ErrorResponse,
        "description": "",
        "content": {"application/json": {"examples": {}}},
        **headers(*error.headers),
    }


def add_etag(responses: Responses, *, revalidates: bool) -> None:
    """Document the `ETag` of a successful response, and the 304 of a GET."""
    added = headers("ETag", *(["Cache-Control"] if revalidates else []))["headers"]
    for status in [status for status in responses if int(status) < HTTPStatus.BAD_REQUEST]:
        responses[status]["headers"] = {**responses[status].get("headers", {}), **added}
    if revalidates:
        responses[304] = {
            "description": "It is what you have: `If-None-Match` names it.",
            "headers": added,
        }


def document(app: FastAPI) -> None:
    """Complete the app's document with what FastAPI's own leaves out.

    `app.state.example_user` is the user id that Swagger UI offers, if there is one.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            _complete(generate(), app)
        return generate()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _complete(schema: dict[str, Any], app: FastAPI) -> None:
    example_user = getattr(app.state, "example_user", None)
    for route in app.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            operation = schema["paths"][route.path_format][method.lower()]
            _complete_parameters(operation, route.path_format, example_user)
            _complete_responses(operation["responses"], route.responses)
    components = schema["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    used = str(schema["paths"])
    components["headers"] = {
        name: header for name, header in HEADERS.items() if str(_reference(name)) in used
    }


def _complete_parameters(operation: dict[str, Any], path: str, example_user: str | None) -> None:
    """Order the parameters, take `null` from their types, and give the required ones values.

    Swagger UI fills in what stands as `example`: optional parameters have `examples` alone.
    """
    parameters = operation.get("parameters", [])
    parameters.sort(key=lambda each: (PLACES.index(each["in"]), path.find(each["name"])))
    for parameter in parameters:
        schema = parameter["schema"]
        kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
        parameter["schema"] = kinds[0] | schema if kinds else schema
        if parameter["in"] == "path":
            (parameter["example"],) = schema.pop("examples")
            if parameter["name"] == "user_id" and example_user:
                parameter["example"] = example_user


def _complete_responses(documented: dict[str, Any], declared: Responses) -> None:
    """Remove FastAPI's 422 (this service responds with 400), and add what it leaves out."""
    if "HTTPValidationError" in str(documented.get("422")):
        del documented["422"]
    for response in documented.values():
        response.setdefault("headers", {})["X-Request-ID"] = _reference("X-Request-ID")
    for status, response in declared.items():
        for media_type, content in response.get("content", {}).items():
            # FastAPI drops each `null`, even from examples.
            values = {name: content[name] for name in ("example", "examples") if name in content}
            documented[f"{status}"]["content"][media_type].update(values)
