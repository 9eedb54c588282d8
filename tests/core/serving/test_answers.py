import sqlalchemy as sa

from rlhf_core.analytics.rollups import refresh_rollups
from rlhf_core.clock import new_id, utcnow
from rlhf_core.feedback.drafts import InteractionDraft
from rlhf_core.serving.answers import Served, begin_answer, finish_answer
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import RollupDirtyDay
from tests.builders import make_actor, make_feedback
from tests.databases import only_sqlite


@only_sqlite
def test_an_answer_rated_before_its_end_is_counted_again(store: Store) -> None:
    served = Served(version_id=new_id(), latency_ms=5)
    with store.writing() as db:
        drafts = [InteractionDraft(prompt=text, completion="Bec") for text in ("Why?", "Who?")]
        answers = [begin_answer(db, draft, version_id=served.version_id) for draft in drafts]
        make_feedback(db, answers[0], actor=make_actor(db), thumb=-1)
        refresh_rollups(db)
        finish_answer(db, answers[1], "Because.", served, is_whole=True)
        assert db.scalars(sa.select(RollupDirtyDay.day)).all() == []
        finish_answer(db, answers[0], "Because.", served, is_whole=True)
        assert db.scalars(sa.select(RollupDirtyDay.day)).all() == [utcnow().date()]
