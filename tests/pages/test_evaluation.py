"""What the page of models says of evaluations, and how it starts them."""

import html
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui import rerank_box
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT as ROOT
from rlhf_core.config import get_settings
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import DatasetVersionView, freeze_version
from rlhf_core.dataset.splits import SplitParams
from rlhf_core.jobs import service as jobs
from rlhf_core.registry.evaluations import record_evaluation
from rlhf_core.registry.scores import store_rewards
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.rewards.examination import Examination, Leakage, Mistake, Slice
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import JobKind, Role
from tests.builders import make_interaction
from tests.core.registry.world import make_version
from tests.core.serving.test_client import free_port
from tests.learning.rated import add_rated, make_rows

SignIn = Callable[[Role], Actor]

EXAMINED = Examination(
    purpose="scores",
    num_rows=200,
    num_prompts=80,
    threshold=4.0,
    metrics={"auc": 0.74, "accuracy": 0.68, "ece": 0.031},
    intervals={"auc": (0.7012, 0.7796), "accuracy": (0.62, 0.73)},
    baselines={
        "auc": {"length_only": 0.66},
        "accuracy": {"majority": 0.55, "rater_agreement": 0.77},
    },
    slices=(
        Slice("language", "en", 180, 70, {"auc": 0.75}, {"auc": (0.7, 0.8)}),
        Slice("language", "de", 20, 10, {}, {}),
    ),
    reliability=(
        {"mean_probability": 0.2, "share_good": 0.25, "n": 90},
        {"mean_probability": 0.8, "share_good": 0.75, "n": 110},
    ),
    confusion={"true_good": 80, "false_good": 30, "true_bad": 56, "false_bad": 34},
    leakage=Leakage(num_prompts=80, num_seen=0, num_near=0),
)


@pytest.fixture(autouse=True)
def _no_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine where no inference process runs; the page's client is closed at the end."""
    monkeypatch.setenv("RLHF_INFERENCE_PORT", str(free_port()))
    get_settings.cache_clear()
    yield
    rerank_box.get_client().close()


def open_page(**query: str) -> AppTest:
    app = AppTest.from_file(ROOT / "app.py").run(timeout=30)
    app.switch_page("pages/models/registry.py")
    for name, value in query.items():
        app.query_params[name] = value
    app.run(timeout=30)
    assert not app.exception
    return app


def texts(app: AppTest) -> str:
    kinds = [app.error, app.warning, app.info, app.success, app.markdown, app.caption, app.header]
    shown = "\n".join(element.value for kind in kinds for element in kind)
    return html.unescape(shown).replace("\u2060", "")


def table(app: AppTest, column: str) -> Any:
    """The only table that has the column."""
    (found,) = [frame.value for frame in app.dataframe if column in frame.value]
    return found


def add_version(store: Store, **fields: Any) -> ModelVersionView:
    with store.writing() as db:
        return make_version(db, **fields)


def examine(store: Store, version: ModelVersionView, examination: Examination = EXAMINED) -> None:
    with store.writing() as db:
        record_evaluation(
            db,
            actor=SYSTEM,
            version_id=version.id,
            dataset_version_id=None,
            job_id=None,
            split="test",
            num_rows=examination.num_rows,
            examination_json=examination.to_json(),
        )


def freeze(store: Store, number: int = 240, *, test_percent: float = 30) -> DatasetVersionView:
    with store.writing() as db:
        # prompts that are nearly the same would all go to one part
        add_rated(
            db, [replace(row, prompt=f"What is {uuid.uuid4()}?") for row in make_rows(number)]
        )
    with store.reading() as db:
        staged = stage_rows(
            db, params=DatasetParams(), split=SplitParams(test_percent=test_percent)
        )
    with store.writing() as db:
        return freeze_version(db, actor=SYSTEM, name="ratings", staged=staged).version


