"""Cursors: the place where a page of a list ended, bound to that list."""

import base64
import hashlib
from collections.abc import Sequence

import orjson

VERSION = 1
DIGEST_SIZE = 12


def encode(value: str, task_id: int, query: Sequence[str]) -> str:
    """Return the cursor of a task's place in the list that the query makes."""
    payload = orjson.dumps([VERSION, value, task_id])
    return _text(_digest(payload, query) + payload)


def decode(cursor: str, query: Sequence[str]) -> tuple[str, int] | None:
    """Return the place that a cursor of this query's list names; None if it is no such cursor.

    The digest detects changed cursors and cursors of other lists. It needs no key: a forged cursor
    names a place in the user's own list, because every statement names the owner.
    """
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        payload = raw[DIGEST_SIZE:]
        version, value, task_id = orjson.loads(payload)
    except (ValueError, TypeError):
        return None
    if (
        _text(raw) != cursor  # several texts decode to the same bytes
        or _digest(payload, query) != raw[:DIGEST_SIZE]
        or (version, type(value), type(task_id)) != (VERSION, str, int)
    ):
        return None
    return value, task_id


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _digest(payload: bytes, query: Sequence[str]) -> bytes:
    return hashlib.blake2b(orjson.dumps(query) + payload, digest_size=DIGEST_SIZE).digest()
