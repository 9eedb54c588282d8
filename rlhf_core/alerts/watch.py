"""One way to look at all kinds of rules: at one moment, or at many of the past."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import assert_never

from sqlalchemy.orm import Session

from rlhf_core.alerts.params import (
    AgreementBelow,
    ApprovalBelow,
    CanaryDue,
    Drift,
    NegativesSpike,
    NewActionType,
    NoFeedback,
    Params,
    RunFailed,
)
from rlhf_core.alerts.watch_counts import (
    Findings,
    watch_approval,
    watch_negatives,
    watch_new_actions,
    watch_silence,
)
from rlhf_core.alerts.watch_judges import watch_agreement, watch_drift
from rlhf_core.alerts.watch_work import watch_canaries, watch_runs

EACH_ROUND = timedelta(seconds=50)
"""Workers come by each minute, not to the second."""
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def watch(db: Session, params: Params, moments: Sequence[datetime]) -> Findings:
    """What a rule says at each of these moments, which are in order and at least one.

    A slice that nothing can be said of, for want of data, has no finding: see `is_over`.
    """
    match params:
        case ApprovalBelow():
            return watch_approval(db, params, moments)
        case NegativesSpike():
            return watch_negatives(db, params, moments)
        case NewActionType():
            return watch_new_actions(db, params, moments)
        case NoFeedback():
            return watch_silence(db, params, moments)
        case AgreementBelow():
            return watch_agreement(db, params, moments)
        case Drift():
            return watch_drift(db, params, moments)
        case RunFailed():
            return watch_runs(db, params, moments)
        case CanaryDue():
            return watch_canaries(db, params, moments)
        case _:
            assert_never(params)


def check_interval(params: Params) -> timedelta:
    """How often a rule is looked at: what reads rows and not counts, more seldom."""
    return HOUR if isinstance(params, AgreementBelow | Drift) else EACH_ROUND


def replay_step(params: Params) -> timedelta:
    """How far apart the moments of a replay lie. Agreement reads all judgements at each."""
    if isinstance(params, AgreementBelow):
        return 28 * DAY
    if isinstance(params, Drift):
        return 7 * DAY
    return HOUR if isinstance(params, NoFeedback) else DAY
