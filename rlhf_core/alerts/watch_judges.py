"""Rules on judgements themselves: raters who disagree, a reward that no longer tells good from bad.

They read rows, not counts: they are looked at once an hour, and replayed a day a week.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import NormalDist

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.agreement.intervals import Interval
from rlhf_core.alerts.chance import pick_discoveries
from rlhf_core.alerts.findings import Finding
from rlhf_core.alerts.params import AgreementBelow, Drift
from rlhf_core.alerts.watch_counts import FALSE_DISCOVERY_RATE, Findings
from rlhf_core.analytics.agreement import Question, compute_agreement
from rlhf_core.analytics.differences import subtract_shares
from rlhf_core.analytics.filters import EVERYTHING
from rlhf_core.analytics.reward_drift import compute_auc
from rlhf_core.analytics.scope import Scope
from rlhf_core.registry.service import find_production
from rlhf_core.store.base import table_of
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_counted, is_good
from rlhf_core.store.tables import Interaction, InteractionReward

MAX_JUDGED = 10_000
"""Pieces of feedback that a window of drift is told from; of more, the newest."""
_COEFFICIENT_NAMES = {"ac1": "AC1", "alpha": "Alpha", "raw": "Raw agreement"}
_HALF_WIDTH = NormalDist().inv_cdf(0.975)


def watch_agreement(db: Session, params: AgreementBelow, moments: Sequence[datetime]) -> Findings:
    """How far raters agree on each question, by what they said in the last days.

    It fires on the questions that chance does not explain, all questions together.
    """
    found = []
    for moment in moments:
        since = moment - timedelta(days=params.days)
        scope = Scope(since=since, until=moment, is_usual=True)
        told: list[tuple[str, Interval, int]] = []
        for one in compute_agreement(db, actor=SYSTEM, scope=scope):
            interval: Interval | None = getattr(one.agreement, params.coefficient)
            if interval is not None and one.agreement.num_units >= params.min_n:
                name = f"aspect {one.name}" if one.question is Question.ASPECT else one.name
                told.append((name, interval, one.agreement.num_units))
        chances = [_chance_under(interval, params.level) for _, interval, _ in told]
        stands = pick_discoveries(chances, FALSE_DISCOVERY_RATE)
        found.append(
            [
                Finding(
                    name,
                    is_firing=stand,
                    value=interval.value,
                    said=f"{_COEFFICIENT_NAMES[params.coefficient]} of {name} is "
                    f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f}) on "
                    f"{num:,} things of {params.days} days, "
                    f"{'under' if interval.value < params.level else 'not under'} "
                    f"{params.level:.2f}",
                    details={"num": num, "low": interval.low, "high": interval.high},
                )
                for (name, interval, num), stand in zip(told, stands, strict=True)
            ]
        )
    return found


def _chance_under(interval: Interval, level: float) -> float:
    """How often chance alone would put the value so far under the level."""
    spread = (interval.high - interval.low) / (2 * _HALF_WIDTH)
    if spread <= 0:
        return 0.0 if interval.value < level else 1.0
    return NormalDist().cdf((interval.value - level) / spread)


def watch_drift(db: Session, params: Drift, moments: Sequence[datetime]) -> Findings:
    """The AUC of the production model's rewards on what was judged lately, and before.

    It fires where the fall is larger than asked for and its 95 % interval lies above 0.
    """
    version = find_production(db)
    if version is None:
        return [[] for _ in moments]
    reach = timedelta(days=params.days + params.baseline_days)
    found: Findings = []
    for moment in moments:
        middle = moment - timedelta(days=params.days)
        recent = _measure(db, version.id, middle, moment, params.min_n)
        before = _measure(db, version.id, moment - reach, middle, params.min_n)
        if recent is None or before is None:
            found.append([])
            continue
        fall = subtract_shares(before[0], recent[0])
        said = (
            f"{version.name}: AUC {recent[0].value:.2f} on {recent[1]:,} judged in {params.days} "
            f"days, {before[0].value:.2f} on {before[1]:,} before"
        )
        details = {"before": before[0].value, "num": recent[1], "fall_low": fall.low}
        is_firing = fall.value > params.drop and fall.low > 0
        found.append([Finding("", is_firing, recent[0].value, said, details)])
    return found


def _measure(
    db: Session, version_id: uuid.UUID, since: datetime, until: datetime, min_n: int
) -> tuple[Interval, int] | None:
    """The AUC within a period and of how many; None of too few, in all or on a side."""
    good, scored = is_good(FEEDBACK), table_of(InteractionReward)
    columns = FEEDBACK.c
    rows = db.execute(
        sa.select(scored.c.reward, good.label("good"))
        .select_from(FEEDBACK)
        .join(scored, scored.c.interaction_id == columns.interaction_id)
        .join(Interaction, Interaction.id == columns.interaction_id)
        .where(
            *EVERYTHING.conditions(Interaction),  # without demo data beside other
            scored.c.model_version_id == version_id,
            columns.occurred_at >= since,
            columns.occurred_at < until,
            columns.step_id.is_(None),
            is_counted(FEEDBACK),
            sa.or_(good, is_bad(FEEDBACK)),
        )
        .order_by(columns.occurred_at.desc())
        .limit(MAX_JUDGED)
    ).all()
    liked = [row.reward for row in rows if row.good]
    auc = compute_auc(liked, [row.reward for row in rows if not row.good])
    return None if auc is None or len(rows) < min_n else (auc, len(rows))
