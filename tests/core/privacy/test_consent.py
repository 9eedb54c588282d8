import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.reasons import Reason
from rlhf_core.dataset.said import read_said
from rlhf_core.errors import Forbidden, InvalidInput
from rlhf_core.privacy.consent import is_opted_out, opt_in, opt_out
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent, Consent, Feedback
from tests.builders import make_actor, make_feedback, make_interaction
from tests.databases import only_sqlite


def test_opt_out_stands_until_it_is_taken_back(store: Store) -> None:
    with store.writing() as db:
        assert not is_opted_out(db, user="kim")
        assert not opt_in(db, actor=SYSTEM, user="kim")  # there was nothing to take back
        assert opt_out(db, actor=SYSTEM, user="kim")
        assert not opt_out(db, actor=SYSTEM, user="kim")
        assert is_opted_out(db, user="kim")
        assert not is_opted_out(db, user="lee")
        assert opt_in(db, actor=SYSTEM, user="kim")
        assert not is_opted_out(db, user="kim")


def test_feedback_of_an_opted_out_end_user_is_refused_and_nothing_is_stored(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, user="kim").id
        opt_out(db, actor=SYSTEM, user="kim")
        for said in (
            {"rater_kind": "end_user"},
            {"rater_kind": "end_user", "rater": "kim"},
            {"rater": "kim"},  # said to be an expert's
        ):
            with pytest.raises(Forbidden, match="opted out of giving feedback"):
                make_feedback(db, item, thumb=1, **said)
        make_feedback(db, item, actor=make_actor(db), thumb=-1)  # an expert may still speak of it
        make_feedback(db, item, thumb=1, rater="lee", rater_kind="end_user")
        assert sorted(db.scalars(sa.select(Feedback.thumb))) == [-1, 1]


def test_opted_out_user_edits_nothing_and_trains_nothing(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, user="kim").id
        make_feedback(db, item, thumb=1, rater_kind="end_user")
        opt_out(db, actor=SYSTEM, user="kim")
        with pytest.raises(Forbidden):
            make_feedback(db, item, thumb=-1, rater_kind="end_user")
        (said,) = read_said(db, DatasetParams())
    assert (said.thumb, said.refusal, said.unheard) == (1, Reason.CONSENT, Reason.CONSENT)


@only_sqlite
def test_only_a_pseudonym_is_kept_and_the_deed_is_in_the_audit(store: Store) -> None:
    with store.writing() as db:
        with pytest.raises(Forbidden):
            opt_out(db, actor=make_actor(db), user="kim@example.org")
        with pytest.raises(InvalidInput):
            opt_out(db, actor=SYSTEM, user="  ")
        opt_out(db, actor=SYSTEM, user="kim@example.org")
        (event,) = db.scalars(sa.select(AuditEvent).where(AuditEvent.target_kind == "person"))
        pseudonyms = set(db.scalars(sa.select(Consent.pseudonym)))
    assert event.action == "consent.withdrawn"
    assert len(pseudonyms) == 1
    assert "kim" not in f"{event.target_id}{event.details}{pseudonyms}"
