import uuid
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.errors import InvalidInput, NotFound
from rlhf_core.feedback import comparison_tasks
from rlhf_core.feedback.comparison_reasons import drop_unsent_reason, keep_unsent_reason
from rlhf_core.feedback.comparison_tasks import (
    count_compared,
    draw_seed,
    find_compared_before,
    get_task,
    next_to_compare,
)
from rlhf_core.feedback.comparisons import submit_best, withdraw_comparison
from rlhf_core.feedback.drafts import PreferenceDraft
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Comparison, Interaction
from rlhf_core.vocabulary import Choice
from tests.builders import make_actor, make_interaction
from tests.core.feedback.pairs import compare, make_completions
from tests.databases import only_sqlite

LEFT = PreferenceDraft(choice=Choice.LEFT)


def test_every_completion_with_a_rival_is_compared_once_at_least(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        wanted: set[uuid.UUID] = set()
        for number in range(2, 6):
            wanted.update(make_completions(db, number, prompt=f"Prompt {number}"))
        make_interaction(db)  # without a rival
        seen: set[uuid.UUID] = set()
        for _ in range(30):
            task = next_to_compare(db, actor=rater)
            if task is None:
                break
            assert len(task.shown_ids) == 2
            assert not seen.issuperset(task.shown_ids)
            seen.update(task.shown_ids)
            submit_best(db, task.shown_ids, task.shown_ids[0], LEFT, actor=rater)
        assert seen == wanted
        assert next_to_compare(db, actor=rater) is None
        assert next_to_compare(db, actor=make_actor(db)) is not None


def statements_of(db: Session, work: Callable[[], object]) -> list[int]:
    """How many parameters each statement of `work` has."""
    sizes: list[int] = []

    def note(_c: object, _d: object, _s: object, parameters: Sequence[object], *_: object) -> None:
        sizes.append(len(parameters))

    engine = db.get_bind()
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    return sizes


def test_prompt_with_very_many_completions_is_read_in_part_and_compared_to_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison_tasks, "MEMBERS_READ", 5)
    with store.writing() as db:
        rater = make_actor(db)
        wanted = set(make_completions(db, 31)) | set(make_completions(db, 3, prompt="another"))
        read = statements_of(db, lambda: next_to_compare(db, actor=rater))
        assert max(read) < 31  # the texts, and how often each was compared
        seen: set[uuid.UUID] = set()
        while task := next_to_compare(db, actor=rater):
            assert not seen.issuperset(task.shown_ids)
            seen.update(task.shown_ids)
            submit_best(db, task.shown_ids, task.shown_ids[0], LEFT, actor=rater)
        assert seen == wanted


