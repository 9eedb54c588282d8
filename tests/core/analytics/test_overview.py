import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.overview import ActionSummary, summarize_by_action_type
from rlhf_core.errors import Forbidden
from rlhf_core.feedback.service import withdraw_feedback
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role
from tests.builders import make_actor, make_feedback, make_interaction


def test_thumbs_on_completions_are_counted_by_action_type(store: Store) -> None:
    with store.writing() as db:
        raters = [make_actor(db) for _ in range(3)]
        search = make_interaction(db, action_type="search", steps=1)
        for rater, thumb in zip(raters, (1, 1, -1), strict=True):
            make_feedback(db, search.id, actor=rater, thumb=thumb)
        make_feedback(db, search.id, thumb=0)
        make_feedback(db, search.id, thumb=-1, step=0)  # of a step: not of the completion
        rated = make_interaction(db)
        make_feedback(db, rated.id, rating=5)  # a rating is no thumb
        gone = make_interaction(db, action_type="none left")
        withdraw_feedback(db, make_feedback(db, gone.id, thumb=1).id, actor=SYSTEM)
        make_interaction(db, action_type="never rated")
        assert summarize_by_action_type(db, actor=SYSTEM) == [
            ActionSummary("search", 4, 2, 1, 66.7),
            ActionSummary("", 1, 0, 0, None),
        ]


def test_rater_may_not_read_it(store: Store) -> None:
    with store.writing() as db:
        with pytest.raises(Forbidden):
            summarize_by_action_type(db, actor=make_actor(db))
        assert summarize_by_action_type(db, actor=make_actor(db, Role.ANALYST)) == []
