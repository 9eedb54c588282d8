import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.feedback.drafts import FeedbackDraft, SpanDraft
from rlhf_core.feedback.service import (
    create_interaction,
    find_message,
    get_step_position,
    list_recent_feedback,
    submit_feedback,
    withdraw_feedback,
)
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import (
    Feedback,
    FeedbackAspect,
    FeedbackRevision,
    FeedbackSpan,
    Interaction,
    Rater,
    RollupDirtyDay,
)
from rlhf_core.vocabulary import RaterKind, RevisionKind, Role
from tests.builders import interaction_draft, make_actor, make_feedback, make_interaction


def count(store: Store, table: type) -> int:
    with store.reading() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(table))


def all_at_once(work: Callable[[int], object], num: int, threads: int = 8) -> list[object]:
    barrier = threading.Barrier(threads)

    def run(n: int) -> object:
        if n < threads:
            barrier.wait()
        return work(n)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(num)))


def test_second_rater_does_not_overwrite_the_first(store: Store) -> None:
    with store.writing() as db:
        first, second = make_actor(db), make_actor(db)
        item = make_interaction(db)
        make_feedback(db, item.id, actor=first, rating=5)
        make_feedback(db, item.id, actor=second, rating=1)
        ratings = db.scalars(sa.select(Feedback.rating).order_by(Feedback.rating)).all()
    assert ratings == [1, 5]


