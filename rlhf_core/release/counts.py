"""What the arms of a deployment did, counted in the database.

A step of the share is told by the propensity that each answer was logged with, not by the clock:
serving follows a changed share a moment later, and a share that comes again is the same draw.
"""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.release.sums import ArmSums, Overlap
from rlhf_core.store.base import UtcDateTime, table_of
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_counted, is_good
from rlhf_core.store.tables import Rater, ServedLogEntry
from rlhf_core.vocabulary import CHAT_SOURCE, Arm, RaterKind

SERVED = table_of(ServedLogEntry)
RATER = table_of(Rater)

_TOLD = (SERVED.c.interaction_id, SERVED.c.is_error, SERVED.c.served_at)
Cell = tuple[int, Arm]
"""The place of a share among the steps, and a side."""
_MILLION = 1_000_000  # shares are told apart in millionths: 1 - 0.95 is no 0.05 in a float


@dataclass(frozen=True)
class Stratum:
    """Both arms while the treatment had this share (0..1), first at `since`."""

    share: float
    since: datetime
    control: ArmSums
    treatment: ArmSums


def read_strata(
    db: Session, deployment_id: uuid.UUID
) -> tuple[tuple[Stratum, ...], tuple[Overlap, ...]]:
    """The sums of each step of the share, the first one first, and who left feedback in two."""
    answers = user_keys(
        SERVED.c.deployment_id == deployment_id,
        SERVED.c.arm,
        _share_in_millionths().label("share"),
        *_TOLD,
    )
    found: dict[int, dict[Arm, ArmSums]] = {}
    since: dict[int, datetime] = {}
    for (arm, share), first_at, sums in _read_cells(db, answers):
        arms = found.setdefault(share, {Arm.CONTROL: ArmSums(), Arm.TREATMENT: ArmSums()})
        arms[arm] = sums
        since[share] = min(first_at, since.get(share, first_at))
    shares = sorted(found, key=since.__getitem__)
    strata = tuple(
        Stratum(
            share / _MILLION, since[share], found[share][Arm.CONTROL], found[share][Arm.TREATMENT]
        )
        for share in shares
    )
    return strata, _read_overlaps(db, answers, shares) if len(shares) > 1 else ()


def read_sums(db: Session, version_ids: Sequence[uuid.UUID], *, since: datetime) -> ArmSums:
    """What answers of these versions to users' requests got since then, whatever the arm."""
    own = sa.and_(SERVED.c.model_version_id.in_(version_ids), SERVED.c.served_at >= since)
    one_cell = (sa.literal(Arm.CONTROL.value).label("arm"), sa.literal(0).label("share"))
    answers = user_keys(own, *one_cell, *_TOLD)
    return next((sums for _, _, sums in _read_cells(db, answers)), ArmSums())


def _share_in_millionths() -> Any:
    is_treatment = SERVED.c.arm == Arm.TREATMENT.value
    share = sa.case((is_treatment, SERVED.c.propensity), else_=1 - SERVED.c.propensity)
    return sa.cast(sa.func.round(share * _MILLION), sa.Integer)


def user_keys(condition: Any, *columns: Any) -> sa.CTE:
    """The columns of routed requests that fit, with (user_key, is_known) of who asked.

    As in the draw: who asks is the user, else the conversation, whose pseudonym the row holds then.
    What was drawn at random, request by request, is a user of its own, whatever conversation it is
    stored with: that one is in both arms.
    """
    known = SERVED.c.user_pseudonym
    return (
        sa.select(
            *columns,
            sa.func.coalesce(known, sa.cast(SERVED.c.id, sa.String)).label("user_key"),
            known.is_not(None).label("is_known"),
        )
        .where(condition, SERVED.c.arm.is_not(None), SERVED.c.propensity.is_not(None))
        .cte("answers")
        # Else PostgreSQL goes through the index by deployment once for each row of feedback, while
        # its statistics do not know yet how much one that began just now was asked.
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )


def _ratings(answers: sa.CTE) -> sa.CTE:
    """(arm, share, user_key, is_known, num, num_good): each user's feedback in each cell.

    Good or bad, on the answer as a whole, by those who asked. The conditions stand in the counts
    and not in a WHERE: PostgreSQL takes each of them for rare while the table was never analysed,
    and would go through all answers once for each row of feedback.
    """
    keys = (answers.c.arm, answers.c.share, answers.c.user_key, answers.c.is_known)
    is_judged = sa.and_(is_feedback_of_people(), is_by_who_asked(answers))
    num_good, num_bad = (
        sa.func.count().filter(is_judged, says(FEEDBACK)) for says in (is_good, is_bad)
    )
    return (
        sa.select(*keys, (num_good + num_bad).label("num"), num_good.label("num_good"))
        .select_from(with_feedback(answers))
        .group_by(*keys)
        .having(num_good + num_bad > 0)
        .cte("ratings")
    )


