"""Talking to a promoted policy in the dashboard, through a real inference application."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from pages._ui import chat_turns
from rlhf_core.accounts.permissions import Actor
from rlhf_core.config import SOURCE_ROOT, get_settings
from rlhf_core.serving.talks import begin_turn
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, Interaction, ServedLogEntry
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"), seed=3)


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
    assert second.context == [
        {"role": "user", "content": "a b c"}, {"role": "assistant", "content": first.completion},
    ]  # fmt: skip
    assert (first.extra, first.model_name) == (None, "assistant v1")
    shown = texts(page)
    page.button(key=f"thumb_-1_{second.id.hex}").click().run()
    named = page.query_params["chat"]
    chat_id = named if isinstance(named, str) else named[0]
    again = open_chat(chat=chat_id)
    assert texts(again) == shown == [first.prompt, first.completion, "d e", second.completion]
    with store.reading() as db:
        said = db.execute(sa.select(Feedback.interaction_id, Feedback.thumb, Feedback.source)).all()
    assert [tuple(row) for row in said] == [(second.id, -1, "chat")]
    again.button(key=f"again_{second.id.hex}").click().run()
    assert len(texts(again)) == 6

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


def test_an_answer_that_reached_the_limit_is_said_to_be_cut_off(
    store: Store, sign_in_as: SignIn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in_as(Role.RATER)
    with store.writing() as db:
        promote_policy(db, folder)
    begin = {"version": "assistant v1", "version_id": str(uuid.uuid4())}

    def stream(body: object) -> Iterator[dict[str, str]]:
        yield from (begin, {"piece": "Bec"}, {"finish_reason": "length"})

    monkeypatch.setattr(chat_turns, "stream_policy", stream)
    page = open_chat()
    page.chat_input[0].set_value("Why?").run()
    assert texts(page) == ["Why?", "Bec"]
    assert ["cut off" in toast.value for toast in page.toast] == [True]
