"""Rules on the daily counts: approval, negatives, new action types, silence."""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy.orm import Session

from rlhf_core.alerts.chance import (
    MIN_RECENT_BAD,
    RECENT_DAYS,
    chance_above,
    chance_below,
    pick_discoveries,
    score_negatives,
)
from rlhf_core.alerts.counts import days_before, read_daily, read_first_days, read_hours
from rlhf_core.alerts.findings import Finding
from rlhf_core.alerts.params import ApprovalBelow, NegativesSpike, NewActionType, NoFeedback

FALSE_DISCOVERY_RATE = 0.05
"""Of the slices that a split rule tells, at most this share is told by chance."""
APPROVAL_MARGIN = 0.02
"""So far over its level approval is well again: what lies on the level does not come and go."""
HOUR = timedelta(hours=1)

Moments = Sequence[datetime]
Findings = list[list[Finding]]


def watch_approval(db: Session, params: ApprovalBelow, moments: Moments) -> Findings:
    """What the rule says at each moment of the day it lies in and the days before.

    It fires where chance does not explain that approval is under the level, and is well where
    approval is clearly over it: by the margin, or by more than chance explains.
    """
    counts = read_daily(
        db, params.filters(), split=params.split,
        since=days_before(moments[0], params.days), until=moments[-1].date(),
    )  # fmt: skip
    found = []
    for moment in moments:
        end = counts.place(moment.date()) + 1
        window = slice(max(0, end - params.days), end)
        good, bad = (table[:, window].sum(axis=1) for table in (counts.good, counts.bad))
        told = [
            (name, int(up), int(up + down))
            for name, up, down in zip(counts.names, good, bad, strict=True)
            if up + down >= params.min_n
        ]
        chances = [chance_below(up, num, params.level) for _, up, num in told]
        stands = pick_discoveries(chances, FALSE_DISCOVERY_RATE)
        findings = []
        for (name, up, num), chance, stand in zip(told, chances, stands, strict=True):
            share = up / num
            side = "under" if share < params.level else "not under"
            said = f"Approval {share:.1%} of {num:,} in {_days(params.days)}, {side} "
            said += f"{params.level:.0%}"
            is_firing = stand and share < params.level
            is_unsure = not is_firing and not _is_well(up, num, params.level)
            details = {"num_good": up, "num": num, "chance": chance}
            findings.append(Finding(name, is_firing, share, said, details, is_unsure))
        found.append(findings)
    return found


def _is_well(num_good: int, num: int, level: float) -> bool:
    """Whether approval is over the level by the margin, or surely; no level is out of reach."""
    margin = min(APPROVAL_MARGIN, (1 - level) / 2)
    by_chance = chance_below(num - num_good, num, 1 - level)  # so many good, at the level
    is_clear = num_good / num - level > margin - 1e-9  # 0.82 is 0.80 + 0.02
    return is_clear or by_chance <= FALSE_DISCOVERY_RATE


def watch_negatives(db: Session, params: NegativesSpike, moments: Moments) -> Findings:
    """What the chart says at each moment of the last whole day before.

    Of many judgements but too few bad ones for the chart, all is well.
    """
    needed = RECENT_DAYS + params.baseline_days
    last = moments[-1].date() - timedelta(days=1)
    counts = read_daily(
        db, params.filters(), split=params.split,
        since=days_before(moments[0] - timedelta(days=1), needed), until=last,
    )  # fmt: skip
    judged = counts.good + counts.bad
    scores = score_negatives(
        counts.bad.astype(np.float64), judged.astype(np.float64),
        weight=params.weight, baseline_days=params.baseline_days, min_n=params.min_n,
    )  # fmt: skip
    rate = chance_above(params.limit)
    found = []
    for moment in moments:
        place = counts.place(moment.date()) - 1
        recent = slice(max(0, place + 1 - RECENT_DAYS), place + 1)
        told = [row for row in range(len(counts.names)) if np.isfinite(scores[row, place])]
        chances = [chance_above(float(scores[row, place])) for row in told]
        stands = pick_discoveries(chances, rate)
        findings = []
        for row, chance, stand in zip(told, chances, stands, strict=True):
            bad, num = int(counts.bad[row, recent].sum()), int(judged[row, recent].sum())
            score = float(scores[row, place])
            said = (
                f"{bad / num:.1%} of {num:,} judged bad in {_days(RECENT_DAYS)} until "
                f"{moment.date() - timedelta(days=1)}, {score:.1f} sigmas over the weeks before"
            )
            details = {"num_bad": bad, "num": num, "score": score, "chance": chance}
            findings.append(Finding(counts.names[row], stand, bad / num, said, details))
        for row, name in enumerate(counts.names):
            bad, num = int(counts.bad[row, recent].sum()), int(judged[row, recent].sum())
            if row not in told and num >= params.min_n and bad < MIN_RECENT_BAD:
                said = f"{bad:,} of {num:,} judged bad in {_days(RECENT_DAYS)}, too few for a spike"
                details = {"num_bad": bad, "num": num}
                findings.append(Finding(name, False, bad / num, said, details))
        found.append(findings)
    return found


def watch_new_actions(db: Session, params: NewActionType, moments: Moments) -> Findings:
    """Of each action type first seen within the days: how much of its feedback is bad."""
    first_days = read_first_days(db, params.filters())
    start = days_before(moments[0], params.days)
    counts = read_daily(
        db, params.filters(), split="action_type", since=start, until=moments[-1].date()
    )
    eldest = min(first_days.values(), default=None)
    found = []
    for moment in moments:
        since, end = days_before(moment, params.days), counts.place(moment.date()) + 1
        window = slice(max(0, end - params.days), end)
        findings = []
        for row, name in enumerate(counts.names):
            first = first_days.get(name)
            # where all is new, as in the first week of all, nothing is
            is_new = first is not None and first >= since and eldest is not None and eldest < since
            num = int((counts.good[row, window] + counts.bad[row, window]).sum())
            if not is_new or not num:
                continue
            bad = int(counts.bad[row, window].sum())
            said = f"New since {first}, {bad:,} of {num:,} judged bad"
            is_firing = bad >= params.min_bad and bad / num >= params.share
            details = {"num_bad": bad, "num": num}
            findings.append(Finding(name, is_firing, bad / num, said, details))
        found.append(findings)
    return found


def watch_silence(db: Session, params: NoFeedback, moments: Moments) -> Findings:
    """How long nobody left feedback; nothing is said where nobody ever did."""
    hours = read_hours(db, params.filters(), since=moments[0], until=moments[-1])
    found: Findings = []
    for moment in moments:
        place = bisect_right(hours, moment)
        if not place:
            found.append([])
            continue
        silent = max(0.0, (moment - hours[place - 1] - HOUR) / HOUR)
        said = f"No feedback since {hours[place - 1] + HOUR:%Y-%m-%d %H:%M} UTC"
        found.append([Finding("", silent >= params.hours, silent, said)])
    return found


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"
