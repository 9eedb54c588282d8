"""Two answers side by side, blind, by two real versions in a real inference application."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from pages._ui import chat_stream
from pages._ui.chat_choice import TWO
from rlhf_core.accounts.permissions import Actor
from rlhf_core.config import get_settings
from rlhf_core.errors import Unavailable
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.serving.chat_client import stream_policy
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Comparison, Deployment, Interaction, ServedLogEntry
from rlhf_core.vocabulary import Choice, Role
from tests.core.serving.policies import promote_policy, register_policy
from tests.core.serving.server import serve
from tests.pages.test_chat import make_roomy_policy, open_chat

SignIn = Callable[[Role], Actor]
Versions = tuple[ModelVersionView, ModelVersionView]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_roomy_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def versions(store: Store, folder: Path) -> Versions:
    """What serves, and a newer one."""
    with store.writing() as db:
        return promote_policy(db, folder), register_policy(db, folder)


@pytest.fixture
def inference(store: Store, versions: Versions, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with serve(store, None) as (port, _):
        monkeypatch.setenv("RLHF_INFERENCE_PORT", str(port))
        get_settings.cache_clear()
        yield


def ask(store: Store, page: AppTest, text: str) -> list[Interaction]:
    """Ask in the chat; all that is stored then, by number and from the left."""
    page.chat_input[0].set_value(text).run()
    assert not page.exception
    assert not page.error
    with store.reading() as db:
        rows = db.scalars(sa.select(Interaction).order_by(Interaction.id)).all()
    return sorted(rows, key=lambda row: (row.turn, row.message_id))


def captions(page: AppTest) -> str:
    return "\n".join(element.value for element in page.caption)


def test_two_versions_answer_blind_and_the_chosen_one_goes_on(
    store: Store, sign_in_as: SignIn, inference: None
) -> None:
    sign_in_as(Role.TRAINER)
    page = open_chat(chat_mode=TWO)
    left, right = ask(store, page, "a b c")
    assert {left.model_name, right.model_name} == {"assistant v1", "assistant v2"}
    assert (left.prompt, left.turn, left.chat_id) == (right.prompt, right.turn, right.chat_id)
    assert [(row.message_id or "").rpartition("-")[2] for row in (left, right)] == ["left", "right"]
    assert "assistant v" not in captions(page)
    assert page.chat_input[0].disabled
    pair = (left.message_id or "").rpartition("-")[0]
    page.button(key=f"choose_right_{pair}").click().run()
    assert not page.exception
    with store.reading() as db:
        said = db.scalars(sa.select(Comparison)).one()
        arms = db.scalars(sa.select(ServedLogEntry.arm)).all()
    assert (said.left_interaction_id, said.right_interaction_id) == (left.id, right.id)
    assert (said.choice, said.is_blind) == (Choice.RIGHT, True)
    assert arms == [None, None]  # versions that were named take no part in a canary
    assert "assistant v1" in captions(page)
    following = ask(store, page, "d")[2:]
    gone_on = [{"role": "user", "content": "a b c"}]
    gone_on += [{"role": "assistant", "content": right.completion}]
    assert [row.context for row in following] == [gone_on if right.completion else None] * 2


def test_one_that_breaks_off_leaves_nothing_to_choose_and_the_whole_one_goes_on(
    store: Store, sign_in_as: SignIn, inference: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(body: dict[str, object]) -> Iterator[dict[str, object]]:
        lines = stream_policy(body)
        yield next(lines)
        yield {"piece": "yes"}
        if body["model"] == "assistant v2":
            raise Unavailable("assistant v2 failed to answer; try again.")
        yield {"finish_reason": "stop"}

    monkeypatch.setattr(chat_stream, "stream_policy", stream)
    sign_in_as(Role.TRAINER)
    page = open_chat(chat_mode=TWO)
    page.chat_input[0].set_value("a").run()
    assert "failed to answer" in page.error[0].value
    named = page.query_params["chat"]
    again = open_chat(chat=named if isinstance(named, str) else named[0], chat_mode=TWO)
    assert not [one for one in again.button if (one.key or "").startswith("choose_")]
    assert not again.chat_input[0].disabled
    assert "broken off" in captions(again)
    with store.reading() as db:
        failed = db.scalars(sa.select(ServedLogEntry).where(ServedLogEntry.is_error)).all()
    assert len(failed) == 1


def test_who_may_not_see_models_compares_what_a_canary_shows_to_users(
    store: Store, sign_in_as: SignIn, versions: Versions
) -> None:
    def modes() -> list[str]:
        return [one.label for one in open_chat().segmented_control]

    sign_in_as(Role.RATER)
    assert modes() == []
    control, treatment = versions
    with store.writing() as db:
        db.add(
            Deployment(
                model_id=control.model_id, version_id=treatment.id,
                baseline_version_id=control.id, traffic_percent=5.0,
            )
        )  # fmt: skip
    assert modes() == ["Answers"]
    page = open_chat(chat_mode=TWO)
    assert not page.selectbox
