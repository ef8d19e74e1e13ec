"""CORS: which pages may call the API from a browser, and which headers they see."""

import re
from collections.abc import Awaitable
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from errors import ValidationFailed, render

ALLOWED_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]
ALLOWED_HEADERS = [
    *("Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key"),
]
EXPOSED_HEADERS = [
    *("Allow", "ETag", "Idempotency-Replayed", "Link", "Retry-After", "WWW-Authenticate"),
    "X-Request-ID",
]


class JSONCORSMiddleware(CORSMiddleware):
    """Starlette's middleware, with the common error body for refused preflights."""

    def __call__(  # type: ignore[override]  # awaited all the same
        self, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
        """Pass a request on; one without an `Origin` needs no header of CORS."""
        if scope["type"] == "http" and b"origin" in dict(scope["headers"]):
            return super().__call__(scope, receive, send)
        return self.app(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight. The browser only looks at the headers."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == HTTPStatus.OK:
            return answer
        refusal = render(ValidationFailed(bytes(answer.body).decode()))
        for name, value in answer.headers.items():
            refusal.headers.setdefault(name, value)
        return refusal


def add_cors(app: FastAPI, allowed_origins: tuple[str, ...]) -> None:
    """Let pages of these origins call the app, with credentials."""
    # Without a dot or a slash: evil.com/-team.vercel.app and a.b-team.vercel.app do not match.
    patterns = [re.escape(o).replace(r"\*", "[a-z0-9-]+") for o in allowed_origins if "*" in o]
    app.add_middleware(
        JSONCORSMiddleware,
        allow_origins=[origin for origin in allowed_origins if "*" not in origin],
        allow_origin_regex="|".join(patterns) or None,
        allow_methods=ALLOWED_METHODS,
        allow_headers=ALLOWED_HEADERS,
        allow_credentials=True,
        expose_headers=EXPOSED_HEADERS,
    )
