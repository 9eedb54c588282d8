"""What two frozen versions have in common."""

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.dataset.differences import compare_frozen, find_changed
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.store.engine import Store
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.jobs.test_evaluate import freeze
from tests.databases import only_sqlite


@only_sqlite
def test_rows_of_both_of_one_only_and_with_other_ratings_are_counted(store: Store) -> None:
    with store.writing() as db:
        ids = [make_interaction(db, prompt=f"Question {n}?").id for n in range(6)]
        rater = make_actor(db)
        for interaction in ids[:4]:
            make_feedback(db, interaction, actor=rater, rating=5)
    first = freeze(store, "ratings", DatasetParams())
    with store.writing() as db:
        make_feedback(db, ids[0], actor=make_actor(db), rating=1)
        for interaction in ids[4:]:
            make_feedback(db, interaction, actor=rater, rating=2)
    second = freeze(store, "ratings", DatasetParams(threshold=3.5))
    with store.reading() as db:
        found = compare_frozen(db, actor=SYSTEM, first_id=first.id, second_id=second.id)
        same = compare_frozen(db, actor=SYSTEM, first_id=first.id, second_id=first.id)
    assert (found.first.name, found.second.name) == ("ratings v1", "ratings v2")
    assert (found.num_equal, found.num_relabelled) == (3, 1)
    assert (found.num_only_first, found.num_only_second) == (0, 2)
    assert (found.num_prompts_both, found.num_prompts_only_second) == (4, 2)
    assert (same.num_equal, same.num_only_first, same.params) == (4, 0, {})


def test_settings_that_differ_are_named_by_their_path() -> None:
    first = {"a": 1, "filters": {"source": "app", "since": None}}
    second = {"a": 1, "filters": {"source": "web"}, "more": [1]}
    assert find_changed(first, second) == {"filters.source": ("app", "web"), "more": (None, [1])}
