"""The example frontend when things are slow, fail, end, or change elsewhere: pytest -m browser."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from support.browsing import (
    API,
    add,
    added,
    alert,
    assert_no_error,
    checkbox,
    counts,
    in_api,
    look,
    sign_in,
    sign_up,
    slow_down,
    status,
    submit_sign_up,
    titles,
)
from support.chromium import frontend

with contextlib.suppress(ModuleNotFoundError):  # `browser` says what is missing
    from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Request

    from support.service import Service

    Site = tuple[str, Service]

pytestmark = pytest.mark.browser

UNREACHABLE = "The server cannot be reached."


def requests_of(page: Page, method: str) -> list[Request]:
    """Return a list that grows with each request to the API."""
    seen: list[Request] = []
    page.on(
        "request",
        lambda request: (
            seen.append(request)
            if request.method == method and "/tasks" in request.url and "/api/" in request.url
            else None
        ),
    )
    return seen


def test_every_wait_is_visible_and_nothing_is_sent_twice(page: Page, site: Site) -> None:
    sign_up(page, site[0])
    added(page, "Bananas")
    slow_down(page)
    page.reload()
    expect(page.get_by_text("Loading your tasks…")).to_be_visible()
    expect(titles(page)).to_have_text(["Bananas"])

    created = requests_of(page, "POST")
    add(page, "apples")
    expect(page.get_by_role("button", name="Adding…")).to_be_visible()
    page.get_by_role("textbox", name="New task").press("Enter")
    # Forced: Playwright waits until a button is not busy any more.
    page.get_by_role("button", name="Adding…").click(force=True)
    expect(titles(page)).to_have_text(["apples", "Bananas"])
    assert len(created) == 1

    changed = requests_of(page, "PUT")
    checkbox(page, "apples").click()
    # Seen at once, long before the answer.
    expect(checkbox(page, "apples")).to_be_checked()
    expect(page.get_by_text("Saving…")).to_be_visible()
    checkbox(page, "apples").click()
    expect(counts(page)).to_have_text("1 left, 1 completed · Updating…")
    expect(checkbox(page, "apples")).to_be_checked()
    expect(page.get_by_text("Saving…")).to_have_count(0)
    assert len(changed) == 1

    deleted = requests_of(page, "DELETE")
    page.get_by_role("button", name="Delete apples").click()
    expect(page.get_by_text("Deleting…")).to_be_visible()
    page.get_by_role("button", name="Delete apples").click(force=True)
    expect(titles(page)).to_have_text(["Bananas"])
    assert len(deleted) == 1
    assert_no_error(page)


def test_a_lost_connection_is_shown_and_loses_nothing(page: Page, site: Site) -> None:
    sign_up(page, site[0])
    added(page, "first")
    page.context.set_offline(offline=True)
    checkbox(page, "first").click()
    expect(checkbox(page, "first")).to_be_checked()
    expect(alert(page, f"“first”: {UNREACHABLE}")).to_be_visible()
    expect(checkbox(page, "first")).not_to_be_checked()
    add(page, "second")
    expect(alert(page, f"{UNREACHABLE} Please try again. The list may be")).to_be_visible()
    expect(page.get_by_label("New task").get_by_text(UNREACHABLE)).to_be_visible()
    expect(titles(page)).to_have_text(["first"])
    page.context.set_offline(offline=False)
    # Back online, the list is loaded again by itself.
    expect(alert(page, "The list may be out of date.")).to_have_count(0)
    page.get_by_role("button", name="Add task").click()
    expect(titles(page)).to_have_text(["second", "first"])
    page.get_by_role("button", name="Try again").click()
    expect(counts(page)).to_have_text("1 left, 1 completed")
    assert_no_error(page)


def test_a_failed_load_can_be_tried_again(page: Page, site: Site) -> None:
    sign_up(page, site[0])
    added(page, "Bananas")
    task = titles(page).first.get_attribute("href")
    page.route(API, lambda route: route.abort())
    for address in ("/", task):
        page.goto(f"{site[0]}{address}")
        expect(alert(page, UNREACHABLE)).to_be_visible()
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="Bananas")).to_be_visible()
    assert_no_error(page)


def test_one_intent_has_one_key(page: Page, site: Site) -> None:
    """Executed, but every answer is lost: the user tries again, and there is one task."""
    url, service = site
    sign_up(page, url)
    created = requests_of(page, "POST")
    page.route(
        API,
        lambda route: (
            (route.fetch(), route.abort()) if route.request.method == "POST" else route.continue_()
        ),
    )
    add(page, "Bananas")
    expect(alert(page, UNREACHABLE)).to_be_visible()
    page.unroute_all()
    page.get_by_role("button", name="Add task").click()
    expect(titles(page)).to_have_text(["Bananas"])
    assert len({request.headers["idempotency-key"] for request in created}) == 1
    assert len(created) > 2
    # The form is ready for the next task only when it is empty.
    expect(page.get_by_role("textbox", name="New task")).to_be_empty()
    add(page, "Bananas")
    expect(titles(page)).to_have_text(["Bananas", "Bananas"])
    assert in_api(page, service, "return (await call('GET', '')).count") == 2


def test_an_ended_session_keeps_what_was_typed_and_goes_on(page: Page, database_url: str) -> None:
    with frontend(database_url, TOKEN_LIFETIME="3s") as (url, service):
        email = sign_up(page, url)
        for title in ("first", "second"):
            added(page, title)
            time.sleep(3)
        checkbox(page, "first").click()
        expect(counts(page)).to_have_text("1 left, 1 completed")
        assert_no_error(page)
        # The token has expired: it was renewed silently.
        assert "token expired" in service.output()

        page.context.clear_cookies()
        time.sleep(3)
        add(page, "third", "typed before")
        expect(page.get_by_text("Your session has ended.")).to_be_visible()
        expect(page.get_by_role("list", name="Tasks")).to_have_count(0)
        expect(page).to_have_title("Sign in · Tasks")
        expect(page.get_by_label("Email")).to_have_value(email)
        expect(page.get_by_label("Password")).to_be_focused()
        look(page, "session-ended")
        sign_in(page, email)
        expect(titles(page)).to_have_text(["third", "second", "first"])
        expect(page.get_by_role("textbox", name="New task")).to_be_focused()
        assert_no_error(page)

        # Another user gets nothing of it.
        page.get_by_role("textbox", name="New task").fill("private")
        page.context.clear_cookies()
        time.sleep(3)
        page.evaluate("() => window.dispatchEvent(new Event('focus'))")
        expect(page.get_by_text("Your session has ended.")).to_be_visible()
        page.get_by_role("button", name="Create an account").click()
        page.get_by_label("Name").fill("Eve")
        page.get_by_label("Email").fill(f"eve-{email}")
        page.get_by_label("Password").fill("a-long-password")
        submit_sign_up(page, page.get_by_role("button", name="Sign up").click)
        expect(page.get_by_text("You have no tasks yet.")).to_be_visible()
        expect(page.get_by_role("textbox", name="New task")).to_be_empty()


def test_an_edit_conflict_shows_both_versions(page: Page, site: Site) -> None:
    url, service = site
    sign_up(page, url)
    added(page, "Bananas")
    number = str(titles(page).first.get_attribute("href")).rpartition("/")[2]
    rename = f"await call('PUT', '/{number}', {{title: 'Cherries', description: 'theirs'}})"
    for button, title in (("Save yours", "Apples"), ("Keep theirs", "Cherries")):
        page.get_by_role("listitem").get_by_role("button", name="Edit").click()
        page.get_by_role("textbox", name="Title").fill("Apples")
        in_api(page, service, rename)
        page.get_by_role("button", name="Save").click()
        conflict = page.get_by_role("region", name="Edit conflict")
        expect(conflict).to_be_focused()
        expect(conflict).to_contain_text("Cherries")
        expect(conflict).to_contain_text("theirs")
        expect(page.get_by_role("textbox", name="Title")).to_have_value("Apples")
        page.get_by_role("button", name=button).click()
        expect(titles(page)).to_have_text([title])
        in_api(page, service, f"await call('PUT', '/{number}', {{title: 'x'}})")
        page.reload()

    # What does not touch the text is no conflict.
    page.get_by_role("button", name="Edit x").click()
    page.get_by_role("textbox", name="Title").fill("Apples")
    in_api(page, service, f"await call('PATCH', '/{number}/complete')")
    page.get_by_role("button", name="Save").click()
    expect(titles(page)).to_have_text(["Apples"])
    expect(checkbox(page, "Apples")).to_be_checked()

    # Deleted meanwhile: what was typed is not lost.
    page.get_by_role("button", name="Edit Apples").click()
    page.get_by_role("textbox", name="Title").fill("Dates")
    in_api(page, service, f"await call('DELETE', '/{number}')")
    page.get_by_role("button", name="Save").click()
    expect(alert(page, "This task was deleted elsewhere.")).to_be_visible()
    page.get_by_role("button", name="Add as a new task").click()
    expect(titles(page)).to_have_text(["Dates"])


def test_two_tabs_agree(page: Page, context: BrowserContext, site: Site) -> None:
    sign_up(page, site[0])
    added(page, "Bananas", "apples")
    other = context.new_page()
    other.goto(site[0])
    expect(titles(other)).to_have_text(["apples", "Bananas"])
    checkbox(other, "Bananas").click()
    expect(checkbox(page, "Bananas")).to_be_checked()
    other.get_by_role("button", name="Delete apples").click()
    expect(titles(page)).to_have_text(["Bananas"])
    expect(status(page, "“apples” was deleted elsewhere.")).to_be_visible()
    other.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    expect(titles(page)).to_have_count(0)


@pytest.mark.parametrize("event", ["focus", "online"])
def test_the_list_is_fresh_on_focus_and_reconnect(page: Page, site: Site, event: str) -> None:
    url, service = site
    sign_up(page, url)
    added(page, "Bananas")
    answers: list[int] = []
    page.on(
        "response",
        lambda response: (
            answers.append(response.status)
            if "limit=" in response.url and response.request.method == "GET"
            else None
        ),
    )
    fire = f"() => window.dispatchEvent(new Event('{event}'))"
    with page.expect_response("**limit=100**"):
        page.evaluate(fire)
    expect(page.get_by_role("list", name="Tasks")).to_have_attribute("aria-busy", "false")
    # Nothing has changed, and nothing but that was sent.
    assert answers == [304, 304, 304]
    in_api(page, service, "await call('POST', '', {title: 'apples'})")
    page.evaluate(fire)
    expect(titles(page)).to_have_text(["apples", "Bananas"])


def test_the_list_is_fresh_after_half_a_minute(page: Page, site: Site) -> None:
    url, service = site
    page.clock.install()
    sign_up(page, url)
    added(page, "Bananas")
    in_api(page, service, "await call('POST', '', {title: 'apples'})")
    expect(titles(page)).to_have_text(["Bananas"])
    page.clock.run_for(31_000)
    expect(titles(page)).to_have_text(["apples", "Bananas"])


def test_a_changed_task_is_not_deleted_unseen(page: Page, site: Site) -> None:
    url, service = site
    sign_up(page, url)
    added(page, "Bananas")
    number = str(titles(page).first.get_attribute("href")).rpartition("/")[2]
    in_api(page, service, f"await call('PUT', '/{number}', {{description: 'theirs'}})")
    page.get_by_role("button", name="Delete Bananas").click()
    expect(alert(page, "“Bananas” was changed elsewhere, and is not deleted.")).to_be_visible()
    expect(page.get_by_text("theirs")).to_be_visible()
    in_api(page, service, f"await call('DELETE', '/{number}')")
    checkbox(page, "Bananas").click()
    expect(status(page, "“Bananas” was deleted elsewhere.")).to_be_visible()
    expect(titles(page)).to_have_count(0)
