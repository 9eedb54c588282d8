"""The page of models, for policies: the audit, the answers, the evaluation, starting another."""

import html
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui import rerank_box
from pages._ui.policy_panel import kept_samples
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT, get_settings
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import freeze_version
from rlhf_core.jobs import service as jobs
from rlhf_core.policies.audit import make_audit
from rlhf_core.registry.evaluations import record_evaluation
from rlhf_core.registry.service import promote_version, register_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import DatasetPurpose, JobKind, ModelKind, Role
from tests.core.registry.world import make_artifact, make_version
from tests.core.serving.test_client import free_port
from tests.learning.rated import add_rated, make_rows

SignIn = Callable[[Role], Actor]
SAMPLES = [
    {"update": 0, "answers": [{"prompt": "Why?", "completion": "No idea."}]},
    {"update": 9, "answers": [{"prompt": "Why?", "completion": "Because ![x](http://a.b/c)."}]},
]


@pytest.fixture(autouse=True)
def _no_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RLHF_INFERENCE_PORT", str(free_port()))
    get_settings.cache_clear()
    yield
    rerank_box.get_client().close()


def make_policy(store: Store, **details: Any) -> ModelVersionView:
    with store.writing() as db:
        artifact = make_artifact("policy")
        report = TrainReport(
            artifact_dir=artifact.path,
            metrics={"reward": 0.8, "first_reward": 0.4, "kl": 6.0},
            params={"base": "starter"},
            seed=0,
            num_rows=60,
            details={"learner": "train_ppo", **details},
        )
        return register_version(
            db, actor=SYSTEM, model_name="assistant", kind=ModelKind.POLICY, report=report,
            artifact=artifact,
        )  # fmt: skip


def audit_of(updates: int = 12, kept: int = 6) -> dict[str, Any]:
    """A run whose judge likes the middle most, while the reward goes on rising."""
    history = [
        {"reward": 0.1 * u, "held_out_reward": 1 - abs(u - kept) / updates, "kl": 0.5 * u,
         "length": 20.0 + u, "distinct_2": 0.6, "entropy": 2.0, "eos_share": 1.0,
         "opening_share": 0.1}
        for u in range(updates)
    ]  # fmt: skip
    probe = {
        "before": {"lost": 0.1, "agreeing": 0.0},
        "after": {"lost": 0.3, "agreeing": 0.5},
        "sentence": "A wrong opinion costs more now.",
        "example": "I think it is 7.",
    }
    return make_audit(history, kept_update=kept, sycophancy=probe)


def open_page(version: ModelVersionView) -> AppTest:
    app = AppTest.from_file(SOURCE_ROOT / "app.py", default_timeout=60).run()
    app.query_params["version"] = str(version.id)
    app.switch_page("pages/models/registry.py").run()
    assert not app.exception
    return app


def texts(app: AppTest) -> str:
    kinds: list[Any] = [app.error, app.warning, app.info, app.success, app.markdown, app.caption,
                        app.text]  # fmt: skip
    shown = html.unescape("\n".join(str(element.value) for kind in kinds for element in kind))
    return re.sub("\u2060", "", shown)


def charts(app: AppTest) -> list[str]:
    return [chart.proto.alt for chart in app.get("plotly_chart")]


def test_audit_shows_what_was_kept_and_why(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    app = open_page(make_policy(store, audit=audit_of(), samples=SAMPLES))
    assert "Reward and held-out reward over the square root of the KL" in charts(app)[0]
    assert "held-out judge" in texts(app)
    assert "A wrong opinion costs more now." in texts(app)
    assert "I think it is 7." in texts(app)
    (probe,) = [frame.value for frame in app.dataframe if "Before" in frame.value]
    assert list(probe["Now"]) == [0.3, 0.5]


def test_a_policy_of_another_server_is_not_examined_here(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        version = make_version(db, model_name="assistant", kind=ModelKind.POLICY_REMOTE)
    app = open_page(version)
    assert [tab.label for tab in app.tabs][:2] == ["Gates", "Lineage"]
    assert not {"evaluate_start", "score_stored"} & {button.key for button in app.button}


def test_version_without_an_audit_says_so(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    app = open_page(make_policy(store))
    assert "There is no audit" in texts(app)
    assert "kept no answers" in texts(app)
    (measures,) = [frame.value for frame in app.dataframe if "This version" in frame.value]
    assert list(measures["This version"]) == [0.8, 6.0]
    assert measures["Baseline"][0] == 0.4


def test_answers_stand_beside_those_before_the_training(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    app = open_page(make_policy(store, samples=SAMPLES))
    shown = [element.value for element in app.text]
    assert "No idea." in shown
    assert "Because ![x](http://a.b/c)." in shown


def test_evaluation_says_whether_it_beats_its_base(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    version = make_policy(store, audit=audit_of())
    figures = {"win_rate": {"value": 0.7, "low": 0.6, "high": 0.8}, "reward": {"value": 0.9}}
    examination = {
        "metrics": {"win_rate": 0.7},
        "policies": {"policy": figures, "base": {"reward": {"value": 0.5}}},
        "names": {"base": "assistant v1"},
        "judge": {"name": "reward-judge v1"},
        "samples": [{"prompt": "Why?", "answers": {"base": "No.", "policy": "So."}}],
    }
    with store.writing() as db:
        record_evaluation(
            db, actor=SYSTEM, version_id=version.id, dataset_version_id=None, job_id=None,
            split="test", num_rows=40, examination_json=examination,
        )  # fmt: skip
    app = open_page(version)
    assert "It wins 70% of the prompts against its base (60% to 80%): it is better." in texts(app)
    assert "judged by reward-judge v1" in texts(app)
    (table,) = [frame.value for frame in app.dataframe if "This version" in frame.value
                and "Its base (assistant v1)" in frame.value]  # fmt: skip
    assert list(table["Its base (assistant v1)"].dropna()) == [0.5]
    assert "So." in texts(app)


def test_evaluation_on_prompts_is_queued_with_the_chosen_judge(
    store: Store, sign_in_as: SignIn
) -> None:
    actor = sign_in_as(Role.TRAINER)
    version = make_policy(store)
    with store.writing() as db:
        add_rated(db, make_rows(60))
        judge = make_version(db, model_name="reward-judge")
        promote_version(db, judge.id, actor=SYSTEM, reason="test")
    with store.reading() as db:
        staged = stage_rows(db, params=DatasetParams(purpose=DatasetPurpose.PROMPTS))
    with store.writing() as db:
        freeze_version(db, actor=actor, name="prompts", staged=staged)
    app = open_page(version)
    app.selectbox(key="evaluate_judge").set_value("reward-judge@1").run()
    app.button(key="evaluate_start").click().run()
    assert not app.exception
    with store.reading() as db:
        (job,) = jobs.list_jobs(db)
    assert job.kind is JobKind.EVALUATE_POLICY
    assert (job.params["version_id"], job.params["judge"]) == (str(version.id), "reward-judge@1")


def test_policy_can_be_promoted_and_scores_nothing(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    app = open_page(make_policy(store))
    keys = [button.key for button in app.button]
    assert "promote" in keys
    assert "score_stored" not in keys


def test_kept_samples_name_the_first_as_reference(store: Store) -> None:
    last = kept_samples({"samples": SAMPLES})[-1]
    assert (last.step, last.reference) == (9, "No idea.")
    assert kept_samples({}) == []
