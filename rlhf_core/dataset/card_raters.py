"""Who stands behind the rows of a version: raters, how far they agree, consent, and when."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.dataset.said import CONSENT_PURPOSE
from rlhf_core.store.tables import Consent, Feedback, Interaction, Rater
from rlhf_core.vocabulary import ConsentState

if TYPE_CHECKING:
    from rlhf_core.dataset.voices import Voices

T = TypeVar("T")

IDS_A_QUERY = 1_000
MIN_RATINGS = 10
UNUSUAL_POINTS = 1.0
SHOWN_RATERS = 10


def describe_raters(
    db: Session,
    *,
    voices: "Voices",
    interaction_ids: Sequence[bytes],
    threshold: float | None,
    is_one_scale: bool,
) -> dict[str, Any]:
    """The parts `raters`, `agreement`, `consent` and `period` of a card.

    `interaction_ids` as 16 bytes each, every one once. `threshold` where the answers are scores:
    how far the raters agree on good or bad is the ceiling of a model that learns it. Without
    `is_one_scale` (pairs of comparisons and of ratings) only raw agreement means something.
    """
    kinds: Counter[str] = Counter()
    states: Counter[str] = Counter()
    names: dict[UUID, str] = {}
    for part in _chunks(sorted(voices.raters)):
        for rater in db.execute(
            sa.select(Rater.id, Rater.pseudonym, Rater.rater_kind).where(Rater.id.in_(part))
        ):
            kinds[rater.rater_kind.value] += 1
            names[rater.id] = rater.pseudonym
    for pseudonyms in _chunks(sorted(names.values())):
        states.update(_find_consents(db, pseudonyms).values())
    return {
        "raters": {
            "num_raters": len(voices.raters),
            "by_kind": dict(sorted(kinds.items())),
            **_describe_ratings(db, names, interaction_ids),
        },
        "agreement": _describe_agreement(voices, threshold, is_one_scale),
        "consent": {
            "purpose": CONSENT_PURPOSE,
            "num_granted": states[ConsentState.GRANTED.value],
            "num_not_asked": len(voices.raters) - sum(states.values()),
        },
        "period": _find_period(db, interaction_ids),
    }


def _describe_ratings(
    db: Session, names: dict[UUID, str], interaction_ids: Sequence[bytes]
) -> dict[str, Any]:
    """How the ratings spread over the raters, and whose mean is far from all others'."""
    counts: Counter[UUID] = Counter()
    sums: Counter[UUID] = Counter()
    for part in _chunks(interaction_ids):
        query = (
            sa.select(Feedback.rater_id, sa.func.count(), sa.func.sum(Feedback.rating))
            .where(
                Feedback.interaction_id.in_(_ids(part)),
                Feedback.step_id.is_(None),
                Feedback.rating.is_not(None),
                Feedback.withdrawn_at.is_(None),
            )
            .group_by(Feedback.rater_id)
        )
        for rater_id, count, total in db.execute(query):
            if rater_id in names:
                counts[rater_id] += count
                sums[rater_id] += int(total or 0)
    whole, total_sum = sum(counts.values()), sum(sums.values())
    unusual: list[dict[str, Any]] = []
    for rater_id, count in counts.items():
        if count >= MIN_RATINGS and whole > count:
            mean = sums[rater_id] / count
            others = (total_sum - sums[rater_id]) / (whole - count)
            if abs(mean - others) >= UNUSUAL_POINTS:
                rater = {"rater": names[rater_id], "num_ratings": count}
                unusual.append(rater | {"mean": round(mean, 4), "mean_of_others": round(others, 4)})
    unusual.sort(key=lambda rater: (-abs(rater["mean"] - rater["mean_of_others"]), rater["rater"]))
    busiest = max(counts.values(), default=0)
    return {
        "busiest_share": round(busiest / whole, 4) if whole else None,
        "num_unusual": len(unusual),
        "unusual": unusual[:SHOWN_RATERS],
    }


def _describe_agreement(
    voices: "Voices", threshold: float | None, is_one_scale: bool
) -> dict[str, Any]:
    """Chance-corrected (Krippendorff's alpha, Gwet's AC1) and raw; None where none can be given."""
    from rlhf_core import agreement

    num_items = sum(voices.units.values())
    found: dict[str, Any] = {"num_items": num_items, "alpha": None, "ac1": None, "raw": None}
    if not num_items:
        return found
    units = agreement.count_patterns(voices.units)
    if is_one_scale:
        found["alpha"] = _finite(agreement.krippendorff_alpha(units, level="interval"))
        found["ac1"] = _finite(agreement.gwet_ac1(units))
    found["raw"] = _finite(agreement.raw_agreement(units))
    if threshold is not None:
        verdicts: Counter[tuple[float, ...]] = Counter()
        for answers, count in voices.units.items():
            verdicts[tuple(sorted(float(answer >= threshold) for answer in answers))] += count
        found["good_or_bad"] = _finite(agreement.raw_agreement(agreement.count_patterns(verdicts)))
    return found


def _find_consents(db: Session, pseudonyms: Sequence[str]) -> dict[str, str]:
    """The newest word of each on training."""
    rows = db.execute(
        sa.select(Consent.pseudonym, Consent.state)
        .where(Consent.purpose == CONSENT_PURPOSE, Consent.pseudonym.in_(pseudonyms))
        .order_by(Consent.recorded_at, Consent.id)
    )
    return {pseudonym: state.value for pseudonym, state in rows}


def _find_period(db: Session, interaction_ids: Sequence[bytes]) -> dict[str, str | None]:
    """When the completions were given: first and last day."""
    moments = []
    for part in _chunks(interaction_ids):
        query = sa.select(
            sa.func.min(Interaction.occurred_at), sa.func.max(Interaction.occurred_at)
        ).where(Interaction.id.in_(_ids(part)))
        moments += [moment for moment in db.execute(query).one() if moment is not None]
    return {
        "first": min(moments).date().isoformat() if moments else None,
        "last": max(moments).date().isoformat() if moments else None,
    }


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + IDS_A_QUERY] for at in range(0, len(items), IDS_A_QUERY))


def _ids(raw: Sequence[bytes]) -> list[UUID]:
    return [UUID(bytes=bytes(one)) for one in raw]


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 4)
