import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.clock import utcnow
from rlhf_core.errors import Conflict
from rlhf_core.feedback.comparisons import submit_comparison
from rlhf_core.feedback.drafts import PreferenceDraft
from rlhf_core.serving import talks
from rlhf_core.serving.answers import Served, finish_answer
from rlhf_core.serving.talks import (
    TalkStep,
    TalkTurn,
    awaits_choice,
    begin_turn,
    choose_answer,
    list_turns,
    messages_of,
    name_side,
)
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Comparison, Interaction
from rlhf_core.vocabulary import Choice
from tests.builders import make_actor, make_feedback
from tests.databases import only_sqlite

pytestmark = only_sqlite


def ask(db: Session, prompt: str, before: list[TalkTurn], **options: object) -> uuid.UUID:
    return begin_turn(
        db, "c", prompt, before=before, version="v1", version_id=uuid.uuid4(), **options
    )  # type: ignore[arg-type]


def test_the_newest_turns_are_shown_in_order_and_numbers_go_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talks, "MAX_TURNS", 2)
    with store.writing() as db:
        actor = make_actor(db)
        for prompt in "abcd":
            ask(db, prompt, list_turns(db, "c", actor=actor), actor=actor)
        turns = list_turns(db, "c", actor=actor)
    assert [(turn.prompt, turn.number) for turn in turns] == [("c", 2), ("d", 3)]


def test_without_a_text_an_answer_is_being_written_for_two_minutes_only(store: Store) -> None:
    def look(**values: object) -> tuple[bool, bool]:
        db.execute(sa.update(Interaction).values(**values))
        [turn] = list_turns(db, "c", actor=actor)
        return turn.is_partial, turn.is_being_written

    with store.writing() as db:
        actor = make_actor(db)
        ask(db, "Why?", [], actor=actor)
        assert look(completion="") == (True, True)
        assert look(completion="Bec") == (True, False)  # stopped: the text is stored at the end
        assert look(completion="", created_at=utcnow() - timedelta(minutes=3)) == (True, False)
        assert look(extra=None, created_at=utcnow()) == (False, False)


def test_a_turn_knows_ones_own_correction(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db)
        asked = ask(db, "Why?", [], actor=actor)
        make_feedback(db, asked, actor=actor, correction="Because.")
        assert [turn.correction for turn in list_turns(db, "c", actor=actor)] == ["Because."]


