"""How many sessions get from one event to the next."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import Interval, wilson_interval
from rlhf_core.analytics.filters import EVERYTHING, Filters
from rlhf_core.analytics.rollup_sessions import SEPARATOR
from rlhf_core.errors import InvalidInput
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import SessionPathRollup

PATHS = table_of(SessionPathRollup)
MAX_STAGES = 8
MAX_PATHS = 20_000

Paths = dict[tuple[str, ...], int]
"""How many sessions had these events in this order."""


@dataclass(frozen=True)
class Stage:
    """`num_sessions` got here. `of_first` and `of_previous`: of those that began, were before."""

    name: str
    num_sessions: int
    of_first: Interval | None
    of_previous: Interval | None


def read_paths(db: Session, *, actor: Actor, filters: Filters = EVERYTHING) -> tuple[Paths, int]:
    """What sessions with events did in the period, and how many there are of them in all.

    Of more than `MAX_PATHS` different paths the most frequent. The filters' days and sources apply.
    """
    require(actor, Permission.READ_ANALYTICS)
    where = filters.conditions(PATHS)
    num_sessions = sa.func.sum(PATHS.c.num_sessions)
    rows = db.execute(
        sa.select(PATHS.c.path, num_sessions)
        .where(*where)
        .group_by(PATHS.c.path)
        .order_by(num_sessions.desc(), PATHS.c.path)
        .limit(MAX_PATHS)
    )
    paths = {tuple(path.split(SEPARATOR)): int(num) for path, num in rows}
    return paths, int(db.scalar(sa.select(num_sessions).where(*where)) or 0)


def count_names(paths: Paths) -> list[tuple[str, int]]:
    """In how many sessions each event comes, the most frequent first."""
    counts: Counter[str] = Counter()
    for path, num in paths.items():
        for name in set(path):
            counts[name] += num
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def suggest_stages(paths: Paths, num: int = 3) -> list[str]:
    """The most frequent events, in the order in which they mostly come first."""
    places: Counter[str] = Counter()
    counts = dict(count_names(paths)[:num])
    for path, times in paths.items():
        for name in counts.keys() & set(path):
            places[name] += times * path.index(name)
    return sorted(counts, key=lambda name: (places[name] / counts[name], name))


def build_funnel(paths: Paths, names: Sequence[str]) -> list[Stage]:
    """How many sessions had the first event, then the second after it, and so on.

    Other events may lie between. Raises InvalidInput for fewer than two names or more than eight.
    """
    if not 2 <= len(names) <= MAX_STAGES:
        raise InvalidInput(
            f"A funnel of {len(names)} events: choose 2 to {MAX_STAGES}.", field="names"
        )
    reached = [0] * len(names)
    for path, num in paths.items():
        for stage in range(_count_stages(path, names)):
            reached[stage] += num
    return [
        Stage(
            name=name,
            num_sessions=num,
            of_first=wilson_interval(num, reached[0]),
            of_previous=wilson_interval(num, reached[max(0, stage - 1)]),
        )
        for stage, (name, num) in enumerate(zip(names, reached, strict=True))
    ]


def _count_stages(path: Sequence[str], names: Sequence[str]) -> int:
    stage = 0
    for name in path:
        if stage < len(names) and name == names[stage]:
            stage += 1
    return stage
