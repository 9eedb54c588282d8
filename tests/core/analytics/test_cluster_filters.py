"""A group of failures as a filter of queues, of datasets and of rows."""

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.rows import RowChoice, list_rows
from rlhf_core.clock import new_id
from rlhf_core.dataset.builder import build_rows
from rlhf_core.dataset.params import DatasetParams, parse_params
from rlhf_core.dataset.params import Filters as DatasetFilters
from rlhf_core.queues.filters import QueueFilter, count_matching
from rlhf_core.queues.selection import select_items
from rlhf_core.store.engine import Store
from tests.builders import make_feedback, make_interaction
from tests.core.analytics.kept_groups import keep_group
from tests.databases import only_sqlite


def test_a_queue_a_dataset_and_rows_hold_the_group_and_nothing_else(store: Store) -> None:
    with store.writing() as db:
        items = [make_interaction(db).id for _ in range(5)]
        for item in items:
            make_feedback(db, item, rating=1)
        cluster_id = keep_group(db, items[:3])
        where = QueueFilter(cluster_id=cluster_id)
        assert count_matching(db, where, actor=SYSTEM) == 3
        chosen = select_items(db, actor=SYSTEM, where=where, limit=10)
        assert {one.interaction_id for one in chosen} == set(items[:3])
        assert where.to_json()["cluster_id"] == str(cluster_id)
        rows = list_rows(
            db, actor=SYSTEM, filters=Filters(), choice=RowChoice(cluster_id=cluster_id)
        )
        assert rows.num_all == 3
        assert {row.interaction_id for row in rows.rows} == set(items[:3])
        params = DatasetParams(filters=DatasetFilters(cluster_id=cluster_id))
        built = build_rows(db, params=params)
        assert {row.interaction_id for row in built.rows} == {str(item) for item in items[:3]}
        assert built.left_out == {"not in the group of failures": 2}


@only_sqlite
def test_a_group_that_is_gone_matches_nothing(store: Store) -> None:
    with store.writing() as db:
        make_feedback(db, make_interaction(db).id, rating=1)
        assert count_matching(db, QueueFilter(cluster_id=new_id()), actor=SYSTEM) == 0


def test_the_group_is_written_with_the_parameters_of_a_dataset() -> None:
    params = DatasetParams(filters=DatasetFilters(cluster_id=new_id()))
    assert isinstance(params.to_json()["filters"]["cluster_id"], str)
    assert parse_params(params.to_json()) == params
    assert parse_params(DatasetParams().to_json()) == DatasetParams()
