"""Swagger UI in a real browser: what it offers works as it stands."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from support.browsing import sign_up
from support.service import Service
from support.tokens import signed

with contextlib.suppress(ModuleNotFoundError):  # `browser` says what is missing
    from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

USER = "user_123"
"""The user id that the document offers, unless dev.py serves it."""


@pytest.fixture
def docs(page: Page, service: Service) -> Page:
    page.goto(f"{service.url}/docs")
    return page


def authorize(docs: Page) -> None:
    docs.get_by_role("button", name="Authorize").first.click()
    dialog = docs.locator(".modal-ux")
    expect(dialog.get_by_text("paste the token alone, without the word")).to_be_visible()
    dialog.get_by_role("textbox").fill(signed(sub=USER))
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").last.click()


def opened(docs: Page, operation: str) -> Locator:
    block = docs.locator(f"#operations-tasks-{operation}")
    block.locator(".opblock-summary-control").click()
    return block


def sent(block: Locator) -> tuple[int, object]:
    """Send the request as it stands; return the status and the body."""
    block.get_by_role("button", name="Execute").click()
    response = block.locator(".live-responses-table tbody tr").first
    status = int(response.locator(".response-col_status").inner_text().split()[0])
    return status, json.loads(response.locator("pre.microlight").first.inner_text())


def test_what_swagger_ui_offers_works_as_it_stands(docs: Page) -> None:
    authorize(docs)
    status, task = sent(opened(docs, "create_task"))
    assert isinstance(task, dict)
    assert (status, task["user_id"], task["title"]) == (201, USER, "Buy groceries")
    assert sent(opened(docs, "list_tasks"))[0] == 200
    for operation, body in {
        "get_task": task,
        "update_task": None,
        "toggle_task": None,
    }.items():
        block = opened(docs, operation)
        block.get_by_placeholder("task_id").fill(str(task["id"]))
        status, answer = sent(block)
        assert status == 200
        assert body is None or answer == body
    assert sent(opened(docs, "update_tasks"))[0] == 200
    assert sent(opened(docs, "delete_tasks"))[0] == 200


def test_swagger_ui_takes_a_token_of_better_auth(page: Page, site: tuple[str, Service]) -> None:
    url, service = site
    sign_up(page, url)
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
    for operation, answer in (("create_task", "201"), ("list_tasks", "200")):
        block = page.locator(f"[id$='{operation}']")
        block.locator("button.opblock-summary-control").click()
        block.get_by_placeholder("user_id").fill(user_id)
        block.get_by_role("button", name="Execute").click()
        live = block.locator(".live-responses-table tbody")
        expect(live.locator(".response-col_status").first).to_contain_text(answer)
        expect(live).to_contain_text("Buy groceries")
