"""The example frontend for everybody: axe-core, keyboard, phone, dark mode: pytest -m browser."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from typing import TYPE_CHECKING

import pytest

from support.browsing import (
    API,
    PASSWORD,
    SIZES,
    add,
    added,
    alert,
    checkbox,
    held,
    in_api,
    look,
    sign_up,
    submit_sign_up,
    titles,
)
from support.chromium import FRONTEND

with contextlib.suppress(ModuleNotFoundError):  # `browser` says what is missing
    from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from support.service import Service

    Site = tuple[str, Service]

pytestmark = pytest.mark.browser


def test_signing_in_is_accessible(page: Page, site: Site) -> None:
    page.goto(site[0])
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    look(page, "sign-in")
    page.get_by_label("Email").fill("nobody@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(alert(page, "Invalid email or password")).to_be_visible()
    look(page, "sign-in-failed")
    page.get_by_role("button", name="Create an account").click()
    look(page, "sign-up")
    page.route("**/api/auth/**", lambda route: route.abort())
    page.reload()
    expect(alert(page, "The sign-in cannot be reached.")).to_be_visible()
    look(page, "sign-in-unreachable")
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_the_list_is_accessible_in_every_state(page: Page, site: Site) -> None:
    url, _ = site
    page.set_viewport_size(SIZES["desktop"])
    sign_up(page, url)
    expect(page.get_by_text("You have no tasks yet.")).to_be_visible()
    look(page, "empty")
    add(page, "Call the dentist")
    add(page, "Bake a cake", "Chocolate, for Saturday")
    add(page, "Buy groceries", "Milk, bread, eggs")
    expect(titles(page)).to_have_count(3)
    checkbox(page, "Call the dentist").click()
    expect(page.get_by_text("2 left, 1 completed")).to_be_visible()
    page.mouse.click(2, 2)
    names = {"desktop_light": "frontend", "desktop_dark": "frontend-dark"}
    look(page, "list", phone_light="frontend-phone", **names)
    page.get_by_label("Search").fill("nowhere")
    expect(page.get_by_text("No task contains “nowhere”.")).to_be_visible()
    look(page, "nothing-found")
    page.get_by_role("button", name="Show all tasks").click()
    page.get_by_role("button", name="Edit Bake a cake").click()
    look(page, "editor")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Delete Call the dentist").click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    look(page, "deleted")
    add(page, "x" * 201)
    expect(alert(page, "Title must be")).to_be_visible()
    look(page, "refused")
    added(page, "unbroken" * 25)
    look(page, "long-title")


def test_failures_are_accessible(page: Page, site: Site) -> None:
    url, service = site
    page.set_viewport_size(SIZES["desktop"])
    sign_up(page, url)
    added(page, "Call the dentist", "Bake a cake")
    page.get_by_role("button", name="Edit Bake a cake").click()
    page.get_by_role("textbox", name="Title").fill("Bake two cakes")
    script = "const { tasks } = await call('GET', ''); await call('PUT', `/${tasks[0].id}`, "
    in_api(page, service, script + "{ title: 'Bake bread', description: 'It is easier' })")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("region", name="Edit conflict")).to_be_focused()
    look(page, "conflict", desktop_light="frontend-conflict")
    page.get_by_role("button", name="Keep theirs").click()
    page.context.set_offline(offline=True)
    checkbox(page, "Bake bread").click()
    expect(alert(page, "“Bake bread”: The server cannot be reached.")).to_be_visible()
    expect(alert(page, "The list may be out of date.")).to_be_visible()
    look(page, "offline", desktop_dark="frontend-offline")
    page.context.set_offline(offline=False)
    page.route(API, lambda route: route.abort())
    page.reload()
    expect(alert(page, "The server cannot be reached.")).to_be_visible()
    look(page, "failed")
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(titles(page)).to_have_count(2)


def test_waiting_is_accessible_and_nothing_moves(page: Page, site: Site) -> None:
    sign_up(page, site[0])
    added(page, "Bananas")
    task = str(titles(page).first.get_attribute("href"))
    page.emulate_media(reduced_motion="reduce")
    with held(page):
        page.reload()
        expect(page.get_by_text("Loading your tasks…")).to_be_visible()
        look(page, "loading")
    expect(titles(page)).to_have_count(1)
    page.get_by_role("button", name="Delete Bananas").hover()
    assert page.evaluate("() => document.getAnimations().length") == 0
    with held(page):
        page.goto(site[0] + task)
        expect(page.get_by_text("Loading the task…")).to_be_visible()
        look(page, "task-loading")
    expect(page.get_by_role("heading", name="Bananas")).to_be_visible()
    look(page, "task")
    page.goto(f"{site[0]}/tasks/2147483647")
    expect(alert(page, "not found")).to_be_visible()
    look(page, "task-missing")


def test_the_keyboard_is_enough(page: Page, site: Site) -> None:
    page.goto(site[0])
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    keyboard = page.keyboard

    def tab_to(target: Locator, key: str = "Tab") -> None:
        expect(target).to_be_visible()
        for _ in range(30):
            keyboard.press(key)
            if target.evaluate("element => element === document.activeElement"):
                assert target.evaluate("element => element.matches(':focus-visible')")
                return
        pytest.fail(f"{key} does not reach {target}")

    tab_to(page.get_by_role("button", name="Create an account", exact=True))
    keyboard.press("Enter")
    tab_to(page.get_by_role("textbox", name="Name", exact=True), "Shift+Tab")
    keyboard.type("Ada")
    keyboard.press("Tab")
    keyboard.type(f"keyboard-{os.getpid()}@example.com")
    keyboard.press("Tab")
    keyboard.type(PASSWORD)
    submit_sign_up(page, lambda: keyboard.press("Enter"))
    tab_to(page.get_by_role("textbox", name="New task", exact=True))
    keyboard.type("Bananas")
    keyboard.press("Enter")
    expect(titles(page)).to_have_text(["Bananas"])
    tab_to(page.get_by_role("checkbox", name="Bananas: done", exact=True))
    keyboard.press("Space")
    expect(page.get_by_text("0 left, 1 completed")).to_be_visible()
    expect(checkbox(page, "Bananas")).to_be_focused()
    tab_to(page.get_by_role("button", name="Edit Bananas", exact=True))
    keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Title")).to_be_focused()
    keyboard.press("Control+A")
    keyboard.type("Two bananas")
    keyboard.press("Enter")
    expect(page.get_by_role("button", name="Edit Two bananas")).to_be_focused()
    tab_to(page.get_by_role("button", name="Delete Two bananas", exact=True))
    keyboard.press("Enter")
    expect(page.get_by_role("list", name="Tasks")).to_be_focused()
    tab_to(page.get_by_role("button", name="Undo", exact=True), "Shift+Tab")
    keyboard.press("Enter")
    expect(titles(page)).to_have_text(["Two bananas"])
    expect(page.get_by_role("list", name="Tasks")).to_be_focused()


def test_edges_and_the_focus_have_contrast() -> None:
    """WCAG 1.4.11, which axe-core does not measure: 3:1 on both backgrounds, in both schemes."""
    css = (FRONTEND / "app" / "style.css").read_text(encoding="utf-8")
    colors = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", css))
    for scheme in (0, 1):
        values = {name: pair.split(", ")[scheme] for name, pair in colors.items()}
        for edge, ground in itertools.product(("edge", "accent", "danger"), ("page", "card")):
            assert contrast(values[edge], values[ground]) >= 3, (scheme, edge, ground)
        assert contrast(values["accent"], values["on-accent"]) >= 4.5


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
