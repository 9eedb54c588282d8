from rlhf_core.feedback.views import list_recent_feedback
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role
from tests.builders import make_actor, make_feedback, make_interaction


def test_rater_lists_only_what_they_said_themselves_and_an_analyst_what_all_say(
    store: Store,
) -> None:
    with store.writing() as db:
        rater, other = make_actor(db), make_actor(db)
        analyst = make_actor(db, Role.ANALYST)
        item = make_interaction(db)
        assert list_recent_feedback(db, actor=rater) == []  # nor that of nobody
        make_feedback(db, item.id, actor=rater, rating=2)
        make_feedback(db, item.id, actor=other, rating=5)
        assert [view.rating for view in list_recent_feedback(db, actor=rater)] == [2]
        assert sorted(view.rating for view in list_recent_feedback(db, actor=analyst)) == [2, 5]
