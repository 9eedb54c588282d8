"""Freezing: equal rows are one version, whoever freezes them, however often and at once."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import get_settings
from rlhf_core.dataset import service
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import FrozenVersion, freeze_version, load_rows
from rlhf_core.dataset.splits import SplitParams
from rlhf_core.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotEnoughData,
    NotFound,
    Unavailable,
)
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import (
    AuditEvent,
    Consent,
    DatasetMember,
    Interaction,
    Rater,
)
from rlhf_core.vocabulary import Choice, DatasetPurpose, Role, Split
from tests.core.dataset.world import erase, vote, withdraw_consent
from tests.learning.rated import (
    add_feedback,
    add_interaction,
    add_rated,
    add_rater,
    make_rows,
)


@pytest.fixture
def rated(store: Store) -> Store:
    with store.writing() as db:
        add_rated(db, make_rows(60))
    return store


def freeze(store: Store, name: str = "ratings", split: SplitParams | None = None) -> FrozenVersion:
    with store.reading() as db:
        staged = stage_rows(db, params=DatasetParams(), split=split)
    with store.writing() as db:
        return freeze_version(db, actor=SYSTEM, name=name, staged=staged)


def rows_file(frozen: FrozenVersion) -> Path:
    return get_settings().artifact_dir / frozen.version.artifact_path / "rows.jsonl"


def test_frozen_rows_come_back_as_they_were(rated: Store) -> None:
    frozen = freeze(rated)
    rows = load_rows(frozen.version)
    assert frozen.was_created
    assert frozen.version.name == "ratings v1"
    assert (frozen.version.num_rows, frozen.version.num_groups) == (60, 15)
    assert sorted(row.completion for row in rows) == sorted(row.completion for row in make_rows(60))
    with rated.reading() as db:
        members = db.execute(
            sa.select(
                DatasetMember.row_number, DatasetMember.interaction_id, DatasetMember.split
            ).order_by(DatasetMember.row_number)
        ).all()
        audit = db.scalars(sa.select(AuditEvent.action)).all()
    assert [str(member.interaction_id) for member in members] == [r.interaction_id for r in rows]
    assert {member.split for member in members} == {Split.TRAIN}
    assert audit == ["dataset.freeze"]


def test_same_rows_are_the_same_version(rated: Store) -> None:
    first, second = freeze(rated), freeze(rated)
    assert not second.was_created
    assert second.version == first.version
    with rated.writing() as db:
        add_rated(db, make_rows(2, seed=9))
    third = freeze(rated)
    assert third.was_created
    assert third.version.number == 2
    assert third.version.content_hash != first.version.content_hash


def test_frozen_rows_stay_when_the_feedback_changes(rated: Store) -> None:
    frozen = freeze(rated)
    before = load_rows(frozen.version)
    with rated.writing() as db:
        db.execute(sa.update(Interaction).values(completion="changed"))
    assert load_rows(frozen.version) == before


def test_eight_at_once_make_one_version(rated: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        frozen = list(pool.map(lambda _: freeze(rated), range(8)))
    assert sum(one.was_created for one in frozen) == 1
    assert {one.version.id for one in frozen} == {frozen[0].version.id}
    with rated.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(DatasetMember)) == 60
    assert not list((get_settings().artifact_dir / "datasets").glob(".*"))


def test_lines_are_canonical_json_named_by_their_hash(rated: Store) -> None:
    frozen = freeze(rated)
    lines = rows_file(frozen).read_text().splitlines()
    for line in lines:
        record = json.loads(line)
        assert line == json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert rows_file(frozen).parent.name == frozen.version.content_hash


def test_changed_or_missing_file_is_refused(rated: Store) -> None:
    frozen = freeze(rated)
    path = rows_file(frozen)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="not the file that was frozen"):
        load_rows(frozen.version)
    with pytest.raises(InvalidInput, match="not the file that was frozen"):
        freeze(rated, name="again")
    path.unlink()
    with pytest.raises(Unavailable, match="Cannot read"):
        load_rows(frozen.version)


def test_kept_prompts_are_not_among_the_training_rows(rated: Store) -> None:
    version = freeze(rated, split=SplitParams(test_percent=30, seed=1)).version
    train, test = load_rows(version), load_rows(version, split=Split.TEST)
    assert len(train) + len(test) == 60
    assert test
    assert not {row.group for row in train} & {row.group for row in test}
    assert version.card["parts"] == {"train": len(train), "test": len(test)}
    assert load_rows(version, split=None) == sorted(train + test, key=lambda r: r.interaction_id)


def test_interaction_deleted_while_staging_is_a_conflict_and_leaves_nothing(rated: Store) -> None:
    with rated.reading() as db:
        staged = stage_rows(db, params=DatasetParams())
    with rated.writing() as db:
        db.execute(sa.delete(Interaction))
    with pytest.raises(Conflict, match="freeze them again"), rated.writing() as db:
        freeze_version(db, actor=SYSTEM, name="ratings", staged=staged)
    with rated.reading() as db:
        assert service.list_versions(db, actor=SYSTEM) == []


def test_name_of_another_purpose_is_refused(rated: Store) -> None:
    freeze(rated)
    with rated.reading() as db:
        staged = stage_rows(db, params=DatasetParams(purpose=DatasetPurpose.PROMPTS))
    refused = pytest.raises(InvalidInput, match="holds scores, these rows are prompts")
    with refused, rated.writing() as db:
        freeze_version(db, actor=SYSTEM, name="ratings", staged=staged)


def test_no_rows_make_no_version(store: Store) -> None:
    with pytest.raises(NotEnoughData, match="0 usable rows"):
        freeze(store)
    with store.reading() as db:
        assert service.list_versions(db, actor=SYSTEM) == []


@pytest.mark.parametrize("event", ["consent", "erasure"])
def test_person_who_leaves_while_rows_are_read_is_in_no_version(rated: Store, event: str) -> None:
    with rated.reading() as db:
        staged = stage_rows(db, params=DatasetParams())
        pseudonym = db.scalar(sa.select(Rater.pseudonym))
    with rated.writing() as db:
        (withdraw_consent if event == "consent" else erase)(db, str(pseudonym))
    refused = pytest.raises(Conflict, match="withdrew their consent or was erased")
    with refused, rated.writing() as db:
        freeze_version(db, actor=SYSTEM, name="ratings", staged=staged)


def test_withdrawal_recorded_with_an_earlier_day_is_noticed_too(rated: Store) -> None:
    with rated.reading() as db:
        staged = stage_rows(db, params=DatasetParams())
        pseudonym = str(db.scalar(sa.select(Rater.pseudonym)))
    with rated.writing() as db:
        withdraw_consent(db, pseudonym)
        db.execute(sa.update(Consent).values(recorded_at=staged.read_at - timedelta(days=1)))
    refused = pytest.raises(Conflict, match="withdrew their consent or was erased")
    with refused, rated.writing() as db:
        freeze_version(db, actor=SYSTEM, name="ratings", staged=staged)


def test_members_tie_a_pair_to_both_its_completions_and_its_comparison(store: Store) -> None:
    with store.writing() as db:
        rater = add_rater(db, "u_one")
        left, right = (add_interaction(db, completion=text) for text in ("good", "bad"))
        comparison = vote(db, left, right, Choice.RIGHT, rater_id=rater)
        corrected = add_interaction(db, "How?", "like this")
        feedback = add_feedback(db, corrected, rater, rating=2, correction="like that")
    with store.reading() as db:
        params = DatasetParams(purpose=DatasetPurpose.PREFERENCES)
        staged = stage_rows(db, params=params, split=SplitParams(test_percent=20))
    with store.writing() as db:
        version = freeze_version(db, actor=SYSTEM, name="pairs", staged=staged).version
    with store.reading() as db:
        members = db.execute(
            sa.select(
                DatasetMember.row_number,
                DatasetMember.interaction_id,
                DatasetMember.comparison_id,
                DatasetMember.feedback_id,
            )
        ).all()
    rows = load_rows(version, split=None)
    places = {row.origin: place for place, row in enumerate(rows)}  # type: ignore[union-attr]
    assert set(members) == {
        (places["comparison"], left, comparison, None),
        (places["comparison"], right, comparison, None),
        (places["correction"], corrected, None, feedback),
    }


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a/b", "x" * 201])
def test_name_that_is_none_is_refused(rated: Store, name: str) -> None:
    with pytest.raises(InvalidInput, match="needs a name"):
        freeze(rated, name=name)


def test_rater_may_not_freeze(rated: Store) -> None:
    with rated.reading() as db:
        staged = stage_rows(db, params=DatasetParams())
    with pytest.raises(Forbidden), rated.writing() as db:
        freeze_version(db, actor=Actor("ann", Role.RATER), name="r", staged=staged)


def test_versions_are_found_by_name_and_number(rated: Store) -> None:
    first = freeze(rated).version
    with rated.writing() as db:
        add_rated(db, make_rows(2, seed=9))
    second = freeze(rated).version
    with rated.reading() as db:
        assert service.get_version(db, "ratings", actor=SYSTEM) == second
        assert service.get_version(db, "ratings", 1, actor=SYSTEM) == first
        assert service.list_versions(db, actor=SYSTEM, name="ratings") == [second, first]
        with pytest.raises(NotFound, match="no version 7 of the dataset 'ratings'"):
            service.get_version(db, "ratings", 7, actor=SYSTEM)
