"""HEAD wherever GET works, with the same status and headers."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadMiddleware:
    """Let the app answer HEAD as GET.

    FastAPI's routes know GET alone, and a second route for HEAD would stand in the API's document.
    The server knows the method that was sent, and sends no body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on as one that the routes know."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        return self.app(scope, receive, send)
