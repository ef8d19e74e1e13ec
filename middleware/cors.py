"""CORS: which pages may call the API from a browser, and which headers they see."""

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

ALLOWED_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]
ALLOWED_HEADERS = ["Authorization", "Content-Type"]
EXPOSED_HEADERS = ["Allow", "WWW-Authenticate", "X-Request-ID"]


def add_cors(app: FastAPI, allowed_origins: tuple[str, ...]) -> None:
    """Let pages of these origins call the app, with credentials."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=allowed_origins,
        allow_methods=ALLOWED_METHODS,
        allow_headers=ALLOWED_HEADERS,
        allow_credentials=True,
        expose_headers=EXPOSED_HEADERS,
    )
