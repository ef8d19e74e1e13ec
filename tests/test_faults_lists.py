"""Very long lists: nobody else waits for them, and they take bounded memory."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from support.load import MEBIBYTE, Watch
from support.postgres import connected
from support.service import PATIENCE, environment, running

pytestmark = pytest.mark.faults

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
LISTS = 4
BYTES_PER_TASK = 1_440
"""Of a task's JSON."""
FILL = """
INSERT INTO tasks (user_id, title, description)
SELECT %s, 'Task ' || (i * 7919 %% 1000003), repeat('long description ', 75)
FROM generate_series(1, %s) i
"""


@pytest.mark.parametrize("sort", ["created", "title"])
def test_four_very_long_lists_at_once(
    database_url: str, sized: Sized, record_property: Record, sort: str
) -> None:
    tasks = sized(20_000, 100_000)
    env = environment(database_url, LOG_LEVEL="info", DB_TIMEOUT="10")
    with running(env, program=("main.py",)) as service, ThreadPoolExecutor(LISTS) as threads:
        user = service.user()
        with connected(database_url) as cursor:
            cursor.execute(FILL, [user.id, tasks])
        watch = Watch(service)

        def read(_: int) -> tuple[int, int]:
            """Return the status and the size, and keep nothing in this process."""
            size = 0
            with httpx.stream(
                "GET",
                f"http://{urlsplit(service.url).netloc}{user.path}?sort={sort}",
                headers=user.headers,
                timeout=PATIENCE,
            ) as response:
                for part in response.iter_raw():
                    size += len(part)
            return response.status_code, size

        lists = [threads.submit(read, number) for number in range(LISTS)]
        watch.until(lambda: all(each.done() for each in lists))
        answers = {each.result() for each in lists}
    assert len(answers) == 1
    [(status, size)] = answers
    assert status == 200
    assert size > tasks * 1_200
    # Each list's JSON, once, and what it is sorted by.
    bound = round(LISTS * tasks * BYTES_PER_TASK * 1.3 / MEBIBYTE) + 40
    record_property(
        f"{LISTS} lists of {tasks:,} tasks ({size / 1e6:.0f} MB) by {sort} at once",
        f"1 | all 200; {watch.assert_bounded(bound)}",
    )
