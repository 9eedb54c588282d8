"""What a new user finds first: the fault of the demo world, in the search that the page starts."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.failure_clusters import list_clusterings
from rlhf_core.analytics.failure_search import JudgedAnswer, SearchParams, read_bad
from rlhf_core.analytics.filters import Filters
from rlhf_core.demo.gold import read_prompt
from rlhf_core.demo.service import load_demo
from rlhf_core.jobs.cluster_failures import enqueue_clustering
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import FailureClusterMember as Member
from rlhf_core.vocabulary import AlikeBy
from tests.core.jobs.trained import run
from tests.databases import only_sqlite

END = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)
MONTH = Filters(since=END.date() - timedelta(days=29), until=END.date())


def overlooks_zone(answer: JudgedAnswer) -> bool:
    asked = read_prompt(answer.prompt)
    return asked is not None and bool(asked.zone) and f"{asked.zone} time" not in answer.completion


@only_sqlite
@pytest.mark.slow
@pytest.mark.parametrize("filters", [MONTH, Filters()], ids=["month", "all"])
def test_the_recurring_fault_of_the_demo_world_is_one_group(store: Store, filters: Filters) -> None:
    """With the real encoder: of all that requests share, it alone is worse beyond chance."""
    params = SearchParams(filters, alike_by=AlikeBy.BOTH)
    with store.writing() as db:
        load_demo(db, actor=SYSTEM, ends_at=END)
        fault = {one.interaction_id for one in read_bad(db, params) if overlooks_zone(one)}
        job = enqueue_clustering(db, actor=SYSTEM, params=params)
    run(store, job)
    with store.reading() as db:
        (search,) = list_clusterings(db, actor=SYSTEM)
        worse = [one for one in search.clusters if one.is_worse]
        (group,) = [one for one in worse if one.alike_by is AlikeBy.PROMPT]
        of_group = sa.select(Member.interaction_id).where(Member.cluster_id == group.id)
        members = set(db.scalars(of_group))
    assert len(fault) >= 15
    assert len(members & fault) >= 0.8 * len(fault)
    assert len(members - fault) <= 0.2 * len(members)
    assert "time" in group.words[:4]
    assert len(worse) > 1  # the others are of what answers say: rude ones, boasts