def with_feedback(answers: Any) -> Any:
    """The answers (`user_keys`) with each row of feedback on them, and its rater."""
    rated = answers.join(FEEDBACK, FEEDBACK.c.interaction_id == answers.c.interaction_id)
    return rated.join(RATER, RATER.c.id == FEEDBACK.c.rater_id)


def is_feedback_of_people() -> sa.ColumnElement[bool]:
    """The row, joined with its rater, is a person's on a whole answer, and no repeat."""
    return sa.and_(
        is_counted(FEEDBACK),
        FEEDBACK.c.step_id.is_(None),
        RATER.c.rater_kind != RaterKind.MODEL,
    )


def is_by_who_asked(answers: Any) -> sa.ColumnElement[bool]:
    """The row, joined with its rater and one of `user_keys`, is judged: users rate their answers.

    An expert who goes through the answers of many users is one person and not many, so their
    ratings are not judged. In the chat page everybody rates what they asked themselves.
    """
    return sa.or_(
        RATER.c.rater_kind == RaterKind.END_USER,
        RATER.c.pseudonym == answers.c.user_key,
        sa.and_(FEEDBACK.c.source == CHAT_SOURCE, RATER.c.account_id.is_not(None)),
    )


def _read_cells(db: Session, answers: sa.CTE) -> list[tuple[tuple[Arm, int], datetime, ArmSums]]:
    """((arm, share), first request, sums) of each cell with requests."""
    errors = sa.func.count().filter(answers.c.is_error)
    users = (
        sa.select(
            answers.c.arm,
            answers.c.share,
            sa.func.count().label("num"),
            errors.label("num_errors"),
            sa.func.min(answers.c.served_at, type_=UtcDateTime()).label("first_at"),
        )
        .group_by(answers.c.arm, answers.c.share, answers.c.user_key)
        .subquery()
    )
    requests = sa.select(
        users.c.arm,
        users.c.share,
        sa.func.min(users.c.first_at, type_=UtcDateTime()).label("first_at"),
        sa.func.sum(users.c.num).label("num_requests"),
        sa.func.sum(users.c.num_errors).label("num_errors"),
        sa.func.count().label("num_users"),
        sa.func.count().filter(users.c.num_errors > 0).label("num_failed_users"),
    ).group_by(users.c.arm, users.c.share)
    said = _ratings(answers)
    n, y = said.c.num, said.c.num_good
    sums = (("num_feedback", n), ("num_good", y), ("nn", n * n), ("yy", y * y), ("ny", n * y))
    ratings = sa.select(
        said.c.arm,
        said.c.share,
        sa.func.count().label("num_raters"),
        *(sa.func.sum(value).label(name) for name, value in sums),
    ).group_by(said.c.arm, said.c.share)
    told = {(row.arm, row.share): row for row in db.execute(ratings)}
    return [
        ((Arm(row.arm), row.share), row.first_at, _sums(row, told.get((row.arm, row.share))))
        for row in db.execute(requests)
    ]


def _sums(requests: Any, ratings: Any) -> ArmSums:
    sums = ArmSums(
        num_requests=int(requests.num_requests),
        num_errors=int(requests.num_errors),
        num_users=requests.num_users,
        num_failed_users=requests.num_failed_users,
    )
    if ratings is None:
        return sums
    return replace(
        sums,
        num_raters=ratings.num_raters,
        num_feedback=int(ratings.num_feedback),
        num_good=int(ratings.num_good),
        sum_nn=float(ratings.nn),
        sum_yy=float(ratings.yy),
        sum_ny=float(ratings.ny),
    )


def _read_overlaps(db: Session, answers: sa.CTE, shares: Sequence[int]) -> tuple[Overlap, ...]:
    """Of each two cells, the products of what their common users said.

    Joined here and not in the database, which would compare all with all while its statistics of a
    table that grows are old.
    """
    said = _ratings(answers)
    num_cells = sa.func.count().over(partition_by=said.c.user_key).label("num_cells")
    cells = sa.select(said, num_cells).where(said.c.is_known).subquery()
    place = {share: number for number, share in enumerate(shares)}
    users: defaultdict[str, list[tuple[Cell, int, int]]] = defaultdict(list)
    for row in db.execute(sa.select(cells).where(cells.c.num_cells > 1)):
        users[row.user_key].append(((place[row.share], Arm(row.arm)), row.num, row.num_good))
    sums: defaultdict[tuple[Cell, Cell], list[float]] = defaultdict(lambda: [0.0] * 4)
    for told in users.values():
        for (one, n, y), (other, m, z) in combinations(sorted(told), 2):
            found = sums[one, other]
            for number, product in enumerate((n * m, y * z, n * z, y * m)):
                found[number] += product
    return tuple(Overlap(*pair, *products) for pair, products in sums.items())
