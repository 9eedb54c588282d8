import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.clock import utcnow
from rlhf_core.serving import talks
from rlhf_core.serving.talks import TalkTurn, begin_turn, list_turns, messages_of
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction
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
