"""HEAD wherever GET works, and what caches may keep."""

import pytest

from support.service import ORIGIN, Service, User, assert_revalidated


def test_head_is_get_without_a_body(user: User, stranger: User, service: Service) -> None:
    path = f"/{user.create('Ünïcödé')['id']}"
    foreign = f"/{stranger.create()['id']}"
    paths = [
        "",
        "?status=pending&sort=title",
        path,
        foreign,
        "/0",
        "/x",
        "?status=x",
        "/1/complete",
    ]
    urls = [user.path + each for each in paths]
    for url in [*urls, "/docs", "/openapi.json", "/health", "/livez", "/nope"]:
        got, head = (
            service.client.request(method, url, headers=user.headers | {"Origin": ORIGIN})
            for method in ("GET", "HEAD")
        )
        assert (head.status_code, head.content) == (got.status_code, b"")
        own = {"date", "x-request-id"}
        assert {k: v for k, v in head.headers.items() if k not in own} == {
            k: v for k, v in got.headers.items() if k not in own
        }
        assert head.headers["content-length"] == str(len(got.content))


def test_head_needs_a_token(user: User) -> None:
    assert user.client.head(user.path).status_code == 401


def test_a_page_may_send_head(service: Service) -> None:
    headers = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "HEAD",
        "Access-Control-Request-Headers": "authorization",
    }
    assert service.client.options("/api/u/tasks", headers=headers).status_code == 200


# --- caches ---


@pytest.mark.parametrize("origin", [{}, {"Origin": ORIGIN}, {"Origin": "https://evil.example"}])
def test_caches_keep_tasks_for_their_user_and_ask_before_each_use(
    user: User, origin: dict[str, str]
) -> None:
    path = f"/{user.create()['id']}"
    for each in ("", path):
        for method in ("GET", "HEAD"):
            assert_revalidated(user.call(method, each, headers=origin))
