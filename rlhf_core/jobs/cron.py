"""Cron expressions of five fields, in UTC."""

from datetime import datetime

from rlhf_core.errors import InvalidInput

DEFAULT_CRON = "0 1 * * 0"
"""Sunday 01:00 UTC."""
MAX_CRON_CHARS = 100


def parse_cron(text: str) -> str:
    """The five fields of a cron expression, in order; InvalidInput where it is none."""
    from croniter import croniter

    cron = " ".join(text.split())
    is_fit = len(cron) <= MAX_CRON_CHARS and len(cron.split(" ")) == 5
    if not is_fit or not croniter.is_valid(cron):
        raise InvalidInput(
            f"cron {text!r}: write five fields, minute, hour, day of month, month, day of week "
            f"(in UTC), such as {DEFAULT_CRON!r} for Sunday 01:00.",
            field="cron",
        )
    return cron


def find_next_tick(cron: str, after: datetime) -> datetime:
    """The first moment of the cron after `after`, in UTC; InvalidInput where there never is one."""
    from croniter import CroniterBadDateError, croniter

    try:
        tick: datetime = croniter(cron, after).get_next(datetime)
    except CroniterBadDateError as error:
        raise InvalidInput(
            f"cron {cron!r}: that day never comes; choose another.", field="cron"
        ) from error
    return tick


def describe_cron(cron: str) -> str:
    """A cron in words where it is a plain one, else as it is written."""
    names = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
    minute, hour, day, month, weekday = cron.split(" ")
    if not (minute.isdecimal() and hour.isdecimal() and month == "*"):
        return f"cron {cron} (UTC)"
    at = f"{int(hour):02}:{int(minute):02} UTC"
    if (day, weekday) == ("*", "*"):
        return f"every day, {at}"
    if day == "*" and weekday.isdecimal():
        return f"every {names[int(weekday) % 7]}, {at}"
    if weekday == "*" and day.isdecimal():
        return f"on day {int(day)} of every month, {at}"
    return f"cron {cron} (UTC)"