def test_the_oldest_turns_of_a_long_conversation_do_not_go_to_the_model(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [
        TalkTurn(uuid.uuid4(), number, f"ask{number}", text, "v1", False, False, None, None)
        for number, text in enumerate(["one", "two", "", "four"])
    ]
    monkeypatch.setattr(talks, "MAX_CONTEXT_CHARS", 16)
    assert [text for _, text in messages_of(turns)] == ["ask1", "two", "ask3", "four"]
    monkeypatch.setattr(talks, "MAX_CONTEXT_CHARS", 8)
    assert [text for _, text in messages_of(turns)] == ["ask3", "four"]


def ask_two(db: Session, prompt: str, before: list[TalkTurn], **options: object) -> list[uuid.UUID]:
    """The left one's id and the right one's; both answered."""
    pair = uuid.uuid4().hex
    ids = [
        ask(db, prompt, before, message_id=name_side(pair, is_left=is_left), **options)
        for is_left in (True, False)
    ]
    for number, one in enumerate(ids):
        db.execute(
            sa.update(Interaction)
            .where(Interaction.id == one)
            .values(completion=f"{prompt}{number}", extra=None)
        )
    return ids


@pytest.mark.parametrize(
    ("choice", "told"),
    [(Choice.LEFT, "q0"), (Choice.RIGHT, "q1"), (Choice.TIE, "q0"), (Choice.BOTH_BAD, None)],
)
def test_the_conversation_goes_on_with_the_chosen_answer(
    store: Store, choice: Choice, told: str | None
) -> None:
    with store.writing() as db:
        actor = make_actor(db)
        left, right = ask_two(db, "q", [], actor=actor)
        turns = list_turns(db, "c", actor=actor)
        assert [turn.is_left for turn in turns] == [True, False]
        assert awaits_choice(turns)
        assert messages_of(turns) == []
        choose_answer(db, turns, choice, actor=actor)
        stored = db.execute(sa.select(Comparison)).scalar_one()
        assert (stored.left_interaction_id, stored.right_interaction_id) == (left, right)
        assert (stored.choice, stored.is_blind, stored.source) == (choice, True, "chat")
        turns = list_turns(db, "c", actor=actor)
        assert {turn.choice for turn in turns} == {choice}
        assert messages_of(turns) == ([("user", "q"), ("assistant", told)] if told else [])
        with pytest.raises(Conflict, match="no two answers"):
            choose_answer(db, turns, Choice.TIE, actor=actor)
        following = list_turns(db, "c", actor=actor)
        ask(db, "next", following, actor=actor)
        assert [turn.number for turn in list_turns(db, "c", actor=actor)] == [0, 0, 1]


def test_a_choice_changed_elsewhere_with_the_sides_swapped_is_read_by_the_answer(
    store: Store,
) -> None:
    with store.writing() as db:
        actor = make_actor(db)
        left, right = ask_two(db, "q", [], actor=actor)
        choose_answer(db, list_turns(db, "c", actor=actor), Choice.LEFT, actor=actor)
        submit_comparison(db, right, left, PreferenceDraft(choice=Choice.LEFT), actor=actor)
        turns = list_turns(db, "c", actor=actor)
    assert [turn.choice for turn in turns] == [Choice.RIGHT, Choice.RIGHT]
    assert messages_of(turns)[-1] == ("assistant", "q1")


def test_of_two_answers_of_which_one_broke_off_the_whole_one_goes_on(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db)
        left, _ = ask_two(db, "q", [], actor=actor)
        broken = sa.update(Interaction).where(Interaction.id == left)
        db.execute(broken.values(completion="q0 and much more of it", extra={"is_partial": True}))
        turns = list_turns(db, "c", actor=actor)
        assert not awaits_choice(turns)
        with pytest.raises(Conflict):
            choose_answer(db, turns, Choice.LEFT, actor=actor)
    assert messages_of(turns)[-1] == ("assistant", "q1")


def test_what_a_test_of_prompts_put_before_is_stored_with_the_question(store: Store) -> None:
    with store.writing() as db:
        ask(db, "Why?", [], actor=make_actor(db), system_prompt="Be kind.")
        assert db.scalar(sa.select(Interaction.context)) == [
            {"role": "system", "content": "Be kind."}
        ]


def test_steps_are_read_with_what_one_said_of_them(store: Store) -> None:
    with store.writing() as db:
        actor, other = make_actor(db), make_actor(db)
        turn_id = ask(db, "Why?", [], actor=actor)
        served = Served(uuid.uuid4(), 1.0)
        finish_answer(db, turn_id, "<think>One.\n\nTwo.</think>Because.", served, is_whole=True)
        make_feedback(db, turn_id, actor=actor, step=1, label=-1)
        make_feedback(db, turn_id, actor=other, step=0, label=1)
        [turn] = list_turns(db, "c", actor=actor)
    assert turn.completion == "Because."
    assert turn.steps == (TalkStep("One.", None), TalkStep("Two.", -1))


def test_stopped_while_it_thought_an_answer_is_not_being_written(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db)
        turn_id = ask(db, "Why?", [], actor=actor)
        finish_answer(db, turn_id, "<think>One.", Served(uuid.uuid4(), 1.0), is_whole=False)
        [turn] = list_turns(db, "c", actor=actor)
    assert (turn.is_partial, turn.is_being_written, turn.completion) == (True, False, "")
    assert messages_of([turn]) == []
