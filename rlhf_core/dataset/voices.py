"""Who is heard in the rows of a dataset, and how far they agree."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID


@dataclass
class Voices:
    """The raters behind the rows. Complete after the last row.

    `units` counts, for each set of answers that two or more raters gave to one thing (values in
    order, one a rater), how many things got it: `agreement.count_patterns(voices.units)` makes them
    units for alpha and AC1. Values: scores 1 to 5; verdicts and step labels 0 and 1; votes -1
    (one side), 0 (tie), 1 (the other side).
    """

    raters: set[UUID] = field(default_factory=set)
    units: Counter[tuple[float, ...]] = field(default_factory=Counter)

    @property
    def num_raters(self) -> int:
        """How many people are heard."""
        return len(self.raters)

    def hear(self, answers: Mapping[UUID, float], *, also: Iterable[UUID] = ()) -> None:
        """A row stands on these answers by rater; `also` are raters who said something else."""
        self.raters.update(answers, also)
        if len(answers) > 1:
            self.units[tuple(sorted(answers.values()))] += 1
