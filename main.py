"""The app: settings, logging, middleware, errors, routes. `python main.py` serves it on PORT."""

if __name__ == "__main__":
    # Before the imports, which the supervisor of several workers does not need.
    from server import run

    run()

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

import errors
import openapi
from auth import TokenVerifier
from config import Settings, startup_settings
from database import Database
from middleware.cors import add_cors
from middleware.encoded_path import EncodedPathMiddleware
from middleware.head import HeadMiddleware
from middleware.request_log import RequestLogMiddleware
from middleware.response_headers import ResponseHeadersMiddleware
from routes import health, tasks

VERSION = "1.0.0"
DESCRIPTION = """
Each signed-in user's own tasks.

**To try it out**, press *Authorize* and paste a token: the one that `dev.py` prints, or what your
frontend gets from Better Auth's `/api/auth/token`. The `user_id` in every path is the token's
`sub`; in a URL that you build yourself, percent-encode it.

**Every error** has the body `{"detail": "a sentence for people", "code": "A_CONSTANT"}`. A 401
means: get a new token and try again. Every answer carries an `X-Request-ID`, which finds it in the
service's log.
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
    database.close()


def create_app(settings: Settings) -> FastAPI:
    """Make the app."""
    app = FastAPIOffline(
        title="Todo API",
        version=VERSION,
        description=DESCRIPTION,
        redoc_url=None,
        redirect_slashes=False,
        swagger_ui_parameters={"persistAuthorization": True, "tryItOutEnabled": True},
        lifespan=lifespan,
    )
    app.state.database = Database(settings)
    app.state.token_verifier = TokenVerifier(settings)
    # Before the documentation, and without include_router, which matches each path twice.
    app.router.routes[:0] = [*health.router.routes, *tasks.router.routes]
    openapi.document(app)
    # From the innermost to the outermost.
    app.add_middleware(HeadMiddleware)
    errors.install(app)
    add_cors(app, settings.allowed_origins)
    app.add_middleware(ResponseHeadersMiddleware)
    app.add_middleware(RequestLogMiddleware)
    app.add_middleware(EncodedPathMiddleware)
    logger.info("%s %s, environment %s", app.title, VERSION, settings.environment)
    return app


app = create_app(startup_settings())
