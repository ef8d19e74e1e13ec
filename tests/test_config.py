"""Settings: what is accepted, and what one line says of the rest."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from uvicorn.config import STARTUP_FAILURE

from config import ConfigurationError, Settings, load_settings
from support.service import LINE, PATIENCE, PROJECT, environment
from support.tokens import SECRET

URL = "postgresql://user:password-canary@host:5432/name"
LONG = "canary" * 6
NOT_A_URL = "DATABASE_URL must be a PostgreSQL URL: postgresql://user:password@host:5432/database"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    for name, value in environment(URL).items():
        monkeypatch.setenv(name, value)


def settings_error(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    return str(raised.value)


def test_every_setting_is_in_the_example_file() -> None:
    example = (PROJECT / ".env.example").read_text(encoding="utf-8")
    names = re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)
    assert names == [name.upper() for name in Settings.model_fields]


def test_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "ENVIRONMENT",
        "LOG_LEVEL",
        "PORT",
        "DB_POOL_SIZE",
        "DB_MAX_OVERFLOW",
        "DB_TIMEOUT",
    ):
        monkeypatch.delenv(name)
    settings = load_settings()
    assert (settings.environment, settings.log_level, settings.port) == (
        "development",
        "info",
        8000,
    )
    assert (settings.db_pool_size, settings.db_max_overflow, settings.db_timeout) == (10, 0, 10)


@pytest.mark.parametrize(
    "url", ["postgresql://username:password@hostname:5432/db", "postgresql://h/database_name"]
)
def test_the_example_is_no_database(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    message = settings_error(monkeypatch, DATABASE_URL=url)
    assert re.fullmatch("DATABASE_URL still has '[a-z_]+' from .env.example: .*", message)


def test_white_space_around_the_url_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f" {URL}\n")
    assert load_settings().database_url.get_secret_value() == URL


def test_what_nobody_can_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    message = settings_error(monkeypatch, DATABASE_URL="postgresql://u:canary@canary@h#d")
    assert message == (
        "DATABASE_URL has an unencoded @, /, ? or #: write %40, %2F, %3F or %23 in a password"
    )


@pytest.mark.parametrize(
    "url",
    [
        *("mysql://u:canary@h/d", "sqlite:///canary.db", "postgresql+asyncpg://u:canary@h/d"),
        *("canary", "postgresql://u:canary@h:port/d", "http://canary", "postgresql", "://"),
    ],
)
def test_another_url_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert settings_error(monkeypatch, DATABASE_URL=url) == NOT_A_URL


def test_an_unknown_parameter_of_the_url_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    message = settings_error(monkeypatch, DATABASE_URL=f"{URL}?pgbouncer=canary")
    assert message == "DATABASE_URL has a parameter that PostgreSQL's client library refuses"


@pytest.mark.parametrize("name", ["DATABASE_URL", "BETTER_AUTH_SECRET", "ALLOWED_ORIGINS"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_required_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    monkeypatch.delenv(name)
    variables = {} if value is None else {name: value}
    assert settings_error(monkeypatch, **variables) == f"{name} is required"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("BETTER_AUTH_SECRET", "canary" * 5, "must have at least 32 characters"),
        ("BETTER_AUTH_SECRET", f"ssh-rsa {'canary' * 9}", "must be a shared secret"),
        ("BETTER_AUTH_SECRETS", f"2:{LONG},1:canary", "must have at least 32 characters"),
        ("BETTER_AUTH_SECRETS", f"2:{LONG},1:", "must be versions, once each"),
        ("BETTER_AUTH_SECRETS", f"2:{LONG},", "must be versions, once each"),
        ("BETTER_AUTH_SECRETS", f"2:{LONG},2:{LONG}", "must be versions, once each"),
        ("BETTER_AUTH_SECRETS", f"-1:{LONG}", "must be versions, once each"),
        ("BETTER_AUTH_SECRETS", f"new:{LONG}", "must be versions, once each"),
        ("BETTER_AUTH_SECRETS", LONG, "must be versions, once each"),
        *(
            (name, url, "must be an http or https URL, such as https://app.example.com")
            for name in ("BETTER_AUTH_URL", "BETTER_AUTH_JWKS_URL")
            for url in (
                *("canary", "canary.example.com", "ftp://canary", "http://", "https://h:canary"),
                *("https://canary@h", "https://u:canary@h", "https://h?canary", "https://h#canary"),
            )
        ),
        ("BETTER_AUTH_JWKS_URL", "https://canary.com/jwks", "needs BETTER_AUTH_URL beside it"),
        ("ALLOWED_ORIGINS", ",", "must name at least one origin"),
        ("ALLOWED_ORIGINS", "canary.example.com", "must be origins separated by commas"),
        ("ALLOWED_ORIGINS", "*", "must be origins separated by commas"),
        ("ALLOWED_ORIGINS", "https://*.*.canary.com", "must be origins separated by commas"),
        ("ALLOWED_ORIGINS", "https://canary.com/app", "must be origins separated by commas"),
        ("ALLOWED_ORIGINS", "null", "must be origins separated by commas"),
        ("LOG_LEVEL", "canary", "is not valid: input should be 'debug', 'info'"),
        ("PORT", "canary", "is not valid: input should be a valid integer"),
        ("PORT", "0", "is not valid: input should be greater than or equal to 1"),
        ("PORT", "65536", "is not valid: input should be less than or equal to 65535"),
        ("WEB_CONCURRENCY", "abc", "is not valid: input should be a valid integer"),
        ("WEB_CONCURRENCY", "1.5", "is not valid: input should be a valid integer"),
        ("WEB_CONCURRENCY", "0", "is not valid: input should be greater than or equal to 1"),
        ("WEB_CONCURRENCY", "-1", "is not valid: input should be greater than or equal to 1"),
        ("DB_POOL_SIZE", "0", "is not valid: input should be greater than or equal to 1"),
        ("DB_POOL_SIZE", "canary", "is not valid"),
        *(
            ("RATE_LIMIT", value, "must be a number of requests per second, minute, hour or day")
            for value in ("canary", "600", "0/minute", "-1/minute", "1.5/minute", "60/canary", "/")
        ),
        *(
            ("RATE_LIMIT_STORAGE", url, "must be memory, or a URL: redis://user:password@host")
            for url in (
                *("canary", "http://canary", "redis://", "redis://h:canary", "memcached://canary"),
                *("redis://:canary@", "redis://h?socket_timeout=canary"),
            )
        ),
        *(
            ("SENTRY_DSN", dsn, "must be a DSN as Sentry shows it: https://key@")
            for dsn in (
                *("canary", "https://canary", "https://o1.canary/1", "ftp://canary@h/1"),
                *("https://canary@h/project", "https://canary@h:port/1"),
            )
        ),
        ("DOCS", "canary", "is not valid: input should be 'on' or 'off'"),
        ("DB_MAX_OVERFLOW", "-1", "is not valid: input should be greater than or equal to 0"),
    ],
)
def test_a_bad_value_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    message = settings_error(monkeypatch, **{name: value})
    assert message.startswith(f"{name} {problem}")
    assert "canary" not in message
    assert "\n" not in message


def test_several_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BETTER_AUTH_SECRET")
    message = settings_error(monkeypatch, PORT="x", DATABASE_URL="y")
    assert message.count("; ") == 2
    assert all(name in message for name in ("DATABASE_URL", "BETTER_AUTH_SECRET", "PORT"))


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("http://localhost:3000", ("http://localhost:3000",)),
        ("http://a.com/, https://B.com ,", ("http://a.com", "https://b.com")),
        ("https://a.com:443,http://b.com:80", ("https://a.com", "http://b.com")),
        ("https://a.com:80,capacitor://localhost", ("https://a.com:80", "capacitor://localhost")),
        ("http://[::1]:3000,http://127.0.0.1", ("http://[::1]:3000", "http://127.0.0.1")),
    ],
)
def test_origins_are_spelled_as_browsers_send_them(
    monkeypatch: pytest.MonkeyPatch, sent: str, meant: tuple[str, ...]
) -> None:
    monkeypatch.setenv("ALLOWED_ORIGINS", sent)
    assert load_settings().allowed_origins == meant


@pytest.mark.parametrize("secret", [None, "", SECRET])
def test_several_secrets_override_the_one(
    monkeypatch: pytest.MonkeyPatch, secret: str | None
) -> None:
    old, new = "old: with = and # " + "o" * 32, "n" * 32
    monkeypatch.delenv("BETTER_AUTH_SECRET")
    if secret is not None:
        monkeypatch.setenv("BETTER_AUTH_SECRET", secret)
    monkeypatch.setenv("BETTER_AUTH_SECRETS", f" 10:{new} , 9:{old}")
    settings = load_settings()
    assert settings.better_auth_secret.get_secret_value() == new
    assert [each.get_secret_value() for each in settings.better_auth_secrets] == [new, old]
    assert new not in repr(settings)


def test_better_auth_is_not_called_unless_its_url_is_set() -> None:
    settings = load_settings()
    assert (settings.issuer, settings.jwks_url, settings.better_auth_audience) == (None,) * 3
    assert settings.oauth_issuer is None


@pytest.mark.parametrize(
    ("url", "issuer", "jwks"),
    [
        ("https://app.example.com", "https://app.example.com", "/api/auth/jwks"),
        ("https://App.Example.com:443/", "https://app.example.com", "/api/auth/jwks"),
        ("http://localhost:3000", "http://localhost:3000", "/api/auth/jwks"),
        ("http://[::1]:3000/", "http://[::1]:3000", "/api/auth/jwks"),
        (" https://bücher.example/\n", "https://xn--bcher-kva.example", "/api/auth/jwks"),
        # Better Auth takes a URL with a path for the whole base.
        ("https://app.example.com/api/auth", "https://app.example.com", "/api/auth/jwks"),
        ("https://app.example.com/login/", "https://app.example.com", "/login/jwks"),
    ],
)
def test_issuer_and_keys_follow_from_the_url(
    monkeypatch: pytest.MonkeyPatch, url: str, issuer: str, jwks: str
) -> None:
    monkeypatch.setenv("BETTER_AUTH_URL", url)
    assert (load_settings().issuer, load_settings().jwks_url) == (issuer, issuer + jwks)
    assert load_settings().oauth_issuer == issuer + jwks.removesuffix("/jwks")
    monkeypatch.setenv("BETTER_AUTH_JWKS_URL", "http://frontend:3000/keys")
    assert (load_settings().issuer, load_settings().jwks_url) == (
        issuer,
        "http://frontend:3000/keys",
    )


def test_the_library_itself_shows_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BETTER_AUTH_SECRET", "canary")
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert "canary" not in str(raised.value)


def test_settings_show_no_secret() -> None:
    shown = repr(load_settings()) + str(load_settings())
    assert SECRET not in shown
    assert "password-canary" not in shown


@pytest.mark.parametrize("program", [("-m", "uvicorn", "main:app"), ("main.py",)])
def test_the_service_ends_at_once_with_one_line(program: tuple[str, ...], clone: Path) -> None:
    env = environment(URL, BETTER_AUTH_SECRET="short-canary", LOG_LEVEL="error")
    del env["ALLOWED_ORIGINS"]
    ended = subprocess.run(
        [sys.executable, *program],
        cwd=clone,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == STARTUP_FAILURE
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert LINE.fullmatch(line)
    assert "BETTER_AUTH_SECRET must have at least 32 characters" in line
    assert "ALLOWED_ORIGINS is required" in line
    assert "canary" not in line


@pytest.mark.parametrize("number", ["abc", "0", "1.5"])
def test_a_wrong_number_of_workers_is_one_line(number: str) -> None:
    ended = subprocess.run(
        [sys.executable, "main.py"],
        cwd=PROJECT,
        env=environment(URL, WEB_CONCURRENCY=number),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (STARTUP_FAILURE, "")
    (line,) = ended.stderr.splitlines()
    assert LINE.fullmatch(line)
    assert "Configuration error: WEB_CONCURRENCY is not valid" in line


def test_the_env_file_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        "ALLOWED_ORIGINS=http://file.example.com\nPORT=1234\nLOG_LEVEL=warning\nUNKNOWN=x\n"
    )
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    monkeypatch.setenv("PORT", "4321")
    monkeypatch.setenv("ALLOWED_ORIGINS", "")
    monkeypatch.delenv("LOG_LEVEL")
    settings = load_settings()
    assert settings.allowed_origins == ("http://file.example.com",)
    assert (settings.port, settings.log_level) == (4321, "warning")


def test_an_unreadable_env_file_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes(b"DATABASE_URL=canary\xff\xfe\n")
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    assert settings_error(monkeypatch) == ".env cannot be read: UnicodeDecodeError"


@pytest.mark.slow
def test_several_workers_end_too(clone: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "uvicorn", "main:app", "--workers", "2", "--port", "0"],
        cwd=clone,
        env=environment(URL, PORT="none"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "Configuration error: PORT is not valid" in ended.stderr
    assert "failed to start, stopping the parent process" in ended.stderr
