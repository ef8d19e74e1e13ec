"""Swagger UI in a real browser: what it offers works as it stands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.service import PATIENCE
from support.tokens import signed

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from support.service import Service

pytestmark = pytest.mark.browser

USER = "user_123"
"""The user id that the document offers, unless dev.py serves it."""


def authorize(docs: Page) -> None:
    docs.get_by_role("button", name="Authorize").first.click()
    dialog = docs.locator(".modal-ux")
    dialog.get_by_text("paste the token alone, without the word").wait_for()
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


def test_what_swagger_ui_offers_works_as_it_stands(page: Page, service: Service) -> None:
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(f"{service.url}/docs")
    authorize(page)
    status, task = sent(opened(page, "create_task"))
    assert isinstance(task, dict)
    assert (status, task["user_id"], task["title"]) == (201, USER, "Buy groceries")
    assert sent(opened(page, "list_tasks"))[0] == 200
    for operation, body in {
        "get_task": task,
        "update_task": None,
        "toggle_task": None,
    }.items():
        block = opened(page, operation)
        block.get_by_placeholder("task_id").fill(str(task["id"]))
        status, answer = sent(block)
        assert status == 200
        assert body is None or answer == body
    assert sent(opened(page, "update_tasks"))[0] == 200
    assert sent(opened(page, "delete_tasks"))[0] == 200
