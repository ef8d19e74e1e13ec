"""`DATABASE_URL` as libpq reads it, and as people write it."""

import re
from urllib.parse import quote, unquote

import psycopg2
from psycopg2.extensions import parse_dsn

NOT_A_URL = "must be a PostgreSQL URL: postgresql://user:password@host:5432/database"
SCHEME = re.compile(r"postgres(?:ql)?(?:\+psycopg2)?://")
# Hosts, a database, parameters; nothing that could be the rest of a password.
TARGET = re.compile(r"[^/?#@]*(?:/[^/?#@]*)?(?:\?[^?#@]*)?")
PORTS = re.compile(r"(?:[0-9]{1,5})?(?:,(?:[0-9]{1,5})?)*")
PLACEHOLDERS = {"host": "hostname", "dbname": "database_name"}
EXAMPLE_HOST = "ep-cool-name-123456"
"""Neon's, as the example file and the guides spell it."""


def normalized(url: str) -> str:
    """Return the URL as libpq takes it, with a user and a password that are percent-encoded.

    Raises:
        ValueError: It is none, or it is still the example. The message holds no part of it.

    """
    scheme = SCHEME.match(url)
    if not scheme:
        raise ValueError(NOT_A_URL)
    rest = url[scheme.end() :]
    given = _parse(rest)
    if given is None or "@" in given.get("host", "") + given.get("dbname", ""):
        rest = _with_encoded_credentials(rest)
        given = _parse(rest)
    if given is None:
        raise ValueError("has a parameter that PostgreSQL's client library refuses")
    if not PORTS.fullmatch(given.get("port", "")):
        raise ValueError(NOT_A_URL)
    for name, placeholder in PLACEHOLDERS.items():
        if given.get(name) == placeholder:
            raise ValueError(f"still has {placeholder!r} from .env.example: put your own there")
    if given.get("host", "").startswith(EXAMPLE_HOST):
        raise ValueError(f"still has {EXAMPLE_HOST!r} from .env.example: put your own host there")
    return f"postgresql://{rest}"


def hosts(url: str) -> str:
    """Return where the database is: hosts and ports, without user, password and parameters."""
    given = parse_dsn(url)
    names = given.get("host") or given.get("hostaddr") or "localhost"
    return f"{names} port {given['port']}" if given.get("port") else names


def _parse(rest: str) -> dict[str, str] | None:
    try:
        return parse_dsn(f"postgresql://{rest}")
    except (psycopg2.Error, ValueError):  # ValueError: a NUL
        return None


def _with_encoded_credentials(rest: str) -> str:
    """Encode a password with @, /, ? or # in it: it ends at the first @ that a target follows."""
    for at in (index for index, character in enumerate(rest) if character == "@"):
        if TARGET.fullmatch(rest, at + 1):
            credentials = (quote(unquote(part), safe="") for part in rest[:at].split(":", 1))
            return f"{':'.join(credentials)}{rest[at:]}"
    if "@" in rest:
        raise ValueError("has an unencoded @, /, ? or #: write %40, %2F, %3F or %23 in a password")
    return rest
