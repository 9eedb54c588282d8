"""The page of models: people compare a policy's answers blind, after one click."""

import html
from collections.abc import Callable, Iterator

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui import rerank_box
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT, get_settings
from rlhf_core.feedback.comparison_tasks import get_task
from rlhf_core.queues.leases import claim_next
from rlhf_core.queues.service import list_queues
from rlhf_core.registry.evaluations import record_evaluation
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import QueueSubject, Role
from tests.builders import make_actor
from tests.core.feedback.pairs import compare
from tests.core.serving.test_client import free_port
from tests.pages.test_policy_versions import make_policy

SignIn = Callable[[Role], Actor]


@pytest.fixture(autouse=True)
def _no_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RLHF_INFERENCE_PORT", str(free_port()))
    get_settings.cache_clear()
    yield
    rerank_box.get_client().close()


def open_examined(store: Store) -> AppTest:
    """The page of a policy whose examination kept 20 pairs of answers."""
    version = make_policy(store)
    samples = [
        {"prompt": f"Why {n}?", "answers": {"policy": f"So {n}.", "base": f"No {n}."}}
        for n in range(20)
    ]
    examination = {
        "policies": {"policy": {}, "base": {}},
        "names": {"base": "a *bold* base"},
        "samples": samples,
    }
    with store.writing() as db:
        record_evaluation(
            db, actor=SYSTEM, version_id=version.id, dataset_version_id=None, job_id=None,
            split="test", num_rows=20, examination_json=examination,
        )  # fmt: skip
    app = AppTest.from_file(SOURCE_ROOT / "app.py", default_timeout=60).run()
    app.query_params["version"] = str(version.id)
    app.switch_page("pages/models/registry.py").run()
    assert not app.exception
    return app


def texts(app: AppTest) -> str:
    kinds = [app.success, app.info, app.warning, app.markdown, app.caption]
    return html.unescape("\n".join(str(element.value) for kind in kinds for element in kind))


def test_one_click_makes_a_blind_queue_and_its_result_is_shown(
    store: Store, sign_in_as: SignIn
) -> None:
    actor = sign_in_as(Role.TRAINER)
    app = open_examined(store)
    button = app.button(key="ask_people_base")
    assert "20 pairs" in button.label
    assert "*bold*" not in button.label
    button.click().run()
    assert not app.exception
    with store.reading() as db:
        (queue,) = list_queues(db, actor=actor)
    assert (queue.subject, queue.is_blind) == (QueueSubject.COMPARISONS, True)
    assert "nobody has compared yet" in texts(app)
    assert "ask_people_base" not in [one.key for one in app.button]
    with store.writing() as db:
        for _ in range(20):
            rater = make_actor(db)
            claim = claim_next(db, queue.id, actor=rater)
            assert claim is not None
            assert claim.other_interaction_id is not None
            pair = claim.interaction_id, claim.other_interaction_id
            sides = get_task(db, pair, actor=rater).sides
            choice = "left" if sides[0].completion.startswith("So") else "right"
            compare(db, *(side.interaction_id for side in sides), rater, choice=choice)
    app.run()
    assert "people prefer it in 100% of 20 pairs (84% to 100%): it is better." in texts(app)


def test_who_may_not_make_queues_is_offered_none(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    app = open_examined(store)
    assert "ask_people_base" not in [one.key for one in app.button]
    assert "Compared by people" not in texts(app)
