"""Talking to a promoted policy in the dashboard, through a real inference application."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from pages._ui import chat_stream
from rlhf_core.accounts.permissions import Actor
from rlhf_core.config import SOURCE_ROOT, get_settings
from rlhf_core.errors import RlhfError, Unavailable
from rlhf_core.serving.talks import begin_turn
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, Interaction, ReasoningStep, ServedLogEntry
from rlhf_core.vocabulary import Role
from tests.core.policies.tiny_policies import make_policy
from tests.core.serving.policies import promote_policy
from tests.core.serving.server import serve

SignIn = Callable[[Role], Actor]


def open_chat(**query: str) -> AppTest:
    page = AppTest.from_file(SOURCE_ROOT / "app.py", default_timeout=60).run()
    for name, value in query.items():
        page.query_params[name] = value
    page.switch_page("pages/collect/chat.py").run()
    assert not page.exception
    return page


def texts(page: AppTest) -> list[str]:
    return [element.value for element in page.text]


def make_roomy_policy(folder: Path) -> Path:
    """A policy that has room for a conversation, whatever it says."""
    made = make_policy(folder, seed=3, max_position_embeddings=1024)
    config = made / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_max_length": 1024}))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_roomy_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def inference(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with store.writing() as db:
        promote_policy(db, folder)
    with serve(store, None) as (port, _):
        monkeypatch.setenv("RLHF_INFERENCE_PORT", str(port))
        get_settings.cache_clear()
        yield


def test_without_a_policy_the_way_to_one_is_shown(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    page = open_chat()
    assert "No assistant serves yet" in "\n".join(element.value for element in page.markdown)
    assert not page.chat_input


def test_conversation_is_stored_shown_again_and_rated(
    store: Store, sign_in_as: SignIn, inference: None
) -> None:
    actor = sign_in_as(Role.RATER)
    page = open_chat()
    for asked in ("a b c", "d e"):
        page.chat_input[0].set_value(asked).run()
        assert not page.exception
        assert not page.error
    with store.reading() as db:
        rows = list(db.scalars(sa.select(Interaction).order_by(Interaction.id)))
        served = db.scalars(sa.select(ServedLogEntry.interaction_id)).all()
    first, second = rows
    assert set(served) == {first.id, second.id}
    assert (first.prompt, second.prompt, second.turn) == ("a b c", "d e", 1)
    said = [
        {"role": "user", "content": "a b c"}, {"role": "assistant", "content": first.completion},
    ]  # fmt: skip
    assert second.context == (said if first.completion else None)  # it may say nothing
    assert (first.extra, first.model_name) == (None, "assistant v1")
    shown = texts(page)
    page.button(key=f"thumb_-1_{second.id.hex}").click().run()
    named = page.query_params["chat"]
    chat_id = named if isinstance(named, str) else named[0]
    again = open_chat(chat=chat_id)
    said_now = [first.prompt, first.completion, "d e", second.completion]
    assert texts(again) == shown == [text for text in said_now if text]  # it may say nothing
    with store.reading() as db:
        said = db.execute(sa.select(Feedback.interaction_id, Feedback.thumb, Feedback.source)).all()
    assert [tuple(row) for row in said] == [(second.id, -1, "chat")]
    again.button(key=f"again_{second.id.hex}").click().run()
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.max(Interaction.turn))) == 2

    assert actor.account_id is not None
    sign_in_as(Role.ANALYST)
    assert texts(open_chat(chat=chat_id)) == []  # somebody else's conversation


def test_lost_process_is_a_sentence_and_nothing_is_half_stored(
    store: Store, sign_in_as: SignIn, inference: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in_as(Role.RATER)
    page = open_chat()
    monkeypatch.setenv("RLHF_INFERENCE_PORT", "9")
    get_settings.cache_clear()
    page.chat_input[0].set_value("a b c").run()
    assert not page.exception
    assert "does not run" in page.error[0].value
    assert page.button(key="again_now").label == "Ask again"
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Interaction)) == 0


def test_a_correction_is_shown_to_be_changed_and_the_same_text_is_none(
    store: Store, sign_in_as: SignIn, inference: None
) -> None:
    actor = sign_in_as(Role.RATER)
    with store.writing() as db:
        turn = begin_turn(
            db, "c", "Why?", actor=actor, before=[], version="v1", version_id=uuid.uuid4()
        )
        db.execute(sa.update(Interaction).values(completion="Bec", extra=None))
    page = open_chat(chat="c")
    box, save = f"correction_{turn.hex}", f"save_{turn.hex}"
    page.button(key=save).click().run()
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Feedback)) == 0
    page.text_area(key=box).set_value("Because.").run()
    page.button(key=save).click().run()
    assert open_chat(chat="c").text_area(key=box).value == "Because."


def pretend(monkeypatch: pytest.MonkeyPatch, *lines: dict[str, str] | RlhfError) -> None:
    """Let each answer come as these lines, or break off with an error."""

    def stream(body: object) -> Iterator[dict[str, Any]]:
        yield {"version": "assistant v1", "version_id": str(uuid.uuid4()), "arm": "production"}
        for line in lines:
            if isinstance(line, RlhfError):
                raise line
            yield line

    monkeypatch.setattr(chat_stream, "stream_policy", stream)


@pytest.fixture
def promoted(store: Store, folder: Path) -> None:
    with store.writing() as db:
        promote_policy(db, folder)


def test_an_answer_that_reached_the_limit_is_said_to_be_cut_off(
    promoted: None, sign_in_as: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in_as(Role.RATER)
    pretend(monkeypatch, {"piece": "Bec"}, {"finish_reason": "length"})
    page = open_chat()
    page.chat_input[0].set_value("Why?").run()
    assert texts(page) == ["Why?", "Bec"]
    assert ["cut off" in toast.value for toast in page.toast] == [True]


def test_steps_of_an_answer_are_shown_and_each_can_be_called_wrong(
    store: Store, promoted: None, sign_in_as: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in_as(Role.RATER)
    pretend(
        monkeypatch, {"piece": "<think>One.\n\nTw"}, {"piece": "o.</think>Because."},
        {"finish_reason": "stop"},
    )  # fmt: skip
    page = open_chat()
    page.chat_input[0].set_value("Why?").run()
    assert texts(page) == ["Why?", "One.", "Two.", "Because."]
    with store.reading() as db:
        turn = db.scalars(sa.select(Interaction)).one()
    page.button(key=f"label_-1_1_{turn.id.hex}").click().run()
    assert [one.label for one in page.expander] == ["Reasoning · 2 steps, 1 rated"]
    with store.reading() as db:
        said = db.execute(
            sa.select(ReasoningStep.content, ReasoningStep.kind, Feedback.label).join(
                Feedback, Feedback.step_id == ReasoningStep.id
            )
        ).all()
    assert turn.completion == "Because."
    assert [tuple(row) for row in said] == [("Two.", "thinking", -1)]


def test_an_answer_that_breaks_off_is_kept_as_far_as_it_came(
    store: Store, promoted: None, sign_in_as: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in_as(Role.RATER)
    pretend(monkeypatch, {"piece": "Bec"}, Unavailable("The inference process broke off."))
    page = open_chat()
    page.chat_input[0].set_value("Why?").run()
    assert "broke off" in page.error[0].value
    with store.reading() as db:
        turn = db.scalars(sa.select(Interaction)).one()
        served = db.scalars(sa.select(ServedLogEntry)).one()
    assert (turn.completion, turn.extra) == ("Bec", {"is_partial": True})
    assert (served.is_error, served.interaction_id, served.arm) == (True, turn.id, "production")
    assert served.user_pseudonym == turn.user_pseudonym
