"""The example frontend in a real browser: uv run --group browser pytest -m browser."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import fasteners
import pytest

from support.browsing import (
    add,
    added,
    alert,
    assert_no_error,
    checkbox,
    counts,
    in_api,
    sign_in,
    sign_up,
    status,
    titles,
)
from support.chromium import BUILD_PATIENCE, FRONTEND, answers, check_prerequisites, frontend
from support.network import free_port
from support.service import PATIENCE, assert_clean_log, wait_for

with contextlib.suppress(ModuleNotFoundError):  # `browser` says what is missing
    from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from support.service import Service

pytestmark = pytest.mark.browser


def test_a_new_user_works_through_every_feature(page: Page, site: tuple[str, Service]) -> None:
    url, service = site
    email = sign_up(page, url)
    expect(page.get_by_text("You have no tasks yet.")).to_be_visible()
    for title in ("cherries", "Bananas", "apples"):
        add(page, title, f"Some {title}")
        expect(titles(page).first).to_have_text(title)
        expect(page.get_by_role("textbox", name="New task")).to_be_focused()
        expect(page.get_by_role("textbox", name="New task")).to_be_empty()
    expect(titles(page)).to_have_text(["apples", "Bananas", "cherries"])
    expect(counts(page)).to_have_text("3 left, 0 completed")
    expect(page).to_have_title("3 left · Tasks")

    page.get_by_label("Sort by").select_option("title")
    checkbox(page, "Bananas").click()
    expect(checkbox(page, "Bananas")).to_be_checked()
    expect(counts(page)).to_have_text("2 left, 1 completed")
    page.get_by_text("pending", exact=True).click()
    expect(titles(page)).to_have_text(["apples", "cherries"])
    page.get_by_text("completed", exact=True).click()
    expect(titles(page)).to_have_text(["Bananas"])
    checkbox(page, "Bananas").click()
    expect(page.get_by_text("Nothing is completed yet. 3 left.")).to_be_visible()
    expect(page.get_by_role("list", name="Tasks")).to_be_focused()
    page.get_by_role("button", name="Show all tasks").click()
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
    expect(page).to_have_title("cherries · Tasks")
    page.get_by_role("link", name="All tasks").click()
    expect(titles(page)).to_have_text(["Bananas", "cherries", "Dates"])
    assert_no_error(page)

    page.get_by_role("button", name="Sign out").click()
    sign_in(page, email, "a-wrong-password")
    expect(page.get_by_text("Invalid email or password")).to_be_visible()
    sign_in(page, email)
    expect(titles(page)).to_have_text(["Bananas", "cherries", "Dates"])
    # From another origin: the browser asked before it sent these.
    assert re.search(r"\[OPTIONS /api/\w+/tasks", service.output())


def test_many_tasks_change_at_once_and_back(page: Page, site: tuple[str, Service]) -> None:
    sign_up(page, site[0])
    added(page, "cherries", "Bananas", "apples")
    page.get_by_role("button", name="Complete all").click()
    expect(status(page, "Completed 3 tasks.")).to_be_visible()
    expect(counts(page)).to_have_text("0 left, 3 completed")
    expect(page.get_by_role("list", name="Tasks")).to_be_focused()
    page.get_by_role("button", name="Undo").click()
    expect(counts(page)).to_have_text("3 left, 0 completed")

    checkbox(page, "Bananas").click()
    expect(counts(page)).to_have_text("2 left, 1 completed")
    page.get_by_role("button", name="Clear completed").click()
    expect(titles(page)).to_have_text(["apples", "cherries"])
    expect(status(page, "Deleted 1 task.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(titles(page)).to_have_text(["Bananas", "apples", "cherries"])
    expect(checkbox(page, "Bananas")).to_be_checked()
    assert_no_error(page)


def test_a_deletion_can_be_undone(page: Page, site: tuple[str, Service]) -> None:
    sign_up(page, site[0])
    add(page, "Bananas", "ripe ones")
    checkbox(page, "Bananas").click()
    expect(counts(page)).to_have_text("0 left, 1 completed")
    page.get_by_role("button", name="Delete Bananas").click()
    expect(titles(page)).to_have_count(0)
    expect(page.get_by_role("list", name="Tasks")).to_be_focused()
    page.get_by_role("button", name="Undo").click()
    expect(titles(page)).to_have_text(["Bananas"])
    expect(page.get_by_text("ripe ones")).to_be_visible()
    expect(checkbox(page, "Bananas")).to_be_checked()
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)
    assert_no_error(page)


def test_the_address_has_filter_search_and_order(page: Page, site: tuple[str, Service]) -> None:
    sign_up(page, site[0])
    added(page, "Straße", "Bananas", "strasse 2")
    page.get_by_label("Sort by").select_option("title")
    page.get_by_text("pending", exact=True).click()
    page.get_by_label("Search").fill("STRASSE")
    expect(titles(page)).to_have_text(["Straße", "strasse 2"])
    expect(counts(page)).to_have_text("2 found. 3 left, 0 completed")
    assert page.url.endswith("/?order=title&status=pending&q=STRASSE")
    page.reload()
    expect(titles(page)).to_have_text(["Straße", "strasse 2"])
    expect(page.get_by_label("Search")).to_have_value("STRASSE")
    titles(page).last.click()
    expect(page.get_by_role("heading", name="strasse 2")).to_be_visible()
    page.get_by_role("link", name="All tasks").click()
    expect(titles(page)).to_have_text(["Straße", "strasse 2"])
    page.get_by_label("Search").fill("nowhere")
    expect(page.get_by_text("No pending task contains “nowhere”.")).to_be_visible()
    page.get_by_role("button", name="Show all tasks").click()
    expect(titles(page)).to_have_text(["Bananas", "Straße", "strasse 2"])
    expect(page.get_by_label("Search")).to_be_empty()
    page.go_back()
    expect(page.get_by_text("No pending task contains “nowhere”.")).to_be_visible()
    expect(page.get_by_label("Search")).to_have_value("nowhere")


def test_a_new_task_is_never_lost_from_sight(page: Page, site: tuple[str, Service]) -> None:
    sign_up(page, site[0])
    page.get_by_text("completed", exact=True).click()
    expect(page.get_by_text("Nothing is completed yet. 0 left.")).to_be_visible()
    add(page, "Bananas")
    expect(titles(page)).to_have_text(["Bananas"])
    expect(status(page, "Added “Bananas”. The list shows all tasks again.")).to_be_visible()
    expect(page.get_by_role("textbox", name="New task")).to_be_focused()
    page.get_by_text("pending", exact=True).click()
    checkbox(page, "Bananas").click()
    expect(page.get_by_text("Nothing is left to do.")).to_be_visible()


def test_a_long_list_is_shown_in_parts(page: Page, site: tuple[str, Service]) -> None:
    url, service = site
    sign_up(page, url)
    in_api(page, service, "for (let n = 0; n < 120; n++) await call('POST', '', {title: `${n}`})")
    page.reload()
    expect(titles(page)).to_have_count(100)
    expect(counts(page)).to_have_text("120 left, 0 completed")
    page.get_by_role("button", name="Show more").click()
    expect(titles(page)).to_have_count(120)
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)


def test_what_the_api_refuses_is_shown(
    browser: Browser, page: Page, site: tuple[str, Service]
) -> None:
    url, _ = site
    with browser.new_context() as elsewhere:
        stranger = elsewhere.new_page()
        sign_up(stranger, url, "Eve")
        added(stranger, "Eve's own")
        stranger.get_by_role("link", name="Eve's own").click()
        stranger.wait_for_url("**/tasks/*")

        sign_up(page, url)
        too_long = "Title must be between 1 and 200 characters"
        add(page, "x" * 201)
        expect(alert(page, too_long)).to_be_visible()
        expect(page.get_by_role("textbox", name="New task")).to_have_value("x" * 201)
        add(page, " \u200b ")
        expect(alert(page, "Title must")).to_be_visible()
        add(page, "fine", "x" * 1001)
        expect(alert(page, "Description must be at most 1000 characters")).to_be_visible()
        add(page, "fine")
        expect(titles(page)).to_have_text(["fine"])
        assert_no_error(page)
        page.get_by_role("button", name="Edit fine").click()
        page.get_by_role("textbox", name="Title").fill("")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("listitem").get_by_text(too_long)).to_be_visible()

        page.goto(stranger.url)
        expect(alert(page, "Access denied: task belongs to another user")).to_be_visible()
        expect(page.get_by_text("Eve's own")).to_have_count(0)
        page.goto(f"{url}/tasks/2147483647")
        expect(alert(page, "Task with id 2147483647 not found")).to_be_visible()


def test_a_shared_secret_signs_the_tokens(page: Page, database_url: str) -> None:
    with frontend(database_url, TOKENS="shared-secret") as (url, service):
        sign_up(page, url)
        added(page, "Bananas")
        token = page.evaluate("async () => (await (await fetch('/api/auth/token')).json()).token")
        assert json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))["alg"] == "HS256"
        assert_clean_log(service.output(), "canary")


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


def start(clone: Path, **variables: str) -> subprocess.Popen[str]:
    env = {name: os.environ[name] for name in ("PATH", "HOME")}
    return subprocess.Popen(
        [sys.executable, "examples/start.py"],
        cwd=clone,
        env=env | variables,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def started(clone: Path, port: str, page_port: str) -> Iterator[str]:
    """Start everything, and end it as Ctrl-C does."""
    process = start(clone, PORT=port, PAGE_PORT=page_port)
    url, api = f"http://localhost:{page_port}", f"http://localhost:{port}/health"
    try:
        # It builds the page first.
        wait_for(lambda: process.poll() is not None or answers(url), BUILD_PATIENCE)
        yield url
    finally:
        # Ctrl-C comes twice where uv is in between.
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert not answers(url)
    assert not answers(api)


def test_one_command_starts_everything(page: Page, clone: Path) -> None:
    """On a fresh clone; only what npm would download is there. A restart signs nobody out."""
    modules = clone / "examples" / "frontend" / "node_modules"
    shutil.copytree(FRONTEND / "node_modules", modules, symlinks=True)
    port, page_port = str(free_port()), str(free_port())
    with started(clone, port, page_port) as url:
        sign_up(page, url)
        added(page, "Buy groceries")
    with started(clone, port, page_port) as url:
        page.goto(url)
        expect(titles(page)).to_have_text(["Buy groceries"])
        added(page, "Bake a cake")


def assert_refused(process: subprocess.Popen[str], sentence: str) -> None:
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (1, f"{sentence}\n")


def test_what_is_in_the_way_is_said_before_anything_is_built(clone: Path, tmp_path: Path) -> None:
    modules = clone / "examples" / "frontend" / "node_modules"
    free = str(free_port())
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        for name in ("PORT", "PAGE_PORT"):
            ports = {"PORT": free, "PAGE_PORT": str(free_port()), name: taken}
            sentence = f"Port {taken} is taken: end what uses it, or set {name} to another one."
            assert_refused(start(clone, **ports), sentence)
    ports = {"PORT": free, "PAGE_PORT": free}
    assert_refused(start(clone, **ports), f"PORT is not a port of its own: {free}")
    ports["PAGE_PORT"] = str(free_port())
    sentence = "TOKENS is one of own-keys, shared-secret."
    assert_refused(start(clone, **ports, TOKENS="none"), sentence)
    sentence = "The example needs Node.js 20.9 or newer: https://nodejs.org"
    assert_refused(start(clone, **ports, PATH=str(tmp_path)), sentence)
    for program in ("node", "npm"):
        (tmp_path / program).write_text("#!/bin/sh\necho v18.20.4\n")
        (tmp_path / program).chmod(0o755)
    sentence = "The example needs Node.js 20.9 or newer; this is v18.20.4."
    assert_refused(start(clone, **ports, PATH=f"{tmp_path}:{os.environ['PATH']}"), sentence)
    (clone / ".postgres").mkdir()
    with fasteners.InterProcessLock(clone / ".postgres" / "lock"):
        sentence = "dev.py already runs in this folder: end it with Ctrl-C there first."
        assert_refused(start(clone, **ports), sentence)
    assert not modules.exists()
    assert not (modules.parent / ".env.local").exists()
