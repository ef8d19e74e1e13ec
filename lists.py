"""Many tasks of one user at once: lists, whole or in pages, and changes of all that match."""

import random
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from sqlalchemy import (
    TIMESTAMP,
    ColumnElement,
    Integer,
    Select,
    and_,
    bindparam,
    func,
    literal_column,
    not_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlmodel import Session

import cursors
from errors import ValidationFailed
from queries import (
    FIELDS,
    INT4_MAX,
    RETURNED,
    TASK,
    TaskRow,
    as_dict,
    sql_of,
)
from rendering import Parts, to_json
from schemas import TaskOrder, TaskSort, TaskStatus
from statements import TURN, execute, execute_in_turns, give_way
from texts import alphabetical, folded

STATES = {
    TaskStatus.ALL: (False, True),
    TaskStatus.PENDING: (False,),
    TaskStatus.COMPLETED: (True,),
}
SORTED_BY = {
    TaskSort.CREATED: "created_at",
    TaskSort.TITLE: "title",
    TaskSort.UPDATED: "updated_at",
}
DEFAULT_ORDER = {
    TaskSort.CREATED: TaskOrder.DESC,
    TaskSort.TITLE: TaskOrder.ASC,
    TaskSort.UPDATED: TaskOrder.DESC,
}
PLACES: dict[TaskSort, ColumnElement[datetime]] = {
    # An expression that idx_tasks_created_at does not have: PostgreSQL would rather walk through
    # everybody's newest tasks, which took half a second for somebody whose tasks are old.
    TaskSort.CREATED: TASK.created_at + literal_column("interval '0'"),
    TaskSort.UPDATED: TASK.updated_at,
}
TITLE = FIELDS.index("title")
DESCRIPTION = FIELDS.index("description")
PIVOTS_PER_TURN = 8
"""Samples for each part that is sorted in a turn: the parts are of similar sizes."""

BAD_CURSOR = "Cursor must be the next_cursor of a page of the same list"

Key = tuple[Any, ...]
Row = Sequence[Any]


class ListQuery(NamedTuple):
    """Which of whose tasks, in which order."""

    owner: str
    status: TaskStatus = TaskStatus.ALL
    sort: TaskSort = TaskSort.CREATED
    given_order: TaskOrder | None = None
    q: str = ""

    @property
    def order(self) -> TaskOrder:
        """Return the order; the newest come first, and titles from A to Z."""
        return self.given_order or DEFAULT_ORDER[self.sort]

    @property
    def is_descending(self) -> bool:
        """Tell whether the order is descending."""
        return self.order is TaskOrder.DESC

    @property
    def parameters(self) -> dict[str, str]:
        """Return the parameters of a request for it."""
        asked = {"status": self.status, "sort": self.sort, "order": self.order, "q": self.q}
        default = ListQuery(self.owner, sort=self.sort)
        defaults = {"status": default.status, "sort": TaskSort.CREATED, "order": default.order}
        return {name: value for name, value in asked.items() if value != defaults.get(name, "")}

    @property
    def identity(self) -> list[str]:
        """Return what a cursor is bound to."""
        return [self.owner, self.status, self.sort, self.order, self.q]


def whole_list(session: Session, query: ListQuery) -> Parts:
    """Return all the tasks that match, and their number, as JSON."""
    parts = Parts("tasks")
    count = 0
    rows = _matching_rows(session, query)
    if query.sort is TaskSort.TITLE:
        for tasks in _by_title(rows, reverse=query.is_descending):
            count += len(tasks)
            parts.add(*tasks)
    else:
        for turn in filter(None, rows):
            count += len(turn)
            parts.add(to_json([as_dict(row) for row in turn])[1:-1])
    parts.finish(count=count)
    return parts


def one_page(
    session: Session, query: ListQuery, limit: int | None, cursor: str | None
) -> dict[str, Any]:
    """Return the first tasks that match or those after the cursor, and how many match in all.

    Raises:
        ValidationFailed: The cursor does not belong to this list, or there is no limit.

    """
    if limit is None:
        raise ValidationFailed("Cursor needs a limit")
    place = _place(query, cursor)
    read = _selected if query.q or query.sort is TaskSort.TITLE else _read
    total, tasks = read(session, query, limit + 1, place)
    next_cursor = None
    if len(tasks) > limit:
        tasks.pop()
        value = tasks[-1][SORTED_BY[query.sort]]
        text = value.isoformat() if isinstance(value, datetime) else value
        next_cursor = cursors.encode(text, tasks[-1]["id"], query.identity)
    return {"tasks": tasks, "count": len(tasks), "total": total, "next_cursor": next_cursor}


def next_link(query: ListQuery, limit: int, cursor: str) -> str:
    """Return the `Link` to the next page."""
    parameters = query.parameters | {"limit": str(limit), "cursor": cursor}
    path = f"/api/{quote(query.owner, safe='')}/tasks"
    return f'<{path}?{urlencode(parameters, quote_via=quote, safe="")}>; rel="next"'


# --- one statement for a page ---


@cache
def _list(status: TaskStatus, sort: TaskSort, order: TaskOrder) -> str:
    statement = select(*RETURNED).where(matches(status))
    if sort is not TaskSort.TITLE:
        statement = statement.order_by(*_ordered(PLACES[sort], TASK.id, order))
    return sql_of(statement)


@cache
def _page(status: TaskStatus, sort: TaskSort, order: TaskOrder, *, is_first: bool) -> str:
    """Build the statement of a page and the total.

    Pending and completed tasks are read separately, each from the index in which they stand in the
    page's order: so a page costs the same whatever the length of the list.
    """
    parts = [_part(completed, sort, order, is_first=is_first) for completed in STATES[status]]
    found = union_all(*parts).subquery("found")
    moment, task_id = found.columns[SORTED_BY[sort]], found.columns.id
    rows = (
        select(found)
        .order_by(*_ordered(moment, task_id, order))
        .limit(bindparam("number", type_=Integer))
        .subquery("page")
    )
    count = select(func.count().label("total")).where(matches(status)).subquery("matching")
    return sql_of(
        select(count.columns.total, *rows.columns)
        .select_from(count.outerjoin(rows, true()))
        .order_by(*_ordered(rows.columns[moment.name], rows.columns.id, order))
    )


def _part(
    completed: bool,  # noqa: FBT001  # a column's value
    sort: TaskSort,
    order: TaskOrder,
    *,
    is_first: bool,
) -> Select[Any]:
    moment = PLACES[sort]
    state = TASK.completed if completed else not_(TASK.completed)
    statement = select(*RETURNED).where(TASK.user_id == bindparam("owner"), state)
    if not is_first:
        place = tuple_(moment, TASK.id)
        last = tuple_(bindparam("moment", type_=TIMESTAMP), bindparam("last_id", type_=Integer))
        statement = statement.where(place < last if order is TaskOrder.DESC else place > last)
    statement = statement.order_by(*_ordered(moment, TASK.id, order))
    return statement.limit(bindparam("number", type_=Integer))


def _ordered(
    moment: ColumnElement[Any], task_id: ColumnElement[Any], order: TaskOrder
) -> tuple[ColumnElement[Any], ...]:
    if order is TaskOrder.DESC:
        return moment.desc(), task_id.desc()
    return moment.asc(), task_id.asc()


def matches(status: TaskStatus) -> ColumnElement[bool]:
    """Choose the owner's tasks of a status."""
    owned = TASK.user_id == bindparam("owner")
    if status is TaskStatus.ALL:
        return owned
    return and_(owned, TASK.completed if status is TaskStatus.COMPLETED else not_(TASK.completed))


def _read(
    session: Session, query: ListQuery, number: int, place: Key | None
) -> tuple[int, list[TaskRow]]:
    """Read the rows of a page from an index, and count the tasks."""
    statement = _page(query.status, query.sort, query.order, is_first=place is None)
    values = {"owner": query.owner, "number": number}
    if place:
        values |= dict(zip(("moment", "last_id"), place, strict=True))
    rows = execute(session, statement, values)
    total = rows[0][0]
    # Without a row of the page there is one with the total alone.
    return total, [as_dict(row[1:]) for row in rows if row[1] is not None]


# --- what PostgreSQL cannot do on every server ---


def _selected(
    session: Session, query: ListQuery, number: int, place: Key | None
) -> tuple[int, list[TaskRow]]:
    """Look at all tasks that match; return how many there are, and the first ones after a place."""
    total = 0
    first: list[tuple[Key, Row]] = []
    after = place and _key_of(query.sort, *place)
    for turn in _matching_rows(session, query):
        total += len(turn)
        candidates = [(_row_key(query.sort, row), row) for row in turn]
        if after and query.is_descending:
            candidates = [each for each in candidates if each[0] < after]
        elif after:
            candidates = [each for each in candidates if each[0] > after]
        first += candidates
        first.sort(key=lambda each: each[0], reverse=query.is_descending)
        del first[number:]
    return total, [as_dict(row) for _, row in first]


def _matching_rows(session: Session, query: ListQuery) -> Iterator[Sequence[Row]]:
    """Read all tasks of a status in turns, and leave out those without `q`."""
    statement = _list(query.status, query.sort, query.order)
    needle = folded(query.q)
    for turn in execute_in_turns(session, statement, {"owner": query.owner}):
        if needle:
            yield [
                row
                for row in turn
                if needle in folded(row[TITLE]) or needle in folded(row[DESCRIPTION] or "")
            ]
        else:
            yield turn


def _by_title(turns: Iterable[Sequence[Row]], *, reverse: bool) -> Iterator[list[bytes]]:
    """Yield all rows in order, as JSON, in parts that are sorted one by one.

    To sort 100,000 at once would stop all other requests for a fifth of a second.
    """
    items: list[Key] = []
    for turn in turns:
        # The copies are as long as they need to be; orjson takes six times as much at first.
        tasks = [bytes(memoryview(to_json(as_dict(row)))) for row in turn]
        items += [
            (*_row_key(TaskSort.TITLE, row), task) for row, task in zip(turn, tasks, strict=True)
        ]
    size = len(items) // TURN * PIVOTS_PER_TURN
    sample = sorted(random.sample(items, size))
    pivots = sample[PIVOTS_PER_TURN - 1 :: PIVOTS_PER_TURN]
    parts: list[list[Key]] = [[] for _ in range(len(pivots) + 1)]
    for start in range(0, len(items), TURN):
        for item in items[start : start + TURN]:
            parts[bisect(pivots, item)].append(item)
        if pivots:
            give_way()
    del items  # a part's keys are freed as soon as it is sorted
    if not reverse:
        parts.reverse()
    while parts:
        part = parts.pop()
        part.sort(reverse=reverse)
        if part:
            yield [item[-1] for item in part]
        if parts:
            give_way()


def _row_key(sort: TaskSort, row: Row) -> Key:
    return _key_of(sort, row[FIELDS.index(SORTED_BY[sort])], row[0])


def _key_of(sort: TaskSort, value: Any, task_id: int) -> Key:  # noqa: ANN401  # a column's
    return (*alphabetical(value), task_id) if sort is TaskSort.TITLE else (value, task_id)


def _place(query: ListQuery, cursor: str | None) -> Key | None:
    """Return the place where a cursor's page begins, as values for a statement or a comparison."""
    if cursor is None:
        return None
    place = cursors.decode(cursor, query.identity)
    if place is None or abs(place[1]) > INT4_MAX:
        raise ValidationFailed(BAD_CURSOR)
    if query.sort is TaskSort.TITLE:
        return place
    try:
        return datetime.fromisoformat(place[0]).replace(tzinfo=None), place[1]
    except ValueError:
        raise ValidationFailed(BAD_CURSOR) from None
