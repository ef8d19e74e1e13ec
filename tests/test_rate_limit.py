"""Each user may send so many requests: counted in a worker, or in a Redis for all workers."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.redis import Redis
from support.service import (
    ORIGIN,
    PATIENCE,
    PROJECT,
    Service,
    User,
    assert_clean_log,
    assert_error,
    environment,
    patient,
    running,
    wait_for,
)
from support.tokens import signed

NOT_ENFORCED = "The rate limit is not enforced, as Redis does not answer"
DAY = 24 * 3600


@pytest.fixture(scope="module")
def limited(database_url: str) -> Iterator[Service]:
    """Three requests a day, so that no window ends during a test."""
    with running(environment(database_url, RATE_LIMIT="3/day")) as service:
        yield service
        output = service.output()
    assert_clean_log(output)


def assert_limited(response: httpx.Response) -> int:
    """Return the seconds to wait."""
    assert_error(response, 429, "Too many requests", "RATE_LIMITED")
    seconds = response.headers["retry-after"]
    assert seconds.isdecimal()
    return int(seconds)


def use_up(user: User) -> None:
    for _ in range(3):
        assert user.call("GET").status_code == 200


def test_one_request_more_is_refused(limited: Service) -> None:
    user = limited.user()
    use_up(user)
    response = user.call("GET", headers={"Origin": ORIGIN})
    assert 0 < assert_limited(response) <= DAY
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "Retry-After" in response.headers["access-control-expose-headers"]
    assert_limited(user.call("POST", json={"title": "x"}))
    assert limited.user().call("GET").status_code == 200


def test_what_was_sent_is_not_looked_at(limited: Service) -> None:
    user = limited.user()
    use_up(user)
    assert_limited(user.call("POST", content=b"x" * 70_000))
    assert_limited(user.call("GET", "/not-a-number"))


def test_a_refused_request_costs_no_database_access(limited: Service) -> None:
    user = limited.user()
    use_up(user)
    response = user.call("GET", headers={"X-Request-ID": f"refused-{user.id}"})
    assert_limited(response)
    lines = [line for line in limited.output().splitlines() if f"refused-{user.id}" in line]
    assert lines
    assert not [line for line in lines if "Waited" in line or "Statement" in line]


def test_nobody_else_can_use_up_a_users_requests(limited: Service) -> None:
    user, stranger = limited.user(), limited.user()
    for _ in range(5):
        for headers in ({}, stranger.headers, {"Authorization": f"Bearer {signed(secret='x')}"}):
            response = limited.client.get(user.path, headers=headers)
            assert response.status_code in {401, 403}
    use_up(user)


def test_health_is_not_limited(limited: Service) -> None:
    for path in ("/health", "/livez"):
        assert {limited.client.get(path).status_code for _ in range(5)} == {200}


@pytest.mark.parametrize("limit", ["1/second", " 2 / Second "])
def test_the_time_to_wait_is_long_enough(database_url: str, limit: str) -> None:
    with running(environment(database_url, RATE_LIMIT=limit)) as service:
        user = service.user()
        for _ in range(3):
            response = wait_for(lambda: refused(user))
            time.sleep(assert_limited(response))
            assert user.call("GET").status_code == 200


def refused(user: User) -> httpx.Response | None:
    response = user.call("GET")
    return None if response.status_code == 200 else response


def test_without_a_limit_its_library_is_not_imported(database_url: str) -> None:
    code = "import sys, main; print({'limits', 'redis'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    env = environment(database_url, RATE_LIMIT_STORAGE="memory")
    shown = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, check=True)
    assert shown.stdout == b"set()\n"


def test_a_redis_without_its_package_is_one_line(database_url: str) -> None:
    code = "import sys; sys.modules['redis'] = None; import main"
    env = environment(database_url, RATE_LIMIT="3/day", RATE_LIMIT_STORAGE="redis://canary")
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    (line,) = ended.stderr.splitlines()
    assert line.endswith("[Configuration error: RATE_LIMIT_STORAGE needs the package redis:"
                         " uv sync --extra redis]")  # fmt: skip


# --- Redis ---


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    yield server
    server.stop()


@pytest.mark.redis
def test_workers_that_share_a_redis_count_together(database_url: str, redis: Redis) -> None:
    env = environment(
        database_url, RATE_LIMIT="3/day", RATE_LIMIT_STORAGE=redis.url, ENVIRONMENT="shared"
    )
    program = patient("rate_limit.TIMEOUT")
    with running(env, program=program) as first, running(env, program=program) as second:
        user = first.user()
        same = second.user(user.id)
        use_up(user)
        for each in (same, user):
            assert 0 < assert_limited(each.call("GET")) <= DAY + 1
        assert second.user().call("GET").status_code == 200
        output = first.output() + second.output()
    assert_clean_log(output, "redis-canary")


@pytest.mark.redis
def test_the_time_that_redis_says_is_long_enough(database_url: str, redis: Redis) -> None:
    env = environment(database_url, RATE_LIMIT="1/second", RATE_LIMIT_STORAGE=redis.url)
    with running(env, program=patient("rate_limit.TIMEOUT")) as service:
        user = service.user()
        for _ in range(3):
            response = wait_for(lambda: refused(user))
            time.sleep(assert_limited(response))
            assert user.call("GET").status_code == 200


@pytest.mark.redis
@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_a_redis_that_fails_disturbs_nobody(database_url: str, redis: Redis, how: str) -> None:
    env = environment(database_url, RATE_LIMIT="3/day", RATE_LIMIT_STORAGE=redis.url)
    with running(env, program=("main.py",)) as service:
        user = service.user()
        wait_for(lambda: refused(user))
        if how == "stopped":
            redis.stop()
            for _ in range(20):
                assert user.call("GET").status_code == 200
            redis.start()
        else:
            before = redis.connections()
            with redis.frozen():
                for _ in range(40):
                    assert user.call("GET").status_code == 200
            # Not each of them has tried it, and waited.
            assert redis.connections() - before < 20
        wait_for(lambda: refused(user))
        output = service.output()
        assert output.count(NOT_ENFORCED) == 1
        assert "The rate limit is enforced again" in output
        assert_clean_log(output, "redis-canary")


@pytest.mark.redis
def test_a_redis_that_hangs_does_not_delay_the_end(database_url: str, redis: Redis) -> None:
    env = environment(database_url, RATE_LIMIT="3/day", RATE_LIMIT_STORAGE=redis.url)
    with running(env, program=("main.py",)) as service:
        service.user().create()
        with redis.frozen():
            assert service.stop() == 0
