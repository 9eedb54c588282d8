"""What became of the rows a version learned from, of its files, and what experts say."""

import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import utcnow
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import DatasetVersionView, freeze_version
from rlhf_core.dataset.standing import Standing, read_standing
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.gates.rules import set_rule
from rlhf_core.gates.vetoes import list_vetoes, set_veto, withdraw_veto
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent, Comparison, Feedback, Interaction
from rlhf_core.vocabulary import Choice, DatasetPurpose, GateKind, GateState, Role
from tests.builders import make_actor
from tests.core.dataset.world import erase, rate, vote, withdraw_consent
from tests.core.gates.world import gate
from tests.core.registry.world import make_version
from tests.databases import only_sqlite
from tests.learning.rated import add_feedback, add_interaction, add_rater

PASS, FAIL, UNKNOWN = GateState.PASS, GateState.FAIL, GateState.NOT_MEASURED


def freeze(
    store: Store, name: str = "ratings", purpose: DatasetPurpose = DatasetPurpose.SCORES
) -> DatasetVersionView:
    with store.reading() as db:
        staged = stage_rows(db, params=DatasetParams(purpose=purpose))
    with store.writing() as db:
        return freeze_version(db, actor=SYSTEM, name=name, staged=staged).version


def standing(db: Session, *versions: DatasetVersionView) -> tuple[int, int, int, int]:
    found: Standing = read_standing(db, [version.id for version in versions])
    return found.num_rows, found.num_opted_out, found.num_erased, found.num_withdrawn


def test_rows_are_counted_by_what_their_people_did_since(store: Store) -> None:
    with store.writing() as db:
        items = [rate(db, 5, prompt=f"Why {n}?", user_pseudonym=f"asker {n}") for n in range(6)]
        early = add_rater(db, "opted out before")
        late = add_rater(db, "opted out since")
        add_feedback(db, items[0], early, rating=1)
        withdraw_consent(db, "opted out before")
        add_feedback(db, items[1], late, rating=5)
    version = freeze(store)
    with store.writing() as db:
        assert standing(db, version) == (6, 0, 0, 0)
        withdraw_consent(db, "opted out since")
        withdraw_consent(db, "asker 2")
        assert standing(db, version) == (6, 2, 0, 0)
        erase(db, "asker 3")
        db.execute(sa.delete(Interaction).where(Interaction.id == items[4]))
        assert standing(db, version) == (6, 2, 2, 0)
        of_five = Feedback.interaction_id == items[5]
        db.execute(sa.update(Feedback).where(of_five).values(withdrawn_at=utcnow()))
        assert standing(db, version) == (6, 2, 2, 1)
        add_feedback(db, items[0], add_rater(db, "new"), rating=1, withdrawn_at=utcnow())
        assert standing(db, version) == (6, 2, 2, 1)  # said after the rows were frozen


def test_pairs_are_counted_by_the_comparison_that_made_them(store: Store) -> None:
    with store.writing() as db:
        votes: list[uuid.UUID] = []
        for number in range(3):
            one, two = (add_interaction(db, f"Why {number}?", text) for text in ("Good.", "Bad."))
            rater = add_rater(db, f"judge {number}")
            votes.append(vote(db, one, two, Choice.LEFT, rater_id=rater))
    pairs = freeze(store, "pairs", DatasetPurpose.PREFERENCES)
    with store.writing() as db:
        withdraw_consent(db, "judge 0")
        erase(db, "judge 1")
        taken_back = sa.update(Comparison).where(Comparison.id == votes[2])
        db.execute(taken_back.values(withdrawn_at=utcnow()))
        assert standing(db, pairs) == (3, 1, 1, 1)


