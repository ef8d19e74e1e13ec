"""A user of the example frontend in Chromium."""

from __future__ import annotations

import contextlib
import itertools
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from support.chromium import CHROMIUM, FLAGS, FRONTEND, check_prerequisites, frontend
from support.postgres import new_database
from support.service import PATIENCE, PROJECT, assert_clean_log

with contextlib.suppress(ModuleNotFoundError):  # `browser` says what is missing
    from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import (
        Browser,
        BrowserContext,
        Locator,
        Page,
        Route,
        ViewportSize,
    )

    from support.service import Service

PASSWORD = "a-long-password"
AXE = FRONTEND / "node_modules" / "axe-core" / "axe.min.js"
LATENCY = 2500
API = "**/api/*/tasks**"
SIZES: dict[str, ViewportSize] = {
    "desktop": {"width": 1000, "height": 860},
    "phone": {"width": 360, "height": 740},
}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    check_prerequisites()
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site() -> Iterator[tuple[str, Service]]:
    """The page's URL, and the service, for all tests that need no settings of their own."""
    check_prerequisites()
    with new_database() as database, frontend(database) as (url, service):
        yield url, service
        output = service.output()
    assert_clean_log(output, "canary")


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A profile of its own, in which nothing goes wrong unseen."""
    with browser.new_context() as context:
        crashes: list[str] = []
        context.on("weberror", lambda error: crashes.append(str(error.error)))
        yield context
        assert crashes == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def sign_up(page: Page, url: str, name: str = "Ada") -> str:
    """Create an account, and return its e-mail address."""
    email = f"{name.lower()}-{uuid.uuid4().hex}@example.com"
    page.goto(url)
    page.get_by_role("button", name="Create an account").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    submit_sign_up(page, page.get_by_role("button", name="Sign up").click)
    return email


def submit_sign_up(page: Page, submit: Callable[[], object]) -> None:
    """Submit the form until Better Auth takes it: three sign-ups in ten seconds are its limit."""
    submit()
    signed_up = page.get_by_role("heading", name="Tasks")
    refused = page.get_by_text("Too many requests.")
    expect(signed_up.or_(refused)).to_be_visible()
    while refused.is_visible():
        page.wait_for_timeout(1000)
        submit()
        expect(page.get_by_role("button", name="One moment…")).to_have_count(0)
        expect(signed_up.or_(refused)).to_be_visible()


def sign_in(page: Page, email: str, password: str = PASSWORD) -> None:
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def add(page: Page, title: str, description: str = "") -> None:
    page.get_by_label("New task").get_by_label("New task").fill(title)
    page.get_by_label("New task").get_by_label("Description").fill(description)
    page.get_by_role("button", name="Add task").click()


def added(page: Page, *titles_: str) -> None:
    """Add tasks, one after the other."""
    for title in titles_:
        add(page, title)
        expect(titles(page).first).to_have_text(title)


def titles(page: Page) -> Locator:
    return page.get_by_role("list", name="Tasks").get_by_role("link")


def counts(page: Page) -> Locator:
    return page.get_by_role("status", name="Counts")


def alert(page: Page, text: str) -> Locator:
    return page.get_by_role("alert").get_by_text(text)


def status(page: Page, text: str) -> Locator:
    return page.get_by_role("status").get_by_text(text)


def checkbox(page: Page, title: str) -> Locator:
    return page.get_by_role("checkbox", name=f"{title}: done")


def assert_no_error(page: Page) -> None:
    for each in page.locator("main").get_by_role("alert").all():
        expect(each).to_be_empty()


def slow_down(page: Page) -> None:
    """Let every request of the page take 2.5 s longer."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    conditions = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
    session.send("Network.emulateNetworkConditions", conditions | {"latency": LATENCY})


@contextlib.contextmanager
def held(page: Page) -> Iterator[None]:
    """Hold the requests to the API back for a while."""
    waiting: list[Route] = []
    page.route(API, lambda route: waiting.append(route))  # noqa: PLW0108  # no builtin
    yield
    for route in waiting:
        route.continue_()
    page.unroute(API)


def in_api(page: Page, service: Service, script: str) -> Any:  # noqa: ANN401  # JSON
    """Call the API as this user from elsewhere: `call(method, path, body)`."""
    return page.evaluate(
        """async ([url, script]) => {
            const { token } = await (await fetch("/api/auth/token")).json();
            const { user } = await (await fetch("/api/auth/get-session")).json();
            const call = async (method, path, body) => {
                const response = await fetch(`${url}/api/${user.id}/tasks${path}`, {
                    method,
                    headers: {
                        Authorization: `Bearer ${token}`,
                        "Content-Type": "application/json",
                    },
                    body: body && JSON.stringify(body),
                });
                return response.status === 204 ? null : response.json();
            };
            return new Function("call", `return (async () => { ${script} })()`)(call);
        }""",
        [service.url, script],
    )


def assert_accessible(page: Page, state: str) -> None:
    """axe-core has no finding: WCAG 2.2 A and AA, and its best practices."""
    page.evaluate("source => { if (!window.axe) new Function(source)(); }", AXE.read_text())
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.evaluate(
        "async (tags) => (await axe.run({ runOnly: tags })).violations.map("
        "({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => [html, failureSummary])])",
        tags,
    )
    assert found == [], (state, found)


def look(page: Page, state: str, **pictures: str) -> None:
    """Check one state in both schemes and sizes, and take the documentation's pictures of it."""
    for scheme, size in itertools.product(SCHEMES, SIZES):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(SIZES[size])
        assert_accessible(page, f"{state}, {scheme}, {size}")
        width = page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= SIZES[size]["width"], (state, size)
        if folder := os.environ.get("SCREENSHOTS"):
            path = Path(folder, f"{state}-{size}-{scheme}.png")
            page.screenshot(path=path, full_page=True)
        if name := pictures.get(f"{size}_{scheme}"):
            page.screenshot(path=PROJECT / "docs" / f"{name}.png", full_page=True)
    page.set_viewport_size(SIZES["desktop"])
