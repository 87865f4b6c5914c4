"""The audit log in Redis."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tailboard.audit import AuditFilter, AuditPage, Entry, encode_entry, parse_place
from tailboard.machines.answers import text_of
from tailboard.machines.redis_link import RedisLink

# The ID of an entry of the stream. No entry has the ID 0-0, and Redis refuses to read before it.
PLACE_RE = re.compile("(?!0+-0+$)([0-9]{1,16})-([0-9]{1,16})")
OLDEST_RE = re.compile("[0-9]{1,15}")  # milliseconds since 1970
STEP = 500  # lines read in one round trip
MOST_STEPS = 40  # round trips of one read
DAY = 86_400  # seconds
# By how many seconds the clock of an API, which is in its lines, can differ from that of Redis,
# which is in the IDs of the entries.
CLOCK_DIFFERENCE = 3_600.0


class RedisAudit:
    """The audit log in Redis: the stream `audit`, whose entries begin at `audit-from`."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link
        self._from: int | None = None  # what this process has stored in `audit-from`

    def append(self, entry: Entry) -> None:
        self.link.run("audit", encode_entry(entry))

    def read(self, wanted: AuditFilter, limit: int, before: str | None = None) -> AuditPage:
        page, place, oldest = AuditPage(), "+", self._oldest(wanted.since)
        if before is not None:
            place = "({}-{}".format(*parse_place(before, PLACE_RE))
        for _ in range(MOST_STEPS):
            found = self.link.ask(
                ("XREVRANGE", self.link.key("audit"), place, oldest, "COUNT", STEP)
            )[0]
            for entry_id, fields in found:
                if len(page.entries) == limit:
                    page.next = place.removeprefix("(")
                    return page
                page.add(dict(fields).get(b"line", b""), wanted)
                place = f"({entry_id.decode()}"
            if len(found) < STEP:
                return page
        page.next = place.removeprefix("(")
        return page

    def _oldest(self, since: float | None) -> int:
        """The ID of the oldest entry to look at: older ones were written before this time, or are
        removed by the next `append`."""
        (answer,) = self.link.try_all([("GET", self.link.key("audit-from"))])
        first = text_of(answer)
        kept = int(first) if OLDEST_RE.fullmatch(first) else 0
        return max(kept, int(((since or 0.0) - CLOCK_DIFFERENCE) * 1000))

    def prune(self, days: int, now: float) -> Iterator[None]:
        """Stores which lines are too old, in whole days. Each append removes them: XTRIM would need
        a permission that the documented user of an earlier version does not have."""
        oldest = int(now - days * DAY) // DAY * DAY * 1000 if days else 0
        if oldest != self._from:
            self.link.ask(("SET", self.link.key("audit-from"), oldest))
            self._from = oldest
        yield
