"""Creations with the same Idempotency-Key at the same time make one task."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import make_url

from support.creation import age, assert_replays, create, is_replayed
from support.postgres import connected, new_database
from support.service import (
    Service,
    User,
    environment,
    running,
    wait_for,
)


def test_of_20_twins_one_creates_and_all_get_its_response(user: User) -> None:
    for number in range(5):
        with ThreadPoolExecutor(20) as threads:
            calls = [threads.submit(create, user, f"k{number}") for _ in range(20)]
        responses = [call.result() for call in calls]
        assert {response.status_code for response in responses} == {201}
        assert len({response.content for response in responses}) == 1
        assert Counter(map(is_replayed, responses)) == {False: 1, True: 19}
        assert len(user.list()) == number + 1


def test_twins_of_several_processes_create_one_task(database_url: str) -> None:
    assert_twins_are_one(database_url)


def test_of_twins_with_different_payloads_one_wins(user: User) -> None:
    bodies = [{"title": f"Task {number}"} for number in range(20)]
    with ThreadPoolExecutor(20) as threads:
        calls = [threads.submit(create, user, "k", body) for body in bodies]
    assert Counter(call.result().status_code for call in calls) == {201: 1, 422: 19}
    assert len(user.list()) == 1


def test_expired_keys_that_are_used_again_at_once_make_no_deadlock(
    user: User, database_url: str, service: Service
) -> None:
    names = [f"k{number}" for number in range(12)]
    for round_ in range(4):
        for name in names:
            create(user, name, {"title": f"{round_}"})
        age(database_url, user, 25)
        with ThreadPoolExecutor(24) as threads:
            again = {"title": f"{round_} again"}
            calls = [threads.submit(create, user, name, again) for name in names * 2]
        responses = [call.result() for call in calls]
        assert {response.status_code for response in responses} == {201}
        assert Counter(map(is_replayed, responses)) == {False: 12, True: 12}
        age(database_url, user, 25)
    assert len(user.list()) == 4 * 24
    assert "deadlock" not in service.output()


HOLD = "INSERT INTO idempotency_keys VALUES (%s, %s, '', 0, timezone('utc', now()))"


def waiting(cursor: Any) -> int:  # noqa: ANN401
    """Count the connections that wait for another."""
    cursor.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )
    number: int = cursor.fetchone()[0]
    return number


def test_twins_that_wait_leave_connections_to_others(database_url: str) -> None:
    with (
        running(environment(database_url, DB_POOL_SIZE="3")) as service,
        connected(database_url) as holder,
        connected(database_url) as cursor,
        ThreadPoolExecutor(20) as threads,
    ):
        user = service.user()
        create(user, "old")
        age(database_url, user, 25)
        holder.execute("BEGIN")
        holder.execute(HOLD, [user.id, "k"])
        twins = [threads.submit(create, user, "k") for _ in range(20)]
        wait_for(lambda: waiting(cursor))
        # Whoever waits has locked no expired key: somebody who claims it could wait for ever.
        cursor.execute(
            "SELECT key FROM idempotency_keys WHERE user_id = %s FOR UPDATE SKIP LOCKED", [user.id]
        )
        assert cursor.fetchall() == [("old",)]
        for _ in range(5):
            user.create("meanwhile")
        assert waiting(cursor) == 1
        assert not any(twin.done() for twin in twins)
        holder.execute("ROLLBACK")
        responses = [twin.result() for twin in twins]
        assert {response.status_code for response in responses} == {201}
        assert Counter(map(is_replayed, responses)) == {False: 1, True: 19}
        assert len(user.list()) == 7


def test_a_holder_that_hangs_costs_its_twins_the_time_limit_and_no_more(database_url: str) -> None:
    with (
        running(environment(database_url, DB_TIMEOUT="2")) as service,
        connected(database_url) as holder,
        connected(database_url) as cursor,
        ThreadPoolExecutor(4) as threads,
    ):
        user = service.user()
        holder.execute("BEGIN")
        holder.execute(HOLD, [user.id, "k"])
        twins = [threads.submit(create, user, "k") for _ in range(4)]
        assert {twin.result().status_code for twin in twins} == {500}
        assert waiting(cursor) == 0
        holder.execute("ROLLBACK")
        first = create(user, "k")
        assert_replays(first, create(user, "k"))
        assert user.list() == [first.json()]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_twins_are_one_whatever_the_servers_isolation_level(level: str) -> None:
    with new_database() as url, connected(url) as cursor:
        name = make_url(url).database
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
        assert_twins_are_one(url)


def assert_twins_are_one(url: str) -> None:
    env = environment(url)
    with running(env) as one, running(env) as two, ThreadPoolExecutor(10) as threads:
        user = one.user()
        users = [user, User(user.id, two.client)]
        for number in range(5):
            calls = [threads.submit(create, users[index % 2], f"k{number}") for index in range(10)]
            responses = [call.result() for call in calls]
            assert {response.status_code for response in responses} == {201}
            assert Counter(map(is_replayed, responses)) == {False: 1, True: 9}
        assert len(user.list()) == 5


def test_a_repetition_uses_up_no_id(user: User) -> None:
    before = create(user, "k").json()["id"]
    for _ in range(5):
        create(user, "k")
    assert user.create()["id"] == before + 1
