"""The app: settings, logging, middleware, errors, routes. `python main.py` serves it on PORT."""

if __name__ == "__main__":
    # Before the imports, which the supervisor of several workers does not need.
    from argparse import ArgumentParser

    parser = ArgumentParser(description="Serve the API on PORT with WEB_CONCURRENCY workers.")
    parser.add_argument(
        "--check", action="store_true", help="check the settings and the database, then exit"
    )
    if parser.parse_args().check:
        from preflight import run
    else:
        from server import run
    run()

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

import monitoring
import openapi
import timing
from auth import TokenVerifier
from config import Settings, startup_settings
from database import Database
from database_url import hosts
from middleware.cors import add_cors
from middleware.encoded_path import EncodedPathMiddleware
from middleware.error_responses import ErrorMiddleware
from middleware.head import HeadMiddleware
from middleware.request_log import RequestLogMiddleware
from middleware.response_headers import ResponseHeadersMiddleware
from routes import health, tasks

if TYPE_CHECKING:
    from rate_limit import MemoryLimiter, RedisLimiter

VERSION = "1.0.0"
DESCRIPTION = """
Each signed-in user's own tasks.

**To try it out**, press *Authorize* and paste a token, without the word `Bearer`: the one that
`dev.py` prints, or what your frontend gets from Better Auth's `/api/auth/token`. The `user_id` in
every path is the token's `sub`; in a URL that you build yourself, percent-encode it.

**Every error** has the body `{"detail": "a sentence for people", "code": "A_CONSTANT"}`. A 401
means: get a new token and try again. An unknown path is a 404 `NOT_FOUND`; a method that a path
does not have is a 405 `METHOD_NOT_ALLOWED`, whose `Allow` names those that it has.

**Every response** has an `X-Request-ID`, which finds the request in the service's log. Wherever GET
works, HEAD works too.
"""
FIRST_MIGRATION_TIMEOUT = 10.0

logger = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Apply the schema at start, or in the background if the database is not there yet."""
    database: Database = app.state.database
    attempted = asyncio.Event()
    migration = asyncio.create_task(database.migrate(attempted))
    with suppress(TimeoutError):
        await asyncio.wait_for(attempted.wait(), FIRST_MIGRATION_TIMEOUT)
    yield
    migration.cancel()
    await app.state.token_verifier.close()
    if app.state.rate_limiter:
        await app.state.rate_limiter.close()
    database.close()
    monitoring.close()
    if app.state.telemetry:
        app.state.telemetry.close()


def create_app(settings: Settings) -> FastAPI:
    """Make the app."""
    telemetry = monitoring.start_telemetry(VERSION, settings.environment)
    # Without its document, FastAPI has no pages that show it.
    framework = FastAPIOffline if settings.docs == "on" else partial(FastAPI, openapi_url=None)
    app = framework(
        title="Todo API",
        version=VERSION,
        description=DESCRIPTION,
        redoc_url=None,
        redirect_slashes=False,
        servers=openapi.SERVERS,
        openapi_tags=openapi.TAGS,
        swagger_ui_parameters={"persistAuthorization": True, "tryItOutEnabled": True},
        lifespan=lifespan,
        telemetry=telemetry.for_fastapi if telemetry else monitoring.NO_TELEMETRY,
    )
    app.state.telemetry = telemetry
    monitoring.start(settings, f"todo-backend@{VERSION}")
    app.state.database = Database(settings)
    if telemetry:
        telemetry.observe(app.state.database.pool)
    app.state.token_verifier = TokenVerifier(settings)
    app.state.rate_limiter = _rate_limiter(settings)
    # Before the documentation, and without include_router, which matches each path twice.
    app.router.routes[:0] = [*tasks.router.routes, *health.router.routes]
    openapi.document(app)
    # From the innermost to the outermost.
    app.add_middleware(ErrorMiddleware)
    app.add_middleware(HeadMiddleware)
    add_cors(app, settings.allowed_origins)
    app.add_middleware(ResponseHeadersMiddleware)
    app.add_middleware(RequestLogMiddleware)
    app.add_middleware(EncodedPathMiddleware)
    app.middleware_stack = _layers(app)
    if logger.isEnabledFor(logging.DEBUG):
        timing.listeners.append(timing.LogListener())
    logger.info(
        "%s %s, environment %s, workers: %d, connections of each: %d + %d, database: %s",
        *(app.title, VERSION, settings.environment, settings.web_concurrency),
        *(settings.db_pool_size, settings.db_max_overflow),
        hosts(settings.database_url.get_secret_value()),
    )
    return app


def _layers(app: FastAPI) -> ASGIApp:
    """Return the app's own layers around its routes.

    FastAPI would add five, for errors, telemetry, body sizes and files, which here do nothing or
    what ErrorMiddleware does.
    """
    layers: ASGIApp = app.router
    for layer, arguments, options in reversed(app.user_middleware):
        layers = layer(layers, *arguments, **options)
    return layers


def _rate_limiter(settings: Settings) -> "MemoryLimiter | RedisLimiter | None":
    if not settings.rate_limit:
        return None
    from rate_limit import limiter  # noqa: PLC0415  # not everybody needs its library

    return limiter(settings.rate_limit, settings.rate_limit_storage)


app = create_app(startup_settings())
