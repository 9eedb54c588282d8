"""Counts of feedback on completions as the daily counts keep them, summed up over rows of those."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rlhf_core.agreement import Interval
from rlhf_core.agreement.shares import wilson_interval
from rlhf_core.store.tables.rollups import VerdictCounts

VERDICT_COUNTS = tuple(VerdictCounts.__annotations__)
RATINGS = range(1, 6)
THUMBS = {"up": 1, "neutral": 0, "down": -1}


@dataclass(frozen=True)
class FeedbackCounts:
    """Feedback that counts. `ratings` and `thumbs`: how often each value came."""

    num_feedback: int
    num_good: int
    num_neutral: int
    num_bad: int
    ratings: dict[int, int]
    thumbs: dict[int, int]

    @property
    def approval(self) -> Interval | None:
        """The share of good among good and bad, with Wilson's 95 % interval; None of neither.

        The interval takes each row as drawn alone: where few prompts have many ratings each, it is
        too narrow.
        """
        return wilson_interval(self.num_good, self.num_good + self.num_bad)

    @property
    def num_ratings(self) -> int:
        """How many gave a rating."""
        return sum(self.ratings.values())

    @property
    def mean_rating(self) -> float | None:
        """1 to 5; None where nobody gave a rating."""
        return mean_of(self.ratings)


def add_up(counts: Iterable[FeedbackCounts]) -> FeedbackCounts:
    """All of them together."""
    each = list(counts)
    return FeedbackCounts(
        num_feedback=sum(one.num_feedback for one in each),
        num_good=sum(one.num_good for one in each),
        num_neutral=sum(one.num_neutral for one in each),
        num_bad=sum(one.num_bad for one in each),
        ratings={value: sum(one.ratings[value] for one in each) for value in RATINGS},
        thumbs={value: sum(one.thumbs[value] for one in each) for value in THUMBS.values()},
    )


def mean_of(ratings: dict[int, int]) -> float | None:
    """The mean of ratings that came so often; None where there are none."""
    num = sum(ratings.values())
    return sum(value * times for value, times in ratings.items()) / num if num else None


def sums(table: sa.Table) -> list[Any]:
    """The columns of a SELECT that sums up rows of verdict counts."""
    return [sa.func.sum(table.c[name]).label(name) for name in VERDICT_COUNTS]


def read_counts(row: Any) -> dict[str, Any]:
    """The fields of `FeedbackCounts`, of a row that has `sums`."""
    return {
        "num_feedback": int(row.num_feedback),
        "num_good": int(row.num_good),
        "num_neutral": int(row.num_neutral),
        "num_bad": int(row.num_bad),
        "ratings": read_ratings_of(row),
        "thumbs": {
            value: int(getattr(row, f"num_thumbs_{name}")) for name, value in THUMBS.items()
        },
    }


def read_ratings_of(row: Any) -> dict[int, int]:
    """How often each rating came, of a row with columns `num_rating_1` to `_5`."""
    return {value: int(getattr(row, f"num_rating_{value}")) for value in RATINGS}