@only_sqlite
def test_texts_of_many_prompts_are_read_together(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        for number in range(60):
            for model in "ab":
                make_interaction(db, prompt=f"{number}", completion="Equal.", model_name=model)
        read = statements_of(db, lambda: next_to_compare(db, actor=rater))
    assert len(read) < 30


@only_sqlite
def test_up_to_four_stand_side_by_side(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        ids = make_completions(db, 5)
        task = next_to_compare(db, actor=rater, most=4)
        assert task is not None
        assert len(task.shown_ids) == 4
        submit_best(db, task.shown_ids, task.shown_ids[0], LEFT, actor=rater)
        last = next_to_compare(db, actor=rater, most=4)
        assert last is not None
        assert set(ids) - set(task.shown_ids) < set(last.shown_ids)
        with pytest.raises(InvalidInput):
            next_to_compare(db, actor=rater, most=5)


@only_sqlite
def test_nothing_is_compared_across_contexts_nor_with_its_own_text_nor_with_nothing(
    store: Store,
) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        make_completions(db, 1)
        make_completions(db, 1, context=[{"role": "user", "content": "Hello."}])
        for _ in range(2):
            make_interaction(db, prompt="the same", completion="Equal.", model_name=f"m{_}")
        make_interaction(db, prompt="empty", completion="")
        make_interaction(db, prompt="empty", completion="Something.")
        assert next_to_compare(db, actor=rater) is None


@only_sqlite
def test_the_prompt_that_others_compared_least_comes_first(store: Store) -> None:
    with store.writing() as db:
        pairs = [make_completions(db, prompt=f"Prompt {n}") for n in range(4)]
        for pair in pairs[:3]:
            compare(db, *pair, make_actor(db))
        task = next_to_compare(db, actor=make_actor(db))
        assert task is not None
        assert sorted(task.shown_ids) == pairs[3]


@only_sqlite
def test_after_passes_over_a_pair_and_comes_back_to_it(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        for number in range(2):
            make_completions(db, prompt=f"Prompt {number}")
        first = next_to_compare(db, actor=rater)
        assert first is not None
        second = next_to_compare(db, actor=rater, after=first.shown_ids)
        assert second is not None
        assert second.shown_ids != first.shown_ids
        third = next_to_compare(db, actor=rater, after=second.shown_ids)
        assert third is not None
        assert third.shown_ids == first.shown_ids
        submit_best(db, first.shown_ids, first.shown_ids[0], LEFT, actor=rater)
        assert next_to_compare(db, actor=rater, after=second.shown_ids) is None


def test_sides_follow_from_the_seed_and_are_shuffled_from_rater_to_rater(store: Store) -> None:
    with store.writing() as db:
        ids = make_completions(db)
        rater = make_actor(db)
        assert get_task(db, ids, actor=rater) == get_task(db, ids[::-1], actor=rater)
        firsts = Counter(get_task(db, ids, actor=make_actor(db)).shown_ids[0] for _ in range(200))
        again = {get_task(db, ids, actor=rater, occasion=n).shown_ids for n in range(20)}
    assert 70 <= firsts[ids[0]] <= 130
    assert len(again) == 2
    assert draw_seed("a", ids, 0) == draw_seed("a", ids[::-1], 0) != draw_seed("b", ids, 0)


@only_sqlite
def test_task_hides_the_model_unless_it_is_not_blind(store: Store) -> None:
    with store.writing() as db:
        ids = make_completions(db, model_name="secret-7b", steps=2, action_type="search")
        rater = make_actor(db)
        blind = get_task(db, ids, actor=rater)
        seen = get_task(db, ids, actor=rater, is_blind=False)
    assert "secret" not in repr(blind)
    assert {side.model_name for side in seen.sides} == {"secret-7b"}
    assert blind.sides[0].action_type == "search"
    assert len(blind.sides[0].steps) == 2


@only_sqlite
def test_own_word_is_shown_until_it_is_withdrawn(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        one, other = make_completions(db)
        stored = compare(db, one, other, rater, choice="right", strength=2, reason="why")
        mine = get_task(db, [one, other], actor=rater).mine
        assert mine is not None
        assert (mine.best_id, mine.strength, mine.reason) == (other, 2, "why")
        assert get_task(db, [one, other], actor=make_actor(db)).mine is None
        assert count_compared(db, actor=rater) == 1
        withdraw_comparison(db, stored.id, actor=rater)
        assert get_task(db, [one, other], actor=rater).mine is None
        assert count_compared(db, actor=rater) == 0


@only_sqlite
def test_way_back_goes_through_what_was_compared(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        assert find_compared_before(db, actor=rater) is None
        three = make_completions(db, 3, prompt="three")
        pair = make_completions(db, prompt="two")
        submit_best(db, three, three[1], LEFT, actor=rater)
        compare(db, *pair, rater)
        assert find_compared_before(db, actor=rater) == tuple(pair)
        assert find_compared_before(db, actor=rater, before=pair) == tuple(three)
        assert find_compared_before(db, actor=rater, before=three) is None


@only_sqlite
def test_wrong_completions_make_no_task(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        one, _ = make_completions(db)
        with pytest.raises(NotFound):
            get_task(db, [one, uuid.uuid4()], actor=rater)
        with pytest.raises(InvalidInput, match="different prompts"):
            get_task(db, [one, make_interaction(db).id], actor=rater)
        with pytest.raises(InvalidInput, match="two to 4"):
            get_task(db, [one], actor=rater)


def test_unsent_reason_is_kept_for_the_pair_until_it_is_dropped_or_erased(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        one, two, three = make_completions(db, 3)
        keep_unsent_reason(db, [one, two], "half a", actor=rater)
        keep_unsent_reason(db, [two, one], "half a thought", actor=rater)
        assert get_task(db, [one, two], actor=rater).unsent_reason == "half a thought"
        assert get_task(db, [one, three], actor=rater).unsent_reason is None
        assert get_task(db, [one, two], actor=make_actor(db)).unsent_reason is None
        drop_unsent_reason(db, [one, two], actor=rater)
        assert get_task(db, [one, two], actor=rater).unsent_reason is None
        keep_unsent_reason(db, [one, two], "again", actor=rater)
        db.execute(sa.delete(Interaction).where(Interaction.id == one))
        with pytest.raises(InvalidInput, match="at most 20000"):
            keep_unsent_reason(db, [two, three], "x" * 20_001, actor=rater)
        with pytest.raises(NotFound):
            keep_unsent_reason(db, [one, two], "gone", actor=rater)
        assert not db.scalars(sa.select(Comparison)).all()