def test_second_submit_edits_and_the_old_values_are_kept(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        item = make_interaction(db)
        stored = make_feedback(db, item.id, actor=rater, rating=2, comment="vague")
        edited = make_feedback(db, item.id, actor=rater, rating=4)
        row = db.scalars(sa.select(Feedback)).one()
        revision = db.scalars(sa.select(FeedbackRevision)).one()
    assert edited.id == stored.id
    assert (edited.revision, edited.was_created) == (1, False)
    assert (row.rating, row.comment) == (4, "vague")
    assert revision.kind is RevisionKind.EDIT
    assert revision.before["rating"] == 2
    assert revision.changed_by == rater.account_id


def test_given_none_clears_and_a_missing_field_stays(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        item = make_interaction(db)
        make_feedback(db, item.id, actor=rater, thumb=1, comment="good")
        make_feedback(db, item.id, actor=rater, rating=5, comment=None)
        row = db.scalars(sa.select(Feedback)).one()
    assert (row.thumb, row.rating, row.comment) == (1, 5, None)


def test_clearing_all_that_was_said_withdraws(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db)
        with pytest.raises(InvalidInput, match="says nothing"):
            make_feedback(db, item.id, comment="")
        make_feedback(db, item.id, comment="hm")
        make_feedback(db, item.id, comment="")
        row = db.scalars(sa.select(Feedback)).one()
    assert row.withdrawn_at is not None


def test_equal_submit_changes_nothing(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db)
        make_feedback(db, item.id, rating=3, aspects={"tone": 2}, comment="x")
        again = make_feedback(db, item.id, rating=3, aspects={"tone": 2}, comment="x")
    assert (again.revision, again.was_created) == (0, False)
    assert count(store, FeedbackRevision) == 0


def test_200_double_submits_leave_no_duplicate(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        items = [make_interaction(db).id for _ in range(200)]

    def submit(n: int) -> bool:
        draft = FeedbackDraft(rating=n % 2 + 4)
        with store.writing() as db:
            return submit_feedback(db, items[n // 2], draft, actor=rater).was_created

    created = all_at_once(submit, 400)
    assert sum(created) == 200
    assert count(store, Feedback) == 200
    assert count(store, FeedbackRevision) == 200  # each second one found the first and edited it


def test_many_writers_of_one_row_lose_no_revision(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        item = make_interaction(db)

    def submit(n: int) -> None:
        with store.writing() as db:
            submit_feedback(db, item.id, FeedbackDraft(comment=f"note {n}"), actor=rater)

    all_at_once(submit, 24, threads=4)
    with store.reading() as db:
        row = db.scalars(sa.select(Feedback)).one()
        revisions = db.scalars(
            sa.select(FeedbackRevision).order_by(FeedbackRevision.revision)
        ).all()
    comments = [revision.before["comment"] for revision in revisions] + [row.comment]
    assert row.revision == 23
    assert sorted(comments) == sorted(f"note {n}" for n in range(24))


def test_two_creations_at_once_store_one_interaction(store: Store) -> None:
    draft = interaction_draft(
        external_id="i-1", steps=2, feedback=[FeedbackDraft(rating=4, rater="someone")]
    )

    def create(_: int) -> tuple[uuid.UUID, tuple[uuid.UUID, ...], bool]:
        with store.writing() as db:
            stored = create_interaction(db, draft, actor=SYSTEM)
            return stored.id, stored.step_ids, stored.was_created

    results = all_at_once(create, 16)
    assert len({(interaction, steps) for interaction, steps, _ in results}) == 1
    assert sum(was_created for *_, was_created in results) == 1
    assert (count(store, Interaction), count(store, Feedback), count(store, Rater)) == (1, 1, 1)


def test_repeated_creation_reverts_no_later_edit(store: Store) -> None:
    draft = interaction_draft(external_id="i-1", feedback=[FeedbackDraft(rating=1)])
    with store.writing() as db:
        item = create_interaction(db, draft, actor=SYSTEM)
        make_feedback(db, item.id, rating=5)
        create_interaction(db, draft, actor=SYSTEM)
        assert db.scalars(sa.select(Feedback.rating)).all() == [5]


def test_interaction_without_an_id_is_known_by_its_content(store: Store) -> None:
    with store.writing() as db:
        first = make_interaction(db, prompt="Hi", completion="Hello")
        again = make_interaction(db, prompt="Hi", completion="Hello")
        other = make_interaction(db, prompt="Hi", completion="Bye")
    assert again.id == first.id
    assert other.was_created


def test_ids_outside_are_stored_as_pseudonyms_only(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, user="jo@example.org")
        make_feedback(db, item.id, rating=3, rater="jo@example.org")
        make_feedback(db, item.id, thumb=1, rater_kind=RaterKind.END_USER)
        pseudonym = db.scalars(sa.select(Interaction.user_pseudonym)).one()
        raters = db.scalars(sa.select(Rater)).all()
    assert [rater.pseudonym for rater in raters] == [pseudonym]  # one person, one rater
    assert pseudonym.startswith("u_")
    assert "jo" not in pseudonym


def test_end_users_of_unnamed_interactions_are_different_raters(store: Store) -> None:
    with store.writing() as db:
        for _ in range(2):
            item = make_interaction(db)
            make_feedback(db, item.id, thumb=1, rater_kind=RaterKind.END_USER)
        kinds = db.scalars(sa.select(Rater.rater_kind)).all()
    assert kinds == [RaterKind.END_USER] * 2


def test_account_rates_as_its_own_rater(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db)
        for _ in range(2):
            make_feedback(db, make_interaction(db).id, actor=actor)
        rater = db.scalars(sa.select(Rater)).one()
    assert (rater.account_id, rater.rater_kind) == (actor.account_id, RaterKind.SME)


@pytest.mark.parametrize("fields", [{"rater": "other"}, {"rater_kind": RaterKind.END_USER}])
def test_only_who_writes_interactions_speaks_for_others(store: Store, fields: dict) -> None:
    with store.writing() as db:
        item = make_interaction(db)
        make_feedback(db, item.id, actor=make_actor(db, Role.TRAINER), rating=4, **fields)
        with pytest.raises(Forbidden, match="may not write interactions"):
            make_feedback(db, item.id, actor=make_actor(db), rating=4, **fields)


def test_rater_may_not_store_interactions(store: Store) -> None:
    with store.writing() as db, pytest.raises(Forbidden, match="may not write interactions"):
        make_interaction(db, actor=make_actor(db))


def test_token_without_the_scope_may_not_rate(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db)
        actor = make_actor(db)
        narrowed = type(actor)(
            actor.name, actor.role, actor.account_id, frozenset({Permission.READ_INTERACTIONS})
        )
        with pytest.raises(Forbidden, match="may not rate"):
            make_feedback(db, item.id, actor=narrowed)


def test_steps_have_feedback_of_their_own(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, steps=3)
        make_feedback(db, item.id, rating=4)
        make_feedback(db, item.id, label=-1, step=1)
        submit_feedback(db, item.id, FeedbackDraft(thumb=1), actor=SYSTEM, step_id=item.step_ids[2])
        make_feedback(db, item.id, label=0, step=1)
        rows = db.execute(sa.select(Feedback.step_id, Feedback.label, Feedback.thumb)).all()
    assert set(rows) == {
        (None, None, None), (item.step_ids[1], 0, None), (item.step_ids[2], None, 1)
    }  # fmt: skip


def test_unknown_targets_are_named(store: Store) -> None:
    nowhere = uuid.uuid4()
    with store.writing() as db:
        item, other = make_interaction(db, steps=1), make_interaction(db, steps=1)
        with pytest.raises(NotFound, match=f"no interaction {nowhere}"):
            make_feedback(db, nowhere)
        with pytest.raises(NotFound, match="has no step 1"):
            make_feedback(db, item.id, label=1, step=1)
        with pytest.raises(NotFound, match=f"no step {nowhere}"):
            submit_feedback(db, item.id, FeedbackDraft(thumb=1), actor=SYSTEM, step_id=nowhere)
        with pytest.raises(InvalidInput, match="belongs to another interaction"):
            submit_feedback(
                db, item.id, FeedbackDraft(thumb=1), actor=SYSTEM, step_id=other.step_ids[0]
            )
    assert count(store, Feedback) == 0


def test_step_is_found_by_its_id_outside(store: Store) -> None:
    steps = [{"content": "a", "external_id": "s-a"}, {"content": "b", "external_id": "s-b"}]
    with store.writing() as db:
        item, other = make_interaction(db, prompt="p", steps=[]), make_interaction(db)
        draft = interaction_draft().model_dump() | {"steps": steps}
        item = create_interaction(db, type(interaction_draft())(**draft), actor=SYSTEM)
        assert get_step_position(db, item.id, "s-b") == 1
        with pytest.raises(InvalidInput, match="another interaction"):
            get_step_position(db, other.id, "s-b")


def test_aspects_and_spans_are_stored_and_replaced(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, completion="Paris is in Spain.")
        wrong = SpanDraft(start_at=12, end_at=17, tag="wrong", note="France")
        make_feedback(db, item.id, rating=2, aspects={"accuracy": 1, "tone": 5}, spans=[wrong])
        make_feedback(db, item.id, aspects={"accuracy": 2}, spans=[wrong])
        aspects = db.execute(sa.select(FeedbackAspect.name, FeedbackAspect.rating)).all()
        span = db.scalars(sa.select(FeedbackSpan)).one()
        before = db.scalars(sa.select(FeedbackRevision.before)).one()
        too_long = SpanDraft(start_at=0, end_at=19, tag="x")
        with pytest.raises(InvalidInput, match="span ends at 19, the completion has 18"):
            make_feedback(db, item.id, spans=[too_long])
    assert aspects == [("accuracy", 2)]
    assert (span.start_at, span.end_at, span.tag, span.note) == (12, 17, "wrong", "France")
    assert before["aspects"] == {"accuracy": 1, "tone": 5}


def test_span_length_is_counted_in_characters(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, completion="née 😀")
        make_feedback(db, item.id, spans=[SpanDraft(start_at=4, end_at=5, tag="emoji")])


def test_withdrawn_feedback_stays_and_a_new_submit_starts_afresh(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        item = make_interaction(db)
        stored = make_feedback(db, item.id, actor=rater, rating=2, comment="bad")
        withdraw_feedback(db, stored.id, actor=rater)
        assert withdraw_feedback(db, stored.id, actor=rater).revision == 1  # twice is once
        assert list_recent_feedback(db, actor=rater, limit=10) == []
        row = db.scalars(sa.select(Feedback)).one()
        assert row.rating == 2
        assert row.withdrawn_at is not None
        make_feedback(db, item.id, actor=rater, thumb=1)
        db.refresh(row)
        kinds = db.scalars(sa.select(FeedbackRevision.kind)).all()
    assert (row.rating, row.comment, row.thumb, row.withdrawn_at) == (None, None, 1, None)
    assert sorted(kinds) == [RevisionKind.RESTORE, RevisionKind.WITHDRAW]


def test_one_withdraws_only_ones_own(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db)
        stored = make_feedback(db, item.id, actor=make_actor(db))
        with pytest.raises(Forbidden, match="only their own"):
            withdraw_feedback(db, stored.id, actor=make_actor(db))
        withdraw_feedback(db, stored.id, actor=make_actor(db, Role.TRAINER))
        with pytest.raises(NotFound, match="no feedback"):
            withdraw_feedback(db, uuid.uuid4(), actor=SYSTEM)


def test_known_external_id_of_another_target_is_refused(store: Store) -> None:
    with store.writing() as db:
        first, second = make_interaction(db), make_interaction(db)
        stored = make_feedback(db, first.id, rating=1, external_id="f-1")
        same = make_feedback(db, first.id, rating=2, external_id="f-1")
        with pytest.raises(Conflict, match="'f-1' of source 'page' is stored for another"):
            make_feedback(db, second.id, rating=1, external_id="f-1")
    assert same.id == stored.id


def test_another_occasion_is_another_row(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db)
        make_feedback(db, item.id, rating=4)
        assert make_feedback(db, item.id, rating=5, occasion=1).was_created


def test_days_of_changed_counts_are_marked(store: Store) -> None:
    long_ago, later = datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC)
    with store.writing() as db:
        item = make_interaction(db, occurred_at=long_ago)
        db.execute(sa.delete(RollupDirtyDay))
        make_feedback(db, item.id, rating=4, occurred_at=later)
        days = db.scalars(sa.select(RollupDirtyDay.day).order_by(RollupDirtyDay.day)).all()
    assert days == [long_ago.date(), later.date()]


def test_recent_feedback_names_message_step_and_rater_kind(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, steps=2, chat_id="c", message_id="m", action_type="search")
        make_feedback(db, item.id, label=-1, step=1, occurred_at=datetime(2025, 1, 2, tzinfo=UTC))
        make_feedback(db, item.id, rating=4, occurred_at=datetime(2025, 1, 1, tzinfo=UTC))
        first, second = list_recent_feedback(db, actor=SYSTEM, limit=5)
        assert list_recent_feedback(db, actor=SYSTEM, limit=1) == [first]
    assert (first.chat_id, first.message_id, first.action_type) == ("c", "m", "search")
    assert (first.position, first.label, first.step_id) == (1, -1, item.step_ids[1])
    assert (second.position, second.rating, second.rater_kind) == (None, 4, RaterKind.SME)


def test_message_is_found_by_chat_and_id_or_as_the_latest(store: Store) -> None:
    with store.writing() as db:
        first = make_interaction(
            db, chat_id="c", message_id="m1", occurred_at=datetime(2025, 1, 1, tzinfo=UTC)
        )
        latest = make_interaction(
            db, chat_id="c", message_id="m2", occurred_at=datetime(2025, 1, 2, tzinfo=UTC)
        )
        assert find_message(db, "c", "m1") == first.id
        assert find_message(db, "c", None) == latest.id
        assert find_message(db, "c", "m3") is None
        assert find_message(db, "d", None) is None


def test_token_that_may_only_write_interactions_rates_for_others_not_as_itself(
    store: Store,
) -> None:
    with store.writing() as db:
        account = make_actor(db, role=Role.TRAINER)
    writer = replace(account, scopes=frozenset({Permission.WRITE_INTERACTIONS}))

    def store_with(feedback: FeedbackDraft) -> None:
        with store.writing() as db:
            draft = interaction_draft(feedback=[feedback])
            create_interaction(db, draft, actor=writer)

    with pytest.raises(Forbidden, match="may not rate"):
        store_with(FeedbackDraft(rating=5))
    assert (count(store, Interaction), count(store, Feedback)) == (0, 0)
    store_with(FeedbackDraft(rating=5, rater="kim"))
    store_with(FeedbackDraft(rating=5, rater_kind=RaterKind.END_USER))
    assert count(store, Feedback) == 2
