"""The figures that matter at a glance, of counts that can be added up."""

from dataclasses import dataclass

from rlhf_core.agreement import Interval
from rlhf_core.agreement.shares import wilson_interval


@dataclass(frozen=True)
class KeyFigures:
    """Counts of interactions and of the feedback on their completions, and what follows from them.

    Repeats and withdrawn feedback do not count. `num_user_` is feedback of end users. Interactions
    are not told apart by who rated them: a filter by kind of rater leaves `coverage` as it is.
    """

    num_interactions: int = 0
    num_with_feedback: int = 0
    num_feedback: int = 0
    num_good: int = 0
    num_bad: int = 0
    num_ratings: int = 0
    sum_ratings: int = 0
    num_user_good: int = 0
    num_user_neutral: int = 0
    num_user_bad: int = 0
    num_raters: int = 0
    """SMEs who gave feedback. Not the sum over days or slices."""

    @property
    def approval(self) -> float | None:
        """The share of good among good and bad; None where there is neither."""
        return _share(self.num_good, self.num_good + self.num_bad)

    @property
    def approval_interval(self) -> Interval | None:
        """The same with Wilson's interval, as if each row were drawn alone."""
        return wilson_interval(self.num_good, self.num_good + self.num_bad)

    @property
    def mean_rating(self) -> float | None:
        """1 to 5; None where nobody gave a rating."""
        return _share(self.sum_ratings, self.num_ratings)

    @property
    def coverage(self) -> float | None:
        """The share of interactions that have feedback."""
        return _share(self.num_with_feedback, self.num_interactions)

    @property
    def satisfaction(self) -> float | None:
        """The mean of end users' feedback: good is 1, neutral 0.5, bad 0."""
        num = self.num_user_good + self.num_user_neutral + self.num_user_bad
        return _share(self.num_user_good + self.num_user_neutral / 2, num)


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
