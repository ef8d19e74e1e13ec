"""The headers that every answer needs: whether it may be cached, framed and guessed at."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Header = tuple[bytes, bytes]

API = "/api/"
STATIC = "/static-"
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
NO_FRAMES = [(b"x-frame-options", b"DENY"), (b"content-security-policy", b"frame-ancestors 'none'")]
NO_STORE = (b"cache-control", b"no-store")
REVALIDATE = (b"cache-control", b"private, no-cache")
VARY = b"Authorization, Origin"
VARY_BY_ORIGIN = (b"vary", b"Origin")


class ResponseHeadersMiddleware:
    """Add the headers that an answer does not have yet.

    Tasks may be kept by the browser that got them, which asks every time whether they are still
    right; nothing else may be kept, except the documentation's scripts and styles.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on, and its answer with more headers."""

        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = _completed(scope, message)
            return send(message)

        return self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _completed(scope: Scope, message: Message) -> list[Header]:
    completed = [*message.get("headers", ()), NO_SNIFFING]
    present = dict(completed)
    if present.get(b"content-type", b"").startswith(b"text/html"):
        completed += NO_FRAMES
    success = message["status"] in {200, 206, 304} and scope["method"] in {"GET", "HEAD"}
    if success and scope["path"].startswith(STATIC):
        if b"vary" not in present:
            completed.append(VARY_BY_ORIGIN)
        return completed
    if b"cache-control" not in present:
        tasks = success and scope["path"].startswith(API)
        completed.append(REVALIDATE if tasks else NO_STORE)
    vary = VARY
    if b"vary" in present:
        completed = [header for header in completed if header[0] != b"vary"]
        others = [name for name in present[b"vary"].split(b", ") if name not in VARY]
        vary = b", ".join([VARY, *others])
    completed.append((b"vary", vary))
    return completed
