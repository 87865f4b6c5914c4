"""Cron expressions and time zones.

CronSim reads cron expressions as Debian's cron does. A fixed time (neither its minute nor its hour
begins with a star) that the clock skips in spring runs once, at the first moment after the gap. If
it occurs twice in autumn, it runs the first time only. Times with a star follow elapsed time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

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
    """ValueError if this is not a cron expression, or is never due. The error names the field and
    what is allowed there."""
    from cronsim import CronSim, CronSimError  # imported here: not needed without schedules

    parts = CRON_ALIASES.get(cron, cron).split()
    if len(parts) != len(CRON_FIELDS):
        raise ValueError(wrong_number_of_fields(cron, len(parts)))
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
        raise ValueError(f"cron: {days} never occur in month {parts[3]!r}") from None


def wrong_number_of_fields(cron: str, number: int) -> str:
    """The error of an expression that does not have five fields but this number."""
    shown = repr(cron[:80])[1:-1]  # without control characters
    if cron.startswith("@"):
        return f"cron: “{shown}” is unknown; allowed are {', '.join(CRON_ALIASES)}"
    fields = "1 field" if number == 1 else f"{number} fields"
    return f"cron: “{shown}” has {fields}; cron needs 5: minute hour day month weekday"


def check_zone(zone: str) -> None:
    """ValueError if this machine does not know the time zone."""
    try:
        _zone(zone)
    except (ValueError, LookupError, OSError):
        raise ValueError(
            f"zone must be {ZONE_FORM}; this system does not know {zone[:80]!r}"
        ) from None


def _zone(zone: str) -> tzinfo:
    from zoneinfo import ZoneInfo  # imported here: not needed without schedules

    if zone == "UTC":
        return UTC  # needs no time zone data
    if not ZONE_RE.fullmatch(zone):
        raise ValueError(zone)
    return ZoneInfo(zone)


def cron_times(cron: str, zone: str, after: float) -> Iterator[float]:
    """The times after the moment `after`, oldest first. The iterator is endless unless the
    expression has a last time. Each is a whole minute, in seconds since 1970."""
    from cronsim import CronSim  # imported here: not needed without schedules

    after = max(after, 0.0)  # year 1 cannot be expressed in a zone west of UTC
    begin = datetime.fromtimestamp(after, UTC).astimezone(_zone(zone))
    last = after
    for moment in CronSim(CRON_ALIASES.get(cron, cron), begin):
        # In an hour that occurs twice, CronSim begins with the first of the two: skip the past.
        if moment.timestamp() > last:
            last = moment.timestamp()
            yield last
