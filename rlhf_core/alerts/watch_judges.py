"""Rules on judgements themselves: raters who disagree, a reward that no longer tells good from bad.

They read rows, not counts: they are looked at once an hour, and replayed a day a week.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.agreement.intervals import Interval
from rlhf_core.alerts.chance import Floats, pick_discoveries
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
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_good
from rlhf_core.store.tables import Interaction, InteractionReward

MAX_JUDGED = 50_000
"""Judged interactions that drift is told from; of more, the newest."""
_COEFFICIENT_NAMES = {"ac1": "AC1", "alpha": "Alpha", "raw": "Raw agreement"}
_HALF_WIDTH = NormalDist().inv_cdf(0.975)


def watch_agreement(db: Session, params: AgreementBelow, moments: Sequence[datetime]) -> Findings:
    """How far raters agree on each question, of the interactions of the last days.

    It fires on the questions that chance does not explain, all questions together.
    """
    found = []
    for moment in moments:
        scope = Scope(since=moment - timedelta(days=params.days), until=moment)
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
                    f"{num:,} things of {params.days} days, under {params.level:.2f}",
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
    judged = _read_judged(db, version.id, moments[0] - reach, moments[-1])
    found: Findings = []
    for moment in moments:
        middle = moment - timedelta(days=params.days)
        recent = judged.measure(middle, moment, params.min_n)
        before = judged.measure(moment - reach, middle, params.min_n)
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


@dataclass(frozen=True)
class Judged:
    """Feedback on scored completions, by time: its moment (seconds), its reward, good or bad."""

    at: Floats
    reward: Floats
    is_good: np.ndarray[Any, np.dtype[np.bool_]]

    def measure(self, since: datetime, until: datetime, min_n: int) -> tuple[Interval, int] | None:
        """The AUC within a period and of how many; None of too few, in all or a side."""
        which = (self.at >= since.timestamp()) & (self.at < until.timestamp())
        rewards, is_good = self.reward[which], self.is_good[which]
        auc = compute_auc(rewards[is_good], rewards[~is_good])
        return None if auc is None or len(rewards) < min_n else (auc, len(rewards))


def _read_judged(db: Session, version_id: Any, since: datetime, until: datetime) -> Judged:
    good, scored = is_good(FEEDBACK), table_of(InteractionReward)
    columns = FEEDBACK.c
    rows = db.execute(
        sa.select(columns.occurred_at, scored.c.reward, good.label("good"))
        .join(scored, scored.c.interaction_id == columns.interaction_id)
        .join(Interaction, Interaction.id == columns.interaction_id)
        .where(
            *EVERYTHING.conditions(Interaction),  # without demo data beside other
            scored.c.model_version_id == version_id,
            columns.occurred_at >= since,
            columns.occurred_at <= until,
            columns.step_id.is_(None),
            columns.withdrawn_at.is_(None),
            columns.occasion == 0,
            sa.or_(good, is_bad(FEEDBACK)),
        )
        .order_by(columns.occurred_at.desc())
        .limit(MAX_JUDGED)
    ).all()
    return Judged(
        np.array([row[0].timestamp() for row in rows], dtype=np.float64),
        np.array([row[1] for row in rows], dtype=np.float64),
        np.array([bool(row[2]) for row in rows], dtype=np.bool_),
    )
