"""Entity tags (RFC 9110, 8.8.3): they name the version of a resource that a client has."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from rendering import to_json

TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*+"'
# Possessive quantifiers: a header of 64 KiB is read once, whatever it holds.
TAGS = re.compile(rf"[ \t,]*+{TAG}(?:[ \t]*+,[ \t,]*+{TAG})*+[ \t,]*+")
ANY = "*"


def version_tag(moment: datetime) -> str:
    """Return the tag of what was last changed at this moment: its JSON string, quotes included."""
    return to_json(moment).decode()


def parse(lines: Sequence[str]) -> list[str] | None:
    """Return the tags of a header, or `*` alone; None if it is malformed.

    Several lines of a header are one list (RFC 9110, 5.3).
    """
    value = ", ".join(lines).strip(" \t")
    if value == ANY:
        return [ANY]
    return re.findall(TAG, value) if TAGS.fullmatch(value) else None


def matches_weakly(lines: Sequence[str], tag: str) -> bool:
    """Tell whether `If-None-Match` names this tag; a malformed header names none."""
    tags = parse(lines) or ()
    return ANY in tags or tag.removeprefix("W/") in (each.removeprefix("W/") for each in tags)


def versions(tags: Iterable[str]) -> list[datetime]:
    """Return the moments whose tags these are, by strong comparison; other tags match nothing."""
    moments = []
    for tag in tags:
        try:
            moment = datetime.fromisoformat(tag.strip('"')).replace(tzinfo=None)
        except ValueError:
            continue
        if version_tag(moment) == tag:
            moments.append(moment)
    return moments
