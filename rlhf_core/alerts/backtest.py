"""What a rule would have told in the past, before anybody saves it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.alerts.findings import Finding, is_over
from rlhf_core.alerts.params import Params, kind_of
from rlhf_core.alerts.watch import DAY, replay_step, watch
from rlhf_core.clock import utcnow

REPLAYED_DAYS = 90


@dataclass(frozen=True)
class Firing:
    """From the first to the last moment in a row at which the rule fired on a slice.

    `ended_at` is the first moment at which all was well again, None where it still fires.
    """

    slice_key: str
    opened_at: datetime
    ended_at: datetime | None
    said: str


@dataclass(frozen=True)
class Replay:
    """What a rule would have told. `now` are the slices that it can say something of today.

    `num_told`: at how many of the `num_moments` it could say anything at all.
    """

    since: datetime
    num_moments: int
    num_told: int
    firings: tuple[Firing, ...]
    now: tuple[Finding, ...]


def replay_rule(
    db: Session,
    *,
    actor: Actor,
    params: Params,
    days: int = REPLAYED_DAYS,
    now: datetime | None = None,
) -> Replay:
    """Let the rule look at the end of each of the last days, and at now.

    The counts are those of today: what was withdrawn since does not count. Agreement looks every
    four weeks, drift once a week, a rule that waits for silence each hour.
    """
    require(actor, Permission.READ_ANALYTICS)
    now = now or utcnow()
    moments = _list_moments(params, days, now)
    found = watch(db, params, moments)
    firings: list[Firing] = []
    running: dict[str, Finding] = {}
    begun: dict[str, datetime] = {}
    for moment, findings in zip(moments, found, strict=True):
        firing = {one.slice_key: one for one in findings if one.is_firing}
        found_of = {one.slice_key: one for one in findings}
        for key in [key for key in running if is_over(kind_of(params), found_of.get(key))]:
            firings.append(Firing(key, begun.pop(key), moment, running.pop(key).said))
        for key, one in firing.items():
            if key not in running:
                running[key], begun[key] = one, moment
    firings += [Firing(key, begun[key], None, one.said) for key, one in running.items()]
    firings.sort(key=lambda one: (one.opened_at, one.slice_key))
    num_told = sum(1 for findings in found if findings)
    return Replay(moments[0], len(moments), num_told, tuple(firings), tuple(found[-1]))


def _list_moments(params: Params, days: int, now: datetime) -> Sequence[datetime]:
    """The ends of steps before `now`, and `now`; a day's end is its last microsecond."""
    step = replay_step(params)
    unit = min(step, DAY)
    midnight = now.replace(minute=0, second=0, microsecond=0)
    if unit == DAY:
        midnight = midnight.replace(hour=0)
    last = midnight - timedelta(microseconds=1)
    count = int(timedelta(days=days) / step)
    return [*(last - step * back for back in reversed(range(count))), now]
