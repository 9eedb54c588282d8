"""Why something that people said gives no row, and how often."""

from collections import Counter
from enum import StrEnum


class Reason(StrEnum):
    """Why a candidate for a row gives none; the first that applies counts."""

    OTHER_SOURCE = "another source"
    OTHER_ACTION = "another action type"
    OTHER_MODEL = "another model"
    OTHER_PERIOD = "outside the period"
    OTHER_CLUSTER = "not in the group of failures"
    PARTIAL = "answer broken off, or still being written"
    DEMO = "demo data"
    CONSENT = "consent to training withdrawn"
    ERASED = "person erased"
    EXCLUDED = "excluded by an adjudicator"
    WITHDRAWN = "feedback withdrawn"
    OTHER_RATERS = "another kind of rater"
    NEUTRAL = "neutral thumbs only"
    NO_SCORE = "neither rating nor thumb"
    NO_LABEL = "no step called right or wrong"
    EMPTY = "empty completion"
    FEW_RATERS = "fewer raters than asked for"
    DISPUTE = "raters disagree, nobody decided"
    SPLIT = "raters evenly split"
    BELOW = "below the threshold"
    CORRECTED = "replaced by a correction"
    UNCHANGED = "correction changes nothing"
    OTHER_PROMPT = "answers to different prompts"
    BOTH_BAD = "both answers bad"
    TIE = "tie"
    SAME = "both answers are the same"
    SINGLE = "only one rated answer to the prompt"
    TOO_MANY = "more pairs than one prompt may give"
    REPEATED = "the same prompt again"


class Tally:
    """Counts by reason; `left_out` is one dictionary, filled in place."""

    def __init__(self) -> None:
        self.left_out: dict[str, int] = {}
        self._counts: Counter[str] = Counter()

    def count(self, reason: str, number: int = 1) -> None:
        """So many more were left out for this reason."""
        if number:
            self._counts[reason] += number

    def close(self) -> None:
        """Show the counts, in the order of the reasons."""
        self.left_out.update({r.value: self._counts[r] for r in Reason if self._counts[r]})
