"""A group of failures of these answers, as a search would keep it."""

import uuid

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.agreement import Interval
from rlhf_core.analytics.failure_clusters import create_clustering, list_clusterings
from rlhf_core.analytics.failure_search import Found, FoundGroup, SearchParams
from rlhf_core.vocabulary import AlikeBy


def keep_group(
    db: Session,
    members: list[uuid.UUID],
    words: tuple[str, ...] = ("refund", "money"),
    alike_by: AlikeBy = AlikeBy.COMPLETION,
) -> uuid.UUID:
    group = FoundGroup(
        members=tuple((one, 0.1 * number) for number, one in enumerate(members)),
        words=words,
        approval=Interval(0.1, 0.02, 0.3),
        rest=Interval(0.8, 0.75, 0.85),
        difference=Interval(-0.7, -0.8, -0.5),
        is_worse=True,
        num_held_out=12,
        stability=0.9,
        alike_by=alike_by,
    )
    found = Found((group,), num_items=len(members) + 4, num_outliers=4, stability=0.9)
    create_clustering(db, found, actor=SYSTEM, params=SearchParams(), job_id=None)
    return list_clusterings(db, actor=SYSTEM)[0].clusters[0].id
