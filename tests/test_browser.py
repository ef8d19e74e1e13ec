"""The example frontend in a real browser: uv run --group browser pytest -m browser."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from support.chromium import CHROMIUM, FLAGS, FRONTEND, answers, check_prerequisites, frontend
from support.network import free_port
from support.pages import blocks, read, section
from support.service import PATIENCE, assert_clean_log, wait_for

with contextlib.suppress(ModuleNotFoundError):  # `browser` says what is missing
    from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

    from support.service import Service

pytestmark = pytest.mark.browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    check_prerequisites()
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own, in which nothing goes wrong unseen."""
    with browser.new_context() as context:
        page = context.new_page()
        crashes: list[str] = []
        page.on("pageerror", lambda error: crashes.append(str(error)))
        yield page
        assert crashes == []


def sign_up(page: Page, url: str, name: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Create an account").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Email").fill(f"{name.lower()}@example.com")
    page.get_by_label("Password").fill("a-long-password")
    page.get_by_role("button", name="Sign up").click()
    expect(page.get_by_role("heading", name="Tasks")).to_be_visible()


def sign_out_and_in(page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Email").fill("ada@example.com")
    page.get_by_label("Password").fill("a-wrong-password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Invalid email or password")).to_be_visible()
    page.get_by_label("Password").fill("a-long-password")
    page.get_by_role("button", name="Sign in").click()


def add(page: Page, title: str, description: str = "") -> None:
    page.get_by_label("New task").fill(title)
    page.get_by_label("Description").fill(description)
    page.get_by_role("button", name="Add task").click()


def titles(page: Page) -> Locator:
    return page.get_by_role("list", name="Tasks").get_by_role("link")


def assert_no_error(page: Page) -> None:
    for alert in page.locator("main").get_by_role("alert").all():
        expect(alert).to_be_empty()


def test_a_new_user_works_through_every_feature(page: Page, database_url: str) -> None:
    with frontend(database_url) as (url, service):
        sign_up(page, url, "Ada")
        expect(page.get_by_text("Nothing here.")).to_be_visible()

        for title in ("cherries", "Bananas", "apples"):
            add(page, title, f"Some {title}")
            expect(titles(page).first).to_have_text(title)
            expect(page.get_by_label("New task")).to_be_focused()
            expect(page.get_by_label("New task")).to_be_empty()
        expect(titles(page)).to_have_text(["apples", "Bananas", "cherries"])
        expect(page.get_by_role("status")).to_have_text("3 tasks")

        page.get_by_label("Sort by").select_option("title")
        page.get_by_role("checkbox", name="Bananas: done").click()
        expect(page.get_by_role("checkbox", name="Bananas: done")).to_be_checked()
        page.get_by_text("pending", exact=True).click()
        expect(titles(page)).to_have_text(["apples", "cherries"])
        page.get_by_text("completed", exact=True).click()
        expect(titles(page)).to_have_text(["Bananas"])
        page.get_by_role("checkbox", name="Bananas: done").click()
        expect(page.get_by_text("Nothing here.")).to_be_visible()
        page.get_by_text("all", exact=True).click()
        expect(titles(page)).to_have_text(["apples", "Bananas", "cherries"])

        page.get_by_role("button", name="Edit apples").click()
        expect(page.get_by_role("textbox", name="Title")).to_be_focused()
        page.get_by_role("textbox", name="Title").fill("Dates")
        page.get_by_role("listitem").get_by_label("Description").fill("")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("button", name="Edit Dates")).to_be_focused()
        expect(titles(page)).to_have_text(["Bananas", "cherries", "Dates"])
        expect(page.get_by_text("Some apples")).to_have_count(0)
        page.get_by_role("button", name="Edit Dates").click()
        page.get_by_role("textbox", name="Title").fill("never saved")
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Edit Dates")).to_be_focused()

        page.get_by_role("link", name="cherries").click()
        expect(page.get_by_role("heading", name="cherries")).to_be_visible()
        expect(page.get_by_text("Some cherries")).to_be_visible()
        page.get_by_role("link", name="All tasks").click()

        page.get_by_role("button", name="Delete Bananas").click()
        expect(titles(page)).to_have_text(["Dates", "cherries"])
        expect(page.get_by_role("list", name="Tasks")).to_be_focused()
        assert_no_error(page)

        sign_out_and_in(page)
        expect(titles(page)).to_have_text(["Dates", "cherries"])
        output = service.output()
    # From another origin: the browser asked before it sent each of these.
    assert set(re.findall(r"\[OPTIONS (/api/\w+/tasks)", output))
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        assert re.search(rf"\[{method} /api/\w+/tasks", output)
    assert_clean_log(output, "canary")


def test_what_the_api_refuses_is_shown(browser: Browser, page: Page, database_url: str) -> None:
    with frontend(database_url) as (url, _), browser.new_context() as elsewhere:
        stranger = elsewhere.new_page()
        sign_up(stranger, url, "Eve")
        add(stranger, "Eve's own")
        stranger.get_by_role("link", name="Eve's own").click()
        stranger.wait_for_url("**/tasks/*")

        sign_up(page, url, "Ada")
        too_long = "Title must be between 1 and 200 characters"
        add(page, "x" * 201)
        expect(page.get_by_role("alert").get_by_text(too_long)).to_be_visible()
        expect(page.get_by_label("New task")).to_have_value("x" * 201)
        add(page, " \u200b ")
        expect(page.get_by_role("alert").get_by_text("Title must")).to_be_visible()
        add(page, "fine", "x" * 1001)
        error = "Description must be at most 1000 characters"
        expect(page.get_by_role("alert").get_by_text(error)).to_be_visible()
        add(page, "fine")
        expect(titles(page)).to_have_text(["fine"])
        assert_no_error(page)
        page.get_by_role("button", name="Edit fine").click()
        page.get_by_role("textbox", name="Title").fill("")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("listitem").get_by_text(too_long)).to_be_visible()

        page.goto(stranger.url)
        error = "Access denied: task belongs to another user"
        expect(page.get_by_role("alert").get_by_text(error)).to_be_visible()
        expect(page.get_by_text("Eve's own")).to_have_count(0)
        page.goto(f"{url}/tasks/2147483647")
        error = "Task with id 2147483647 not found"
        expect(page.get_by_role("alert").get_by_text(error)).to_be_visible()


