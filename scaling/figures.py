"""What was measured: the figures behind `scaling.size` and `scaling.simulate`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """A kind of request."""

    share: float
    """Its part of the requests in the mix."""
    service_us: float
    """CPU time of a worker."""
    postgres_us: float
    """CPU time of PostgreSQL."""
    writes: bool = False
    """Whether it waits for a commit."""


# docs/scaling.md says where and when: one worker, 32 connections, two virtual cores of an AMD EPYC.
MIX: Mapping[str, Operation] = {
    "get": Operation(0.6, 158, 47),
    "list": Operation(0.2, 270, 142),
    "create": Operation(0.1, 221, 84, writes=True),
    "toggle": Operation(0.1, 165, 134, writes=True),
}
"""The requests of a frontend: lists of 100 tasks, single tasks, and a write in five requests."""
SERVICE_US = sum(each.share * each.service_us for each in MIX.values())
POSTGRES_US = sum(each.share * each.postgres_us for each in MIX.values())
WRITES = sum(each.share for each in MIX.values() if each.writes)
CREATIONS = MIX["create"].share

MAX_USE = 0.6
"""The part of a core that may be in use at the peak: above it, requests queue (docs/scaling.md)."""
WORKER_MB = 100
WORKER_CONNECTIONS = 11
"""`DB_POOL_SIZE`, and one for `/health`."""
POSTGRES_CONNECTIONS = 97
"""What PostgreSQL's default of 100 leaves, less the three for administrators."""
BYTES_PER_TASK = 435
"""The row with its six indexes: user ids of 32, titles of 21, descriptions of 66 characters."""
BYTES_PER_KEY = 300
"""A row of `idempotency_keys` with its indexes; each lives for 24 hours."""
MAX_ID = 2**31 - 1
"""Of INTEGER, which the contract fixes: so many creations, deleted tasks included."""
