"""Groups of failures as they are kept: what the last searches found, and the answers in a group."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import Interval
from rlhf_core.analytics.failure_search import Found, FoundGroup, SearchParams, parse_search
from rlhf_core.analytics.rollup_days import day_of
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import NotFound
from rlhf_core.store.base import table_of
from rlhf_core.store.bulk import in_slices
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_counted
from rlhf_core.store.tables import (
    FailureCluster,
    FailureClustering,
    FailureClusterMember,
    Interaction,
)
from rlhf_core.vocabulary import AlikeBy

KEPT = 20
"""Searches; older ones go. A queue or a dataset that was made from a group stays as it is."""

_MEMBER = table_of(FailureClusterMember)


@dataclass(frozen=True)
class ClusterView:
    """A group. `size` counts the bad answers in it that still exist.

    `approval` (0..1) is that of `num_held_out` answers, good and bad, that did not choose the
    group; `rest` that of the others that did not, `difference` the first less the second; None
    where there are no such answers. `is_worse`: less approved than the rest beyond chance, with
    regard to how many groups there are. `stability` 0..1: how much of it other samples find again.
    `alike_by`: whether its prompts or its completions share a sentence.
    """

    id: uuid.UUID
    number: int
    size: int
    words: tuple[str, ...]
    approval: Interval | None
    rest: Interval | None
    difference: Interval | None
    is_worse: bool
    num_held_out: int
    stability: float | None
    alike_by: AlikeBy


@dataclass(frozen=True)
class ClusteringView:
    """A search and the groups that it found, the largest first."""

    id: uuid.UUID
    created_at: datetime
    params: SearchParams
    num_items: int
    num_outliers: int
    stability: float | None
    clusters: tuple[ClusterView, ...]


@dataclass(frozen=True)
class ClusterExample:
    """An answer in a group; the nearest to its centre are the most typical ones."""

    interaction_id: uuid.UUID
    prompt: str
    completion: str
    distance: float


def create_clustering(
    db: Session, found: Found, *, actor: Actor, params: SearchParams, job_id: uuid.UUID | None
) -> uuid.UUID:
    """Keep what a search found, and forget searches beyond the newest `KEPT`.

    Answers that were erased meanwhile are left out.
    """
    require(actor, Permission.RUN_JOBS)
    clustering_id = new_id()
    db.execute(
        sa.insert(FailureClustering),
        {
            "id": clustering_id, "job_id": job_id, "params": params.to_json(),
            "num_items": found.num_items, "num_outliers": found.num_outliers,
            "stability": found.stability, "created_at": utcnow(),
        },
    )  # fmt: skip
    for number, group in enumerate(found.groups):
        cluster_id = new_id()
        db.execute(
            sa.insert(FailureCluster),
            {
                "id": cluster_id, "clustering_id": clustering_id, "number": number,
                "size": len(group.members), "words": list(group.words), "figures": _figures(group),
            },
        )  # fmt: skip
        for part in in_slices(group.members):
            ids = [one for one, _ in part]
            there = set(db.scalars(sa.select(Interaction.id).where(Interaction.id.in_(ids))))
            rows = [
                {"cluster_id": cluster_id, "interaction_id": one, "distance": distance}
                for one, distance in part
                if one in there
            ]
            if rows:
                db.execute(sa.insert(_MEMBER), rows)
    newest = (
        sa.select(FailureClustering.id)
        .order_by(FailureClustering.created_at.desc(), FailureClustering.id.desc())
        .limit(KEPT)
    )
    db.execute(
        sa.delete(FailureClustering).where(FailureClustering.id.not_in(list(db.scalars(newest))))
    )
    return clustering_id


def list_clusterings(db: Session, *, actor: Actor, limit: int = KEPT) -> list[ClusteringView]:
    """The searches that are kept, the newest first, each with its groups."""
    require(actor, Permission.READ_ANALYTICS)
    newest = sa.select(FailureClustering).order_by(
        FailureClustering.created_at.desc(), FailureClustering.id.desc()
    )
    searches = db.scalars(newest.limit(limit)).all()
    clusters: dict[uuid.UUID, list[ClusterView]] = {search.id: [] for search in searches}
    for row, size in db.execute(
        sa.select(FailureCluster, _sizes())
        .where(FailureCluster.clustering_id.in_(clusters))
        .order_by(FailureCluster.number)
    ):
        clusters[row.clustering_id].append(_view(row, size))
    return [
        ClusteringView(
            id=search.id,
            created_at=search.created_at,
            params=parse_search(search.params),
            num_items=search.num_items,
            num_outliers=search.num_outliers,
            stability=search.stability,
            clusters=tuple(clusters[search.id]),
        )
        for search in searches
    ]


def get_cluster(db: Session, cluster_id: uuid.UUID, *, actor: Actor) -> ClusterView:
    """The group.

    Raises:
        NotFound: there is none (any more).
    """
    require(actor, Permission.READ_INTERACTIONS)
    row = db.execute(
        sa.select(FailureCluster, _sizes()).where(FailureCluster.id == cluster_id)
    ).one_or_none()
    if row is None:
        raise NotFound(
            f"There is no group of failures {cluster_id} (any more): search again, and choose one."
        )
    return _view(row[0], row[1])


def list_examples(
    db: Session, cluster_id: uuid.UUID, *, actor: Actor, limit: int = 5
) -> list[ClusterExample]:
    """The most typical answers of a group; of equal ones one."""
    require(actor, Permission.READ_ANALYTICS)
    require(actor, Permission.READ_INTERACTIONS)
    rows = db.execute(
        sa.select(Interaction.id, Interaction.prompt, Interaction.completion, _MEMBER.c.distance)
        .join(_MEMBER, _MEMBER.c.interaction_id == Interaction.id)
        .where(_MEMBER.c.cluster_id == cluster_id)
        .order_by(_MEMBER.c.distance, Interaction.id)
        .limit(4 * limit)
    )
    once: dict[tuple[str, str], ClusterExample] = {}
    for row in rows:
        once.setdefault((row.prompt, row.completion), ClusterExample(*row))
    return list(once.values())[:limit]


def count_bad_days(db: Session, cluster_id: uuid.UUID, *, actor: Actor) -> list[tuple[date, int]]:
    """How often the answers of a group were called bad on each day that has any."""
    require(actor, Permission.READ_ANALYTICS)
    day = day_of(db, FEEDBACK.c.occurred_at)
    rows = db.execute(
        sa.select(day, sa.func.count())
        .select_from(FEEDBACK)
        .join(_MEMBER, _MEMBER.c.interaction_id == FEEDBACK.c.interaction_id)
        .where(
            _MEMBER.c.cluster_id == cluster_id,
            FEEDBACK.c.step_id.is_(None),
            is_counted(FEEDBACK),
            is_bad(FEEDBACK),
        )
        .group_by(day)
        .order_by(day)
    )
    return [(day, num) for day, num in rows]


def _sizes() -> Any:
    """How many answers of the group there still are."""
    return (
        sa.select(sa.func.count())
        .where(_MEMBER.c.cluster_id == FailureCluster.id)
        .correlate(FailureCluster)
        .scalar_subquery()
    )


def _figures(group: FoundGroup) -> dict[str, Any]:
    intervals = {name: getattr(group, name) for name in ("approval", "rest", "difference")}
    return {
        "num_held_out": group.num_held_out,
        "is_worse": group.is_worse,
        "stability": group.stability,
        "alike_by": group.alike_by,
        **{name: value and asdict(value) for name, value in intervals.items()},
    }


def _view(row: FailureCluster, size: int) -> ClusterView:
    figures: Mapping[str, Any] = row.figures
    return ClusterView(
        id=row.id,
        number=row.number,
        size=size,
        words=tuple(row.words),
        approval=_interval(figures["approval"]),
        rest=_interval(figures["rest"]),
        difference=_interval(figures["difference"]),
        is_worse=figures["is_worse"],
        num_held_out=figures["num_held_out"],
        stability=figures["stability"],
        alike_by=AlikeBy(figures.get("alike_by", AlikeBy.COMPLETION)),  # older ones are of one kind
    )


def _interval(plain: Mapping[str, float] | None) -> Interval | None:
    return None if plain is None else Interval(**plain)
