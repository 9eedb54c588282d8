"""What agreement and raters' figures mean, in a sentence. No Streamlit here."""

import statistics
from collections.abc import Sequence

from rlhf_core.agreement import AgreementSummary, Interval
from rlhf_core.analytics.agreement import AspectAgreement, Question
from rlhf_core.analytics.position_bias import PositionBias
from rlhf_core.analytics.raters import RaterFigures

GOOD_ALPHA = 0.8  # Krippendorff: draw conclusions; between the two: tentative ones
FAIR_ALPHA = 0.667
WEAK_ALPHA = 0.4
FEW_THINGS = 30
RARE_GAP = 0.3  # AC1 above alpha by so much: nearly all answers are the same
LOW_SHARE = 0.8
QUICK_SHARE = 0.5
LENIENT_POINTS = 0.5
MIN_SHARED = 20

QUESTION_NAMES = {
    Question.RATING: "Rating 1 to 5",
    Question.THUMB: "Thumb",
    Question.STEP_LABEL: "Label of a step",
    Question.CHOICE: "Comparison: which answer",
    Question.PREFERRED_MODEL: "Comparison: which model",
}


def name_aspect(aspect: AspectAgreement) -> str:
    """The question in words; of an aspect its name, which is text of others."""
    return QUESTION_NAMES.get(aspect.question, aspect.name.capitalize())


def percent(share: Interval | None) -> str:
    """`87 % (81 to 92)`."""
    if share is None:
        return "none"
    return f"{share.value:.0%} ({100 * share.low:.0f} to {100 * share.high:.0f})".replace("%", " %")


def explain_agreement(found: AgreementSummary) -> str:
    """What the figures say of how the answers may be used."""
    if found.raw is None:
        return "Nothing was judged by two raters."
    few = f" Only {found.num_units:,} items: take it as a hint." * (found.num_units < FEW_THINGS)
    if found.alpha is None:
        return "All answers are the same: there is nothing to disagree on." + few
    alpha, ac1 = found.alpha, found.ac1
    if ac1 is not None and found.raw.value >= LOW_SHARE and ac1.value - alpha.value > RARE_GAP:
        return (
            "Nearly all answers are the same, which pulls alpha down whatever the raters do: "
            "here AC1 says more." + few
        )
    if alpha.value >= GOOD_ALPHA:
        return "Raters agree well: the answer of one of them can be relied on." + few
    if alpha.value >= FAIR_ALPHA:
        return "Raters agree fairly: good enough to learn from, not to settle a single item." + few
    if alpha.value >= WEAK_ALPHA:
        return "Raters agree in part: have items rated twice or more, and merge the answers." + few
    if alpha.low > 0:
        return (
            "Raters agree little, if more than by chance: say in the instructions what makes a "
            "good answer, with examples." + few
        )
    return "No more agreement than chance would give: the question is read differently." + few


def explain_bias(found: PositionBias) -> str:
    """Whether raters prefer a side."""
    share, decided = found.left, found.num_left + found.num_right
    if share is None:
        return "No comparison was decided yet."
    said = f"The left answer won {percent(share)} of {decided:,} decided comparisons: "
    if found.is_biased:
        side = "left" if share.value > 0.5 else "right"
        return said + f"raters prefer the {side} side, more than chance explains."
    return said + "no preference for a side is seen."


def find_remarks(raters: Sequence[RaterFigures]) -> list[tuple[str, list[str]]]:
    """(name, what is unusual) of the raters who stand out beyond chance, the worst first."""
    usual = _median([r.with_others.value for r in raters if _is_known(r) and r.with_others])
    time = _median([r.median_s for r in raters if r.median_s is not None])
    found = []
    for rater in raters:
        remarks = []
        others = rater.with_others
        is_known = _is_known(rater)
        if is_known and others and usual and round(others.high, 2) < round(usual, 2):
            said = f"agrees with the others in {percent(others)}"
            remarks.append(f"{said}, most raters do in {100 * usual:.0f} %")
        if rater.gold is not None and rater.gold.high < LOW_SHARE:
            remarks.append(f"right on {percent(rater.gold)} of the known answers")
        if rater.with_self is not None and rater.with_self.high < LOW_SHARE:
            remarks.append(f"says the same of an item shown again in {percent(rater.with_self)}")
        if remarks and time and rater.median_s is not None and rater.median_s < QUICK_SHARE * time:
            remarks.append(f"takes {rater.median_s:.0f} s an item, others {time:.0f} s")
        points = rater.points_above
        if points is not None and is_known and abs(points) >= LENIENT_POINTS:
            way = "above" if points > 0 else "below"
            remarks.append(f"rates {abs(points):.1f} points {way} the others")
        if remarks:
            found.append((rater.name, remarks))
    return sorted(found, key=lambda one: -len(one[1]))


def _is_known(rater: RaterFigures) -> bool:
    return rater.num_shared >= MIN_SHARED


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if len(values) > 1 else None
