"""Settings: the only reader of the environment. A mistake is one line that names the variable."""

import logging
import re
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from jose import jwk
from jose.exceptions import JWKError
from publicsuffixlist import PublicSuffixList
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from uvicorn.config import STARTUP_FAILURE

import database_url
from logs import configure_logging

ENV_FILE = Path(__file__).parent / ".env"
MIN_SECRET_LENGTH = 32
NOT_AN_HTTP_URL = (
    "must be an http or https URL, such as https://app.example.com, without user, ? and #"
)
VERSION = re.compile(r"[0-9]{1,9}")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\s]+")
ORIGIN_PATTERN = re.compile(
    r"https?://(?P<label>[a-z0-9-]*\*[a-z0-9-]*)"
    r"\.(?P<domain>(?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*)(:[0-9]+)?"
)
RATE_LIMIT = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour|day)")
DEFAULT_PORTS = {"http": 80, "https": 443}

logger = logging.getLogger(__name__)


class ConfigurationError(Exception):
    """A setting is wrong. The message is one line that names it, without its value."""


def _database_url(value: SecretStr) -> SecretStr:
    return SecretStr(database_url.normalized(value.get_secret_value().strip()))


def _signing_secret(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < MIN_SECRET_LENGTH:
        raise ValueError(f"must have at least {MIN_SECRET_LENGTH} characters")
    try:
        jwk.construct(value.get_secret_value(), "HS256")
    except JWKError as exc:
        raise ValueError("must be a shared secret, not a public key") from exc
    return value


def _versioned_secrets(value: str | tuple[()]) -> tuple[SecretStr, ...]:
    """Split as Better Auth does: versions once each, the newest first."""
    if not value:
        return ()
    secrets: dict[int, SecretStr] = {}
    for entry in value.split(","):
        version, _, secret = (part.strip() for part in entry.partition(":"))
        if not VERSION.fullmatch(version) or not secret or int(version) in secrets:
            raise ValueError(
                "must be versions, once each, with their secrets, the newest first: 2:new,1:old"
            )
        secrets[int(version)] = _signing_secret(SecretStr(secret))
    return tuple(secrets.values())


def _http_url(value: str) -> str:
    try:
        url = HttpUrl(value)
    except ValidationError as exc:
        raise ValueError(NOT_AN_HTTP_URL) from exc
    if url.username or url.password or url.query is not None or url.fragment is not None:
        raise ValueError(NOT_AN_HTTP_URL)
    return str(url)


def _with_better_auth_url(value: str | None, info: ValidationInfo) -> str | None:
    if value and info.data.get("better_auth_url", "") is None:
        raise ValueError("needs BETTER_AUTH_URL beside it")
    return value


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(_origin(part) for part in value.split(",") if part.strip())
    if not origins:
        raise ValueError("must name at least one origin, such as http://localhost:3000")
    return origins


def _origin(text: str) -> str:
    """Spell an origin as browsers send it: lower case, no trailing slash, no default port."""
    origin = text.strip().lower().rstrip("/")
    if pattern := ORIGIN_PATTERN.fullmatch(origin):
        _refuse_a_pattern_for_everybody(pattern["label"], pattern["domain"])
    elif not ORIGIN.fullmatch(origin):
        raise ValueError(
            "must be origins separated by commas, such as "
            "http://localhost:3000,https://app.example.com (no path; a * only within the first "
            "label of a host, as in https://*-team.vercel.app)"
        )
    default_port = DEFAULT_PORTS.get(urlsplit(origin).scheme)
    return origin.removesuffix(f":{default_port}")


def _refuse_a_pattern_for_everybody(label: str, domain: str) -> None:
    """Refuse `*.com` and `*.vercel.app`: anybody can have a page below a public suffix."""
    own_name = label.replace("*", "").strip("-")
    if PublicSuffixList(only_icann=True).is_public(domain) or (
        not own_name and PublicSuffixList().is_public(domain)
    ):
        raise ValueError(
            "has a pattern that matches everybody's pages: "
            "name your own domain, as in https://*.example.com, or your own part of a shared one, "
            "as in https://*-team.vercel.app"
        )


def _rate_limit(value: str) -> str:
    limit = "".join(value.lower().split())
    if not RATE_LIMIT.fullmatch(limit):
        raise ValueError(
            "must be a number of requests per second, minute, hour or day, such as 600/minute"
        )
    return limit


def _redis_url(value: SecretStr) -> SecretStr | None:
    url = value.get_secret_value().strip()
    if url.lower() == "memory":
        return None
    if not find_spec("redis"):
        raise ValueError("needs the package redis: uv sync --extra redis")
    from redis.connection import parse_url  # noqa: PLC0415  # only where it is asked for

    try:
        parse_url(url)  # type: ignore[no-untyped-call]
        valid = urlsplit(url).scheme in {"redis", "rediss"} and urlsplit(url).hostname
    except (ValueError, TypeError):
        valid = None
    if not valid:
        raise ValueError("must be memory, or a URL: redis://user:password@host:6379/0")
    return SecretStr(url)


def _dsn(value: SecretStr) -> SecretStr:
    if not find_spec("sentry_sdk"):
        raise ValueError("needs the package sentry-sdk: uv sync --extra sentry")
    from sentry_sdk.utils import BadDsn, Dsn  # noqa: PLC0415  # only where it is asked for

    try:
        Dsn(value.get_secret_value().strip())
    except (BadDsn, ValueError):
        raise ValueError(
            "must be a DSN as Sentry shows it: https://key@o1.ingest.sentry.io/1"
        ) from None
    return value


def _lower(value: str) -> str:
    return value.strip().lower()


class Settings(BaseSettings):
    """The service's settings, from the environment or else from `.env` beside this file."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: Annotated[SecretStr, AfterValidator(_database_url)]
    """PostgreSQL URL as libpq takes it: several hosts, and any parameter behind the ?."""

    better_auth_secret: Annotated[SecretStr, AfterValidator(_signing_secret)]
    """The secret that signs the tokens; Better Auth has the same."""

    allowed_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]
    """Origins whose pages may call the API, separated by commas; a `*` in the first label of a
    host stands for one or more of `a` to `z`, `0` to `9` and `-`."""

    better_auth_secrets: Annotated[
        tuple[SecretStr, ...], NoDecode, BeforeValidator(_versioned_secrets)
    ] = ()
    """All valid secrets while they change: `2:new,1:old`. Overrides BETTER_AUTH_SECRET."""

    better_auth_url: Annotated[str, AfterValidator(_http_url)] | None = None
    """Better Auth's base URL. If set, tokens signed with Better Auth's own keys are accepted."""

    better_auth_jwks_url: Annotated[
        Annotated[str, AfterValidator(_http_url)] | None, AfterValidator(_with_better_auth_url)
    ] = None
    """The URL of those keys, if it is not below Better Auth's base URL."""

    better_auth_audience: str | None = None
    """The `aud` that every token must have, if set."""

    environment: str = "development"
    """The deployment's name, for the log."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)
    ] = "info"

    port: int = Field(default=8000, ge=1, le=65535)
    """The port of `python main.py`."""

    web_concurrency: int = Field(default=1, ge=1, le=1000)
    """Workers of `python main.py`: processes that serve the port together."""

    db_pool_size: int = Field(default=10, ge=1, le=1000)
    """Connections that one worker keeps open."""

    db_max_overflow: int = Field(default=0, ge=0, le=1000)
    """Connections that one worker may open beyond them under load."""

    db_timeout: int = Field(default=10, ge=1, le=300)
    """Seconds after which a request that waits for the database is answered with 500."""

    rate_limit: Annotated[str, AfterValidator(_rate_limit)] | None = None
    """Requests that each user may send, such as `600/minute`."""

    rate_limit_storage: Annotated[SecretStr, AfterValidator(_redis_url)] | None = None
    """Where they are counted: `memory`, in each worker by itself, or a Redis, for all together."""

    sentry_dsn: Annotated[SecretStr, AfterValidator(_dsn)] | None = None
    """Where Sentry takes events: one for each 500 and each failed migration."""

    docs: Annotated[Literal["on", "off"], BeforeValidator(_lower)] = "on"
    """Whether `/docs` and `/openapi.json` are served."""

    @model_validator(mode="before")
    @classmethod
    def _newest_secret_first(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Let BETTER_AUTH_SECRETS override BETTER_AUTH_SECRET, as in Better Auth."""
        if secrets := values.get("better_auth_secrets"):
            with suppress(ValueError):  # its own validator reports the problem
                values["better_auth_secret"] = _versioned_secrets(secrets)[0]
        return values

    @property
    def issuer(self) -> str | None:
        """The `iss` of tokens signed with Better Auth's published keys: its URL's origin."""
        if self.better_auth_url is None:
            return None
        url = urlsplit(self.better_auth_url)
        return f"{url.scheme}://{url.netloc}"

    @property
    def oauth_issuer(self) -> str | None:
        """The `iss` of access tokens of Better Auth's OAuth provider: its own base URL."""
        if self.better_auth_url is None:
            return None
        base = self.better_auth_url.rstrip("/")
        # Better Auth adds its path to an origin. A URL with a path is already the whole base.
        return base if urlsplit(base).path else f"{base}/api/auth"

    @property
    def jwks_url(self) -> str | None:
        """Where Better Auth publishes its keys."""
        if self.better_auth_url is None or self.better_auth_jwks_url:
            return self.better_auth_jwks_url
        return f"{self.oauth_issuer}/jwks"


def load_settings() -> Settings:
    """Read and validate the settings.

    Raises:
        ConfigurationError: Something is missing or wrong.

    """
    try:
        return Settings()
    except ValidationError as exc:
        problems = [
            f"{'.'.join(str(part) for part in error['loc']).upper()} "
            + ("is required" if error["type"] == "missing" else _sentence(error["msg"]))
            for error in exc.errors(include_url=False, include_input=False, include_context=False)
        ]
        # Without its cause: a traceback of that would show the values.
        raise ConfigurationError("; ".join(problems)) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f".env cannot be read: {type(exc).__name__}") from None


def startup_settings() -> Settings:
    """Read the settings and set up logging; end the process if a setting is wrong."""
    try:
        settings = load_settings()
    except ConfigurationError as exc:
        configure_logging("info")
        logger.critical("Configuration error: %s", exc)
        # With this code a supervisor gives up, instead of starting workers again and again.
        sys.exit(STARTUP_FAILURE)
    configure_logging(settings.log_level)
    return settings


def _sentence(message: str) -> str:
    own = message.removeprefix("Value error, ")
    return own if own != message else "is not valid: " + message[0].lower() + message[1:]
