from datetime import UTC, datetime

import pytest

from rlhf_core.errors import InvalidInput
from rlhf_core.jobs.cron import DEFAULT_CRON, describe_cron, find_next_tick, parse_cron


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "after", "tick"),
    [
        (DEFAULT_CRON, "2026-03-04T12:00", "2026-03-08T01:00"),
        (DEFAULT_CRON, "2026-03-08T01:00", "2026-03-15T01:00"),
        ("*/15 * * * *", "2026-03-04T12:59:30", "2026-03-04T13:00"),
        ("30 2 29 2 *", "2026-01-01T00:00", "2028-02-29T02:30"),
    ],
)
def test_next_tick_is_the_first_after_the_moment(cron: str, after: str, tick: str) -> None:
    assert find_next_tick(cron, moment(after)) == moment(tick)


def test_clock_changes_of_a_country_move_no_tick() -> None:
    ticks = [find_next_tick("30 1 * * *", moment(f"2026-03-{day}T12:00")) for day in (28, 29)]
    assert [tick.hour for tick in ticks] == [1, 1]


@pytest.mark.parametrize("text", ["", "weekly", "@weekly", "61 * * * *", "0 1 * * 0 5", "1 2 3 4"])
def test_what_is_no_cron_of_five_fields_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="five fields"):
        parse_cron(text)


def test_day_that_never_comes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="never comes"):
        find_next_tick("0 0 31 2 *", moment("2026-01-01T00:00"))


def test_plain_crons_are_told_in_words() -> None:
    assert describe_cron(DEFAULT_CRON) == "every Sunday, 01:00 UTC"
    assert describe_cron("5 22 * * *") == "every day, 22:05 UTC"
    assert describe_cron("0 9 1 * *") == "on day 1 of every month, 09:00 UTC"
    assert describe_cron("*/15 * * * *") == "cron */15 * * * * (UTC)"
