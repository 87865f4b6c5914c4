"""Cron expressions and time zones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

#
# CronSim reads them as Debian's cron does. A fixed time (neither minute nor hour begins with a
# star) that the clock leaves out in spring runs once, at the first moment after the gap, and one
# that comes twice in autumn runs the first time. What begins with a star goes by elapsed time.

CRON_FIELDS = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, L for the last, LW for the last weekday"),
    ("month", "1 to 12, JAN to DEC"),
    ("day of the week", "0 to 7 or SUN to SAT, 1#2 for the second Monday, 1L for the last"),
]
CRON_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
CRON_FORM = (
    "five fields (minute, hour, day of the month, month, day of the week) "
    f"or one of {', '.join(CRON_ALIASES)}"
)
ZONE_FORM = "an IANA name such as UTC, Europe/Berlin or Asia/Tokyo"
ZONE_RE = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,3}")


def check_cron(cron: str) -> None:
    """ValueError, naming the field and what is allowed there, where it cannot be read."""
    from cronsim import CronSim, CronSimError  # here: who has no schedules does without it

    parts = CRON_ALIASES.get(cron, cron).split()
    if len(parts) != len(CRON_FIELDS):
        raise ValueError(f"cron must be {CRON_FORM}, and {cron[:80]!r} is not")
    for place, (name, allowed) in enumerate(CRON_FIELDS):
        alone = ["*" for _ in CRON_FIELDS]
        alone[place] = parts[place]
        try:
            CronSim(" ".join(alone), datetime.now())
        except CronSimError:
            raise ValueError(
                f"cron: its {name} {parts[place][:80]!r} cannot be read; "
                f"allowed are * and {allowed}, also as a list 1,5 or range 1-5 or step */5"
            ) from None
    try:
        next(CronSim(" ".join(parts), datetime.now()))
    except (CronSimError, StopIteration):
        days = f"day of the month {parts[2]!r} and day of the week {parts[4]!r}"
        raise ValueError(f"cron: its {days} never come in month {parts[3]!r}") from None


def check_zone(zone: str) -> None:
    """ValueError where this machine knows no such time zone."""
    try:
        _zone(zone)
    except (ValueError, LookupError, OSError):
        raise ValueError(f"zone must be {ZONE_FORM}, and {zone[:80]!r} is none here") from None


def _zone(zone: str) -> tzinfo:
    from zoneinfo import ZoneInfo  # here, as cronsim

    if zone == "UTC":
        return UTC  # needs no data
    if not ZONE_RE.fullmatch(zone):
        raise ValueError(zone)
    return ZoneInfo(zone)


def cron_times(cron: str, zone: str, after: float) -> Iterator[float]:
    """The times after a moment, oldest first, each a whole minute; seconds since 1970."""
    from cronsim import CronSim

    after = max(after, 0.0)  # the first year has no time in a zone west of UTC
    begin = datetime.fromtimestamp(after, UTC).astimezone(_zone(zone))
    last = after
    for moment in CronSim(CRON_ALIASES.get(cron, cron), begin):
        # In an hour that comes twice it begins with the first again: what is past is left out.
        if moment.timestamp() > last:
            last = moment.timestamp()
            yield last
