"""An answer that is being written, or broke off, is neither judged nor learnt from."""

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.feedback.assignment import next_to_rate
from rlhf_core.feedback.comparison_tasks import next_to_compare
from rlhf_core.queues.filters import QueueFilter
from rlhf_core.queues.selection import select_items, select_pairs
from rlhf_core.serving.answers import PARTIAL
from rlhf_core.store.engine import Store
from rlhf_core.store.queries.answers import is_whole
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import CHAT_SOURCE, DatasetPurpose
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.dataset.world import build, params_of


@pytest.mark.parametrize(
    ("extra", "expected"), [(None, True), ({"page": 1}, True), ({}, True), (PARTIAL, False)]
)
def test_only_what_says_so_is_partial(
    store: Store, extra: dict[str, object] | None, expected: bool
) -> None:
    with store.writing() as db:
        make_interaction(db, source=CHAT_SOURCE, extra=extra)
        assert db.scalar(sa.select(is_whole()).select_from(Interaction)) is expected


def test_a_partial_answer_is_not_given_out(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        make_interaction(db, prompt="Why?", completion="Bec", source=CHAT_SOURCE, extra=PARTIAL)
        make_interaction(db, prompt="Why?", completion="Because.")
        item = next_to_rate(db, actor=rater)
        assert item is not None
        assert item.completion == "Because."
        make_feedback(db, item.id, actor=rater)
        assert next_to_rate(db, actor=rater) is None
        assert next_to_compare(db, actor=rater) is None
        chosen = select_items(db, actor=SYSTEM, where=QueueFilter(), limit=9)
        assert [one.interaction_id for one in chosen] == [item.id]
        assert select_pairs(db, actor=SYSTEM, where=QueueFilter(), limit=9) == []


def test_a_partial_answer_gives_no_row_of_a_dataset_and_is_counted(store: Store) -> None:
    with store.writing() as db:
        cut = make_interaction(db, source=CHAT_SOURCE, extra=PARTIAL).id
        whole = make_interaction(db).id
        for one in (cut, whole):
            make_feedback(db, one, rating=5)
    rows, left_out = build(store, params_of(DatasetPurpose.SCORES))
    assert len(rows) == 1
    assert left_out == {"answer broken off, or still being written": 1}
