"""How a task endpoint's request becomes its arguments, and what it returns the answer."""

import json
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from inspect import signature
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from auth import get_current_user
from database import get_database
from errors import NOT_AN_OBJECT, PayloadTooLarge, ValidationFailed

MAX_BODY_SIZE = 64 * 1024
JSON_TYPE = re.compile(r"application/([^/]+\+)?json")


class TaskRoute(APIRoute):
    """A route that knows its user before it reads the body, of which it takes 64 KiB at most.

    FastAPI by itself reads and decodes the body first, whoever sent it. It also takes longer for
    dependencies, parameters and the answer than everything else in a request together; what it
    found out about the endpoint at start is enough to do the same in a few lines. So an endpoint
    declares what FastAPI documents: the user, the database, parameters of path and query, a body.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # as APIRoute's
        """Look at what the endpoint declares.

        Raises:
            TypeError: It declares something else.

        """
        super().__init__(*args, **kwargs)
        declared = self.dependant
        dependencies = {each.name: each.call for each in declared.dependencies}
        fields = [*declared.path_params, *declared.query_params]
        fields += [self.body_field] if self.body_field else []
        passed = dependencies.keys() | {field.name for field in fields}
        if (
            dependencies != {"user_id": get_current_user, "database": get_database}
            or passed != signature(self.endpoint).parameters.keys()
        ):
            raise TypeError(f"{self.name} has a parameter that TaskRoute does not know")
        # FastAPI's own opens stacks for dependencies that are to be closed; there are none.
        self.app = self._serve

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        return self._answer

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        declared = self.dependant
        user_id = await get_current_user(request, request.path_params["user_id"])
        body = await _read_limited(request)
        arguments = _validated(declared.path_params, request.path_params, "path")
        if declared.query_params:
            arguments |= _validated(declared.query_params, request.query_params, "query")
        if self.body_field:
            sent = _decoded(body, request.headers.get("content-type", ""))
            arguments[self.body_field.name] = _valid(self.body_field, sent, "body")
        database = await get_database(request)
        result = await self.endpoint(user_id=user_id, database=database, **arguments)
        if result is None:
            return Response(status_code=self.status_code or 200)
        content = orjson.dumps(result, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)
        return Response(content, self.status_code or 200, media_type="application/json")


async def _read_limited(request: Request) -> bytes:
    if int(request.headers.get("content-length", 0)) > MAX_BODY_SIZE:
        raise PayloadTooLarge
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_SIZE:
            raise PayloadTooLarge
    return bytes(body)


def _decoded(body: bytes, content_type: str) -> object:
    media_type = content_type.partition(";")[0].strip().lower()
    if not body or not JSON_TYPE.fullmatch(media_type):
        raise ValidationFailed(NOT_AN_OBJECT)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ValidationFailed("Request body must be valid JSON") from None


def _validated(fields: Sequence[Any], sent: Mapping[str, str], where: str) -> dict[str, Any]:
    return {
        field.name: _valid(field, sent[field.alias], where, field.alias)
        if field.alias in sent
        else field.get_default()
        for field in fields
    }


def _valid(field: Any, value: object, *where: str) -> Any:  # noqa: ANN401  # FastAPI's; any type
    valid, errors = field.validate(value, loc=where)
    if errors:
        raise RequestValidationError(errors)
    return valid