@only_sqlite
def test_opt_out_and_erasure_block_by_way_of_the_reward_model_too(store: Store) -> None:
    with store.writing() as db:
        item = rate(db, 5, prompt="Why?", user_pseudonym="asker")
        rate(db, 1, prompt="When?")
    rows = freeze(store)
    with store.writing() as db:
        reward = make_version(db, dataset_version_id=rows.id)
        policy = make_version(
            db, model_name="assistant", details={"rewards": [{"version_id": str(reward.id)}]}
        )
        unknown = gate(db, make_version(db), GateKind.CONSENT)
        for version in (reward, policy):
            assert gate(db, version, GateKind.CONSENT).state is PASS
            assert gate(db, version, GateKind.ERASED_ROWS).state is PASS
        withdraw_consent(db, "asker")
        db.execute(sa.delete(Feedback).where(Feedback.interaction_id == item))
        for version in (reward, policy):
            consent = gate(db, version, GateKind.CONSENT, for_share=True)
            assert (consent.state, consent.blocks) == (FAIL, True)
            assert "1 of 2 rows learned from (ratings v1)" in consent.sentence
        db.execute(sa.delete(Interaction).where(Interaction.id == item))
        erased = gate(db, policy, GateKind.ERASED_ROWS, for_share=True)
    assert (erased.state, erased.blocks, erased.numbers["erased"]) == (FAIL, True, 1)
    assert (unknown.state, unknown.blocks) == (UNKNOWN, False)


@only_sqlite
def test_licences_are_asked_for_only_where_some_are_named(store: Store) -> None:
    with store.writing() as db:
        rate(db, 5, prompt="Why?", extra={"license": "CC-BY-4.0"})
        rate(db, 1, prompt="When?", extra={"licence": "cc-by-nc-4.0"})
        rate(db, 3, prompt="Where?")
    rows = freeze(store)
    with store.writing() as db:
        version = make_version(db, dataset_version_id=rows.id)
        found = []
        for allowed in ("", "cc-by-4.0", "cc-by-4.0, CC-BY-NC-4.0"):
            set_rule(db, actor=SYSTEM, kind=GateKind.CONSENT, params={"licences": allowed})
            found.append(gate(db, version, GateKind.CONSENT))
    assert [one.state for one in found] == [PASS, FAIL, UNKNOWN]
    assert "cc-by-nc-4.0 (1 rows)" in found[1].sentence
    assert "1 rows name no licence" in found[2].sentence


@only_sqlite
def test_damaged_file_is_named(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        assert gate(db, version, GateKind.INTEGRITY).state is PASS
        (version.folder / "head.json").write_text("weightS")
        broken = gate(db, version, GateKind.INTEGRITY)
    assert broken.state is FAIL
    assert "head.json is not the file" in broken.sentence


@only_sqlite
def test_veto_stands_until_its_expert_or_an_admin_withdraws_it(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        ann, ben = make_actor(db, Role.ANALYST, name="Ann"), make_actor(db, Role.TRAINER)
        admin = make_actor(db, Role.ADMIN)
        with pytest.raises(Forbidden):
            set_veto(db, version.id, actor=make_actor(db), reason="no")
        with pytest.raises(InvalidInput, match="Say why"):
            set_veto(db, version.id, actor=ann, reason=" ")
        with pytest.raises(NotFound):
            set_veto(db, uuid.uuid4(), actor=ann, reason="no")
        veto = set_veto(db, version.id, actor=ann, reason="It invents laws.")
        with pytest.raises(Conflict, match="stands already"):
            set_veto(db, version.id, actor=ann, reason="again")
        second = set_veto(db, version.id, actor=ben, reason="Too curt.")
        said = gate(db, version, GateKind.VETO, for_share=True)
        assert (said.state, said.blocks, said.numbers["vetoes"]) == (FAIL, True, 2)
        assert "Ann: It invents laws." in said.sentence
        with pytest.raises(Forbidden, match="Only who gave"):
            withdraw_veto(db, veto.id, actor=ben, reason="wrong")
        withdraw_veto(db, second.id, actor=admin, reason="a mistake")
        withdraw_veto(db, veto.id, actor=ann, reason="mended")
        with pytest.raises(Conflict, match="withdrawn already"):
            withdraw_veto(db, veto.id, actor=ann, reason="mended")
        assert gate(db, version, GateKind.VETO).state is PASS
        assert len(list_vetoes(db, version.id, actor=ann)) == 2
        set_veto(db, version.id, actor=ann, reason="once more")
        actions = db.scalars(sa.select(AuditEvent.action)).all()
    assert [actions.count(f"model.{what}") for what in ("veto", "withdraw_veto")] == [3, 2]
