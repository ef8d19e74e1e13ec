"""Statements that PostgreSQL parses and plans once for each connection."""

import hashlib
import re
from typing import Self

PARAMETER = re.compile(r"%\((\w+)\)s")
NAME_LENGTH = 63
"""Bytes of a name that PostgreSQL keeps."""
NAME_HASH = 16


class Prepared(str):
    """A statement that each connection prepares once, in the message of its first execution.

    PostgreSQL then neither parses nor plans it again, which is half of what a task's SELECT costs.
    A name is the text's beginning, for those who look into `pg_stat_activity`, and its hash: what
    another version of the service has prepared has another name.
    """

    __slots__ = ("first", "later", "name")
    name: str
    first: str
    later: str

    def __new__(cls, sql: str) -> Self:
        """Take SQL with parameters like `%(name)s`."""
        statement = super().__new__(cls, sql)
        names = list(dict.fromkeys(PARAMETER.findall(sql)))
        numbered = PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", sql)
        digest = hashlib.sha256(sql.encode()).hexdigest()[:NAME_HASH]
        beginning = " ".join(numbered.split())[: NAME_LENGTH - NAME_HASH - 1]
        statement.name = f'"{beginning} {digest}"'
        statement.later = f"EXECUTE {statement.name}({', '.join(f'%({each})s' for each in names)})"
        statement.first = f"PREPARE {statement.name} AS {numbered}; {statement.later}"
        return statement