def test_an_expired_token_is_renewed_silently(page: Page, database_url: str) -> None:
    with frontend(database_url, token_lifetime="3s") as (url, service):
        answers: list[int] = []
        page.on(
            "response",
            lambda r: (
                answers.append(r.status)
                if r.url.startswith(service.url) and r.request.method != "OPTIONS"
                else None
            ),
        )
        sign_up(page, url, "Ada")
        for title in ("first", "second", "third"):
            add(page, title)
            expect(titles(page).first).to_have_text(title)
            time.sleep(3)
        page.get_by_role("checkbox", name="first: done").click()
        expect(page.get_by_role("checkbox", name="first: done")).to_be_checked()
        assert_no_error(page)
        assert 401 in answers
        assert {200, 201, 401} == set(answers)
        assert "token expired" in service.output()

        # When the session itself has ended, the page says so.
        page.context.clear_cookies()
        time.sleep(3)
        page.get_by_role("checkbox", name="first: done").click()
        expect(page.get_by_text("Your session has ended.")).to_be_visible()


def test_a_lost_connection_is_shown_and_loses_nothing(page: Page, database_url: str) -> None:
    with frontend(database_url) as (url, _):
        sign_up(page, url, "Ada")
        add(page, "first")
        expect(titles(page)).to_have_text(["first"])
        page.context.set_offline(offline=True)
        add(page, "second")
        expect(page.get_by_text("The server cannot be reached.")).to_be_visible()
        page.context.set_offline(offline=False)
        page.get_by_role("button", name="Add task").click()
        expect(titles(page)).to_have_text(["second", "first"])
        assert_no_error(page)


def test_swagger_ui_authorizes_and_tries_out(page: Page, database_url: str) -> None:
    with frontend(database_url) as (url, service):
        sign_up(page, url, "Ada")
        token, user_id = page.evaluate(
            """async () => [
                (await (await fetch("/api/auth/token")).json()).token,
                (await (await fetch("/api/auth/get-session")).json()).user.id,
            ]"""
        )
        page.goto(f"{service.url}/docs")
        page.get_by_role("button", name="Authorize").first.click()
        page.locator(".auth-container input").fill(token)
        page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").click()
        page.locator(".auth-btn-wrapper").get_by_role("button", name="Close").click()
        for operation, status in (("create_task", "201"), ("list_tasks", "200")):
            block = page.locator(f"[id$='{operation}']")
            block.locator("button.opblock-summary-control").click()
            block.get_by_placeholder("user_id").fill(user_id)
            block.get_by_role("button", name="Execute").click()
            live = block.locator(".live-responses-table tbody")
            expect(live.locator(".response-col_status").first).to_contain_text(status)
            expect(live).to_contain_text("Buy groceries")


def test_the_clients_types_are_those_of_the_openapi_document(service: Service) -> None:
    check_prerequisites()
    generated = subprocess.run(
        ["node_modules/.bin/openapi-typescript", f"{service.url}/openapi.json"],
        cwd=FRONTEND,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    committed = (FRONTEND / "lib" / "openapi.d.ts").read_text(encoding="utf-8")
    assert generated.stdout.strip() == committed.strip(), "npm run types"


def test_the_documented_calls_of_the_client_compile(tmp_path: Path) -> None:
    check_prerequisites()
    shutil.copytree(FRONTEND / "lib", tmp_path / "lib")
    (tmp_path / "node_modules").symlink_to(FRONTEND / "node_modules")
    [_, calls] = blocks(section(read("docs/authentication.md"), "## Use the token"), "ts")
    example = tmp_path / "lib" / "example.ts"
    example.write_text(f"declare const user: {{ id: string }};\n{calls}", encoding="utf-8")
    options = "--noEmit --strict --skipLibCheck --target es2022 --module esnext"
    compiler = ["node_modules/.bin/tsc", *options.split(), "--moduleResolution", "bundler"]
    subprocess.run([*compiler, "lib/example.ts"], cwd=tmp_path, check=True, timeout=120)


def test_one_command_starts_everything(page: Page, clone: Path) -> None:
    """On a fresh clone; only what npm would download is there."""
    modules = clone / "examples" / "frontend" / "node_modules"
    shutil.copytree(FRONTEND / "node_modules", modules, symlinks=True)
    port, page_port = str(free_port()), str(free_port())
    env = {name: os.environ[name] for name in ("PATH", "HOME")}
    process = subprocess.Popen(
        [sys.executable, "examples/start.py"],
        cwd=clone,
        env=env | {"PORT": port, "PAGE_PORT": page_port},
    )
    url, api = f"http://localhost:{page_port}", f"http://localhost:{port}/health"
    try:
        wait_for(lambda: answers(url) and answers(api))
        sign_up(page, url, "Ada")
        add(page, "Buy groceries", "Milk, bread")
        expect(titles(page)).to_have_text(["Buy groceries"])
    finally:
        # Ctrl-C comes twice where uv is in between.
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        exit_code = process.wait(timeout=PATIENCE)
    assert exit_code == 0
    assert not answers(url)
    assert not answers(api)