def test_figures_stand_beside_baselines_and_ceiling(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    examine(store, add_version(store))
    figures = table(open_page(), "Length alone")
    auc, accuracy, ece = (figures.iloc[row] for row in range(3))
    assert (auc["This version"], auc["Length alone"]) == (0.74, 0.66)
    assert auc["95 % interval"] == "0.701 to 0.780"
    assert accuracy["Majority"] == 0.55
    assert accuracy["Raters agree"] == 0.77
    assert ece["95 % interval"] == ""


def test_reliability_has_its_numbers_as_a_table(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    examine(store, add_version(store))
    bins = table(open_page(), "Model says good")
    assert list(bins["Model says good"]) == [0.2, 0.8]
    assert list(bins["Rows"]) == [90, 110]


def test_confusion_counts_and_shares(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    examine(store, add_version(store))
    app = open_page()
    counts = app.table[0].value
    assert list(counts["Model says good"]) == ["80 (40%)", "30 (15%)"]
    assert list(counts["Model says bad"]) == ["34 (17%)", "56 (28%)"]
    assert "136 of 200 as people say" in texts(app)


def test_small_slice_is_marked(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    examine(store, add_version(store))
    app = open_page()
    slices = table(app, "Slice")
    assert list(slices["Slice"]) == ["en", "de"]
    assert list(slices["95 % interval"]) == ["0.700 to 0.800", ""]
    assert "fewer than 30 rows" in texts(app)


def test_leaked_prompts_are_a_warning(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    version = add_version(store)
    examine(store, version)
    assert "None of the 80 prompts was trained on" in texts(open_page())
    leaked = replace(EXAMINED, leakage=Leakage(num_prompts=80, num_seen=12, num_near=4))
    examine(store, version, leaked)
    app = open_page()
    assert "20% of the prompts leaked" in texts(app)
    assert "12 of 80 were trained on" in texts(app)


def test_model_that_does_no_better_than_length_is_doubted(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    version = add_version(store)
    examine(store, version)
    assert "No better than" not in texts(open_page())
    examine(store, version, replace(EXAMINED, metrics={"auc": 0.655}))
    assert "AUC is 0.655, and 0.660 for: length alone" in texts(open_page())


def test_worst_mistakes_lead_to_their_interactions(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        kept = make_interaction(db, prompt="Why is ![x](http://e.org/x.png) here?").id
    worst = (
        Mistake(row=3, interaction_id=str(kept), reward=0.97, rating=1.0, error=0.97),
        Mistake(row=9, interaction_id=str(uuid.uuid4()), reward=0.1, rating=5.0, error=0.9),
    )
    examine(store, add_version(store), replace(EXAMINED, worst=worst))
    app = open_page()
    said = texts(app)
    assert "The model says **97%** good, people rated it **1** of 5" in said
    assert "Why is ![x](http" in said
    assert "![" not in "".join(element.value for element in app.markdown)
    assert "The interaction is gone." in said
    links = [link.proto for link in app.get("page_link") if link.proto.label == "Open"]
    assert [link.query_string for link in links] == [f"item={kept}"]


def test_pair_in_the_wrong_order_shows_both_completions(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        better = make_interaction(db, prompt="Why?", completion="Since it rains.").id
        worse = make_interaction(db, prompt="Why?", completion="Just so.").id
    worst = (
        Mistake(row=0, interaction_id=str(better), reward=0.2, rating=2.0, error=0.6,
                other_interaction_id=str(worse), other_reward=0.8),
    )  # fmt: skip
    examined = replace(EXAMINED, purpose="preferences", worst=worst, confusion={}, reliability=())
    examine(store, add_version(store), examined)
    said = texts(open_page())
    assert "gives the better one **0.20**, the worse one **0.80**" in said
    assert "Since it rains." in said
    assert "Just so." in said
    assert "not judged one by one" in said


def test_steps_are_right_or_wrong_and_not_good_or_bad(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        kept = make_interaction(db, prompt="What is 2 plus 2?").id
    worst = (Mistake(row=0, interaction_id=str(kept), reward=0.9, rating=0.0, error=0.9),)
    examined = replace(EXAMINED, purpose="steps", threshold=0.3, worst=worst)
    examine(store, add_version(store), examined)
    app = open_page()
    assert list(app.table[0].value.columns) == ["Model says right", "Model says wrong"]
    said = texts(app)
    assert "gives **90%** to no mistake in it, people found **a mistake**" in said
    assert "Good is a rating" not in said


def test_latest_evaluation_shows_first_and_others_can_be_chosen(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ANALYST)
    version = add_version(store)
    examine(store, version)
    examine(store, version, replace(EXAMINED, num_rows=20, metrics={"auc": 0.6}))
    app = open_page()
    assert list(table(app, "Length alone")["This version"]) == [0.6]
    choice = app.selectbox(key=f"evaluation_{version.id}")
    choice.select_index(1).run(timeout=30)
    assert table(app, "Length alone")["This version"][0] == 0.74


def test_version_without_an_evaluation_says_so(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    add_version(store)
    assert "Not evaluated on frozen rows yet" in texts(open_page())


def test_ensemble_shows_its_members_and_their_spread(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    details = {
        "members": [{"seed": 0, "metrics": {"auc": 0.7}}, {"seed": 1, "metrics": {"auc": 0.74}}],
        "metrics_spread": {"auc": 0.02},
        "judge": "reward-judge v1",
    }
    add_version(store, details=details, metrics={"auc": 0.72})
    app = open_page()
    members = table(app, "Member")
    assert list(members["Member"])[:2] == ["seed 0", "seed 1"]
    assert list(members["AUC"]) == [0.7, 0.74, 0.72, 0.02]
    assert "held-out judge is **reward-judge v1**" in texts(app)


def test_link_to_a_judge_opens_its_model(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    add_version(store)
    judge = add_version(store, model_name="reward-judge", details={"role": "judge"})
    app = open_page(version=str(judge.id))
    assert html.unescape(app.header[0].value) == "reward-judge v1"
    assert "rewards no policy" in texts(app)
    app.selectbox(key="model").set_value("reward").run(timeout=30)
    assert app.header[0].value == "reward v1"


def test_evaluation_is_queued_for_the_part_of_the_dataset(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    dataset, version = freeze(store), add_version(store)
    app = open_page()
    parts = app.radio(key=f"evaluate_part_{dataset.id}")
    counts = dataset.card["parts"]
    assert parts.options == [
        f"test ({counts['test']})", "all rows (240)", f"training ({counts['train']})"
    ]  # fmt: skip
    app.button(key="evaluate_start").click().run(timeout=30)
    assert not app.exception
    with store.reading() as db:
        (job,) = jobs.list_jobs(db, kind=JobKind.EVALUATE)
    assert job.params == {
        "version_id": str(version.id), "dataset": "ratings", "number": 1, "split": "test"
    }  # fmt: skip


def test_same_evaluation_twice_is_refused_with_a_sentence(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    freeze(store)
    add_version(store)
    open_page().button(key="evaluate_start").click().run(timeout=30)
    app = open_page()
    app.button(key="evaluate_start").click().run(timeout=30)
    assert "The same work is under way" in texts(app)


def test_without_a_fitting_dataset_nothing_can_be_evaluated_on(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    add_version(store)
    app = open_page()
    assert "No frozen dataset fits" in texts(app)
    assert "evaluate_start" not in [button.key for button in app.button]


def test_scoring_of_stored_interactions_is_queued_and_its_state_shown(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    version = add_version(store)
    with store.writing() as db:
        first = make_interaction(db).id
        make_interaction(db)
    app = open_page()
    assert "None of 2 stored interactions" in texts(app)
    app.button(key="score_stored").click().run(timeout=30)
    with store.reading() as db:
        (job,) = jobs.list_jobs(db, kind=JobKind.SCORE)
    assert job.params["version_id"] == str(version.id)
    with store.writing() as db:
        store_rewards(db, version.id, {first: 0.5}, actor=SYSTEM)
    assert "1 of 2 stored interactions scored, mean reward 0.50" in texts(open_page())
