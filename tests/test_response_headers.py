"""What every answer says about itself: caches, frames, content types, its id."""

import re
from functools import partial

import httpx
import pytest

from support.service import ORIGIN, Service, User, assert_error, wait_for

PREFLIGHT_VARY = (
    "Authorization, Origin, Access-Control-Request-Method, Access-Control-Request-Headers,"
    " Access-Control-Request-Private-Network"
)


@pytest.fixture
def user(served: Service) -> User:
    return served.user()


def logged(service: Service, answer: httpx.Response) -> bool:
    return answer.headers["x-request-id"] in service.output()


def test_every_answer_says_what_may_be_done_with_it(served: Service, user: User) -> None:
    task = f"/{user.create()['id']}"
    tasks = {"cache-control": "private, no-cache", "vary": "Authorization, Origin"}
    others = tasks | {"cache-control": "no-store"}
    origin = {"Origin": ORIGIN}
    anonymous = served.client
    preflight = origin | {"Access-Control-Request-Method": "GET"}
    answers = [
        (user.call("GET"), tasks),
        (user.call("GET", task), tasks),
        (user.call("GET", headers=origin), tasks),
        (user.call("PUT", task, json={}), others),
        (user.call("POST", json={"title": "x"}, headers=origin), others),
        (user.call("GET", "/0"), others),
        (user.call("POST", json={}), others),
        (user.call("DELETE", task), others),
        (anonymous.get(user.path, headers=origin), others),
        (anonymous.options(user.path, headers=preflight), others | {"vary": PREFLIGHT_VARY}),
        (anonymous.get("/health"), others),
        (anonymous.get("/openapi.json"), others),
        (anonymous.get("/docs"), others),
        (anonymous.get("/nowhere"), others),
        (anonymous.get("/static-offline-docs/nothing.js"), others),
        (anonymous.post("/static-offline-docs/swagger-ui.css"), others),
    ]
    for answer, expected in answers:
        found = {name: answer.headers.get_list(name) for name in expected}
        assert found == {name: [value] for name, value in expected.items()}, answer.request.url
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        assert len(answer.headers.get_list("x-request-id")) == 1


def test_the_documentation_may_not_be_framed_and_its_parts_may_be_cached(served: Service) -> None:
    for path in ("/docs", "/docs/oauth2-redirect"):
        page = served.client.get(path)
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
    script = re.search(r"/static-offline-docs/[^\"]+\.js", served.client.get("/docs").text)
    assert script
    answer = served.client.get(script[0])
    again = served.client.get(script[0], headers={"If-None-Match": answer.headers["etag"]})
    assert (answer.status_code, again.status_code) == (200, 304)
    for each in (answer, again):
        assert "cache-control" not in each.headers
        assert "Authorization" not in each.headers["vary"]
        assert each.headers["x-content-type-options"] == "nosniff"
        wait_for(partial(logged, served, each))


def test_a_static_file_that_is_missing_has_the_common_body(served: Service) -> None:
    answer = served.client.get("/static-offline-docs/nothing.js")
    assert_error(answer, 404, "Not found", "NOT_FOUND")
    wait_for(partial(logged, served, answer))
