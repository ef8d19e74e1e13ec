"""Which pages may call the API, where `ALLOWED_ORIGINS` has patterns."""

from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from config import Settings
from support.service import Service, environment, running

DATABASE_URL = "postgresql://u:p@127.0.0.1:1/x"
NOT_AN_ORIGIN = "must be origins separated by commas"
EVERYBODYS = "has a pattern that matches everybody's pages"
PATTERNS = (
    "https://*-team.vercel.app, https://App-*-Team.vercel.app:443/, http://*.example.co.uk:8080, "
    "https://exact.example.com"
)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running(environment(DATABASE_URL, ALLOWED_ORIGINS=PATTERNS)) as service:
        yield service


def settings(monkeypatch: pytest.MonkeyPatch, origins: str) -> Settings:
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    for name, value in environment(DATABASE_URL, ALLOWED_ORIGINS=origins).items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.mark.parametrize(
    ("origin", "problem"),
    [
        ("*", NOT_AN_ORIGIN),
        ("https://*", NOT_AN_ORIGIN),
        ("*://app.example.com", NOT_AN_ORIGIN),
        ("*.example.com", NOT_AN_ORIGIN),
        ("https://*.*.example.com", NOT_AN_ORIGIN),
        ("https://*-*.example.com", NOT_AN_ORIGIN),
        ("https://**.example.com", NOT_AN_ORIGIN),
        ("https://a.*.example.com", NOT_AN_ORIGIN),
        ("https://app.example.*", NOT_AN_ORIGIN),
        ("https://*.example.com:*", NOT_AN_ORIGIN),
        ("https://*.example.com/path", NOT_AN_ORIGIN),
        ("https://user@*.example.com", NOT_AN_ORIGIN),
        ("https://*@example.com", NOT_AN_ORIGIN),
        ("https://*.example.com.", NOT_AN_ORIGIN),
        ("https://*..example.com", NOT_AN_ORIGIN),
        ("https://*.0.0.1", NOT_AN_ORIGIN),
        ("https://*.bücher.example", NOT_AN_ORIGIN),
        ("capacitor://*.example.com", NOT_AN_ORIGIN),
        ("https://*.com", EVERYBODYS),
        ("https://*-team.com", EVERYBODYS),
        ("https://*.co.uk", EVERYBODYS),
        ("https://*-team.co.uk", EVERYBODYS),
        ("https://*.localhost", EVERYBODYS),
        ("https://*.vercel.app", EVERYBODYS),
        ("https://*.VERCEL.app:443", EVERYBODYS),
        ("https://*-.vercel.app", EVERYBODYS),
        ("https://*.github.io", EVERYBODYS),
        ("https://*.onrender.com", EVERYBODYS),
    ],
)
def test_a_pattern_for_everybody_or_elsewhere_is_refused(
    monkeypatch: pytest.MonkeyPatch, origin: str, problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        settings(monkeypatch, origin)
    with pytest.raises(ValidationError, match=problem):
        settings(monkeypatch, f"https://app.example.com,{origin}")


def test_patterns_are_spelled_as_browsers_send_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, PATTERNS).allowed_origins == (
        "https://*-team.vercel.app",
        "https://app-*-team.vercel.app",
        "http://*.example.co.uk:8080",
        "https://exact.example.com",
    )


def answers(service: Service, origin: str) -> tuple[int, str | None, str | None]:
    """Ask as a browser does: the preflight, then the request."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    preflight = service.client.options("/api/user_123/tasks", headers=headers)
    answer = service.client.get("/api/user_123/tasks", headers={"Origin": origin})
    assert answer.status_code == 401
    allowed = "access-control-allow-origin"
    return preflight.status_code, preflight.headers.get(allowed), answer.headers.get(allowed)


@pytest.mark.parametrize(
    "origin",
    [
        "https://x-team.vercel.app",
        "https://app-git-fix-1-team.vercel.app",
        "https://app-7d9f-team.vercel.app",
        "http://pr-12.example.co.uk:8080",
        "https://exact.example.com",
    ],
)
def test_a_page_that_matches_may_call(service: Service, origin: str) -> None:
    assert answers(service, origin) == (200, origin, origin)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.com/-team.vercel.app",
        "https://evil.com#-team.vercel.app",
        "https://evil.com?-team.vercel.app",
        "https://evil.com\\-team.vercel.app",
        "https://a.b-team.vercel.app",
        "https://x-team.vercel.app.evil.com",
        "https://x-team.vercel.app@evil.com",
        "https://evil.com@x-team.vercel.app",
        "https://x-team.vercel.app:8443",
        "https://x-team.vercel.app:443",
        "https://evil.com:1-team.vercel.app",
        "http://x-team.vercel.app",
        "https://X-team.vercel.app",
        "https://x-team.vercel.APP",
        "HTTPS://x-team.vercel.app",
        "https://-team.vercel.app",
        "https://team.vercel.app",
        "https://x-teamavercel.app",
        "https://x-team.vercel.app.",
        "https://x-team.vercel.app/",
        "https://x_y-team.vercel.app",
        "https://x%2e-team.vercel.app",
        "https://x y-team.vercel.app",
        "https://*-team.vercel.app",
        "xhttps://x-team.vercel.app",
        "https://x-team.vercel.app,https://evil.com",
        "http://example.co.uk:8080",
        "http://.example.co.uk:8080",
        "http://a.b.example.co.uk:8080",
        "http://pr-12.example.co.uk",
        "https://pr-12.example.co.uk:8080",
        "https://sub.exact.example.com",
        "null",
        "*",
    ],
)
def test_a_page_that_looks_alike_may_not(service: Service, origin: str) -> None:
    assert answers(service, origin) == (400, None, None)
