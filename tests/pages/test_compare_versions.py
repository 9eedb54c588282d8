"""The page Compare versions: figures, slices, disagreements, what made versions different."""

import html
import re
from collections.abc import Callable
from uuid import UUID

import pytest
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.jobs.service import list_jobs
from rlhf_core.queues.service import list_queues
from rlhf_core.registry.comparisons import ComparisonView, read_rows, record_comparison
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetPurpose, JobKind, ModelKind, QueueSubject, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.jobs.test_evaluate import freeze
from tests.core.registry.compared import add_rows, make_comparison
from tests.core.registry.world import make_version

SignIn = Callable[[Role], Actor]
EVIL = "![x](http://evil.example/x.png) <b>bold</b>"


def open_page(**params: str) -> AppTest:
    app = AppTest.from_file(SOURCE_ROOT / "app.py", default_timeout=60).run()
    for name, value in params.items():
        app.query_params[name] = value
    return app.switch_page("pages/models/compare_versions.py").run()


def texts(app: AppTest) -> str:
    assert not app.exception
    kinds = [app.error, app.warning, app.info, app.success, app.markdown, app.caption, app.text]
    shown = "\n".join(str(element.value) for kind in kinds for element in kind)
    shown = re.sub(r"&#(\d+);", lambda match: chr(int(match[1])), shown)
    return html.unescape(shown).replace("\u2060", "")


def show(app: AppTest, part: str) -> AppTest:
    (control,) = [one for one in app.segmented_control if str(one.key).startswith("compared_part")]
    return control.set_value(part).run()


@pytest.fixture
def kept(store: Store) -> ComparisonView:
    with store.writing() as db:
        return make_comparison(db, add_rows(db, 60))


def test_without_a_second_version_the_page_leads_to_launch(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    assert "Nothing to compare yet" in texts(open_page())


def test_figures_stand_beside_each_other_with_the_verdict(
    store: Store, sign_in_as: SignIn, kept: ComparisonView
) -> None:
    sign_in_as(Role.ANALYST)
    app = open_page()
    shown = texts(app)
    assert "60 rows of 60 prompts" in shown
    assert "reward v2 against reward v1, AUC: +0" in shown
    assert "It is better." in shown
    assert "left out because a model had learned from them: reward v2 3." in shown
    table = next(frame.value for frame in app.dataframe if "Measure" in frame.value)
    assert list(table.columns) == ["Measure", "reward v1", "reward v2", "reward v2, difference"]
    accuracy = table[table["Measure"].str.startswith("Accuracy")].iloc[0]
    assert (accuracy["reward v1"], accuracy["reward v2"]) == (0.6, 0.9)
    assert re.fullmatch(r"\+0\.300 \(\+0\.\d+ to \+0\.\d+\), better", accuracy.iloc[3])
    assert {chart.key for chart in app.get("plotly_chart")} == {
        "calibration_chart", "distribution_chart",
    }  # fmt: skip
    assert "compare_start" not in {button.key for button in app.button}
    assert not any(str(button.key).startswith("ask_people") for button in app.button)


def test_one_click_asks_people_and_their_word_enters_the_table(
    store: Store, sign_in_as: SignIn, kept: ComparisonView
) -> None:
    actor = sign_in_as(Role.TRAINER)
    app = open_page(comparison=str(kept.id))
    (button,) = [one for one in app.button if str(one.key).startswith("ask_people")]
    assert "18 answers" in button.label
    button.click().run()
    with store.reading() as db:
        (queue,) = list_queues(db, actor=actor)
    assert (queue.subject, queue.is_blind, queue.num_items) == (QueueSubject.COMPLETIONS, True, 18)
    assert "nobody has judged yet" in texts(app)
    rows = {row["interaction_id"]: row for row in read_rows(kept)[:18]}
    with store.writing() as db:
        rater = make_actor(db)
        for interaction, row in rows.items():
            make_feedback(db, UUID(interaction), actor=rater, rating=5 if row["is_good"] else 1)
    app.run()
    assert "People side with reward v2 against reward v1 in 100% of 18 answers" in texts(app)
    table = next(frame.value for frame in app.dataframe if "Measure" in frame.value)
    people = table[table["Measure"].str.startswith("People side")].iloc[0]
    assert (people["reward v2"], people["reward v1"]) == (1.0, 0.0)


def test_slices_and_disagreements_are_shown_with_texts_as_they_are(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        kept = make_comparison(db, add_rows(db, 24, prompt=EVIL), knows=(5, 8, 10))
    app = show(open_page(comparison=str(kept.id)), "By slice")
    table = next(frame.value for frame in app.dataframe if "Slice" in frame.value)
    assert {"Source: app", "Source: web"} <= set(table["Slice"])
    assert "reward v3, difference" in table
    show(app, "Disagreements")
    shown = texts(app)
    assert "furthest apart on, of 24" in shown
    assert any(element.value.startswith(EVIL) for element in app.text)
    assert not any(EVIL in str(element.value) for element in app.markdown)
    assert "People: **5** of 5" in shown or "People: **1** of 5" in shown


def test_what_made_versions_different_needs_no_comparison(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        ids = [make_interaction(db).id for _ in range(4)]
        rater = make_actor(db)
        for one in ids[:3]:
            make_feedback(db, one, actor=rater, rating=5)
    first = freeze(store, "ratings", DatasetParams())
    with store.writing() as db:
        make_feedback(db, ids[3], actor=rater, rating=1)
    second = freeze(store, "ratings", DatasetParams())
    with store.writing() as db:
        for dataset in (first, second):
            make_version(db, dataset_version_id=dataset.id, details={"num_rows": dataset.num_rows})
    app = open_page()
    assert "not compared on the same rows yet" in texts(app)
    show(app, "Parameters")
    table = next(frame.value for frame in app.dataframe if "Parameter" in frame.value)
    assert set(table["Parameter"]) == {"dataset"}
    show(app, "Data")
    assert "learned from ratings v2" in texts(app)
    rows = app.dataframe[0].value
    assert list(rows["In both"]) == [3, 3]
    assert list(rows["Only in ratings v2"]) == [1, 1]
    show(app, "Learning curves")
    assert "Without a run that is still known: reward v2, reward v1." in texts(app)


def test_a_link_names_the_versions_and_which_comes_first(
    store: Store, sign_in_as: SignIn, kept: ComparisonView
) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        third = make_version(db)
    app = open_page(versions=f"{third.id},{kept.version_ids[0]}")
    (chosen,) = app.multiselect
    assert chosen.value == [str(third.id), str(kept.version_ids[0])]
    chosen.set_value([str(third.id)]).run()
    assert "Choose two versions or more." in texts(app)


def test_a_linked_comparison_of_another_model_opens_it(
    store: Store, sign_in_as: SignIn, kept: ComparisonView
) -> None:
    sign_in_as(Role.ANALYST)
    figures = {"purpose": "scores", "deciding": None, "versions": {}, "differences": {}}
    with store.writing() as db:
        versions = [make_version(db, model_name="a model") for _ in range(2)]
        other = record_comparison(
            db, actor=SYSTEM, versions=versions, dataset_version_id=None, job_id=None,
            split="test", num_rows=7, artifact=None,
            result={**figures, "baseline": str(versions[0].id)},
        )  # fmt: skip
    app = open_page()
    assert "7 rows, test part of" in texts(app)
    assert "60 rows of 60 prompts" in texts(open_page(comparison=str(kept.id)))
    assert "7 rows, test part of" in texts(open_page(comparison=str(other.id)))
    assert "7 rows, test part of" in texts(open_page(comparison="none"))


def test_policies_are_offered_prompts_first(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        for _ in range(2):
            make_version(db, model_name="assistant", kind=ModelKind.POLICY)
        make_feedback(db, make_interaction(db).id, actor=make_actor(db), rating=5)
    freeze(store, "answers", DatasetParams())
    freeze(store, "prompts", DatasetParams(purpose=DatasetPurpose.PROMPTS))
    (rows,) = [one for one in open_page().selectbox if one.key == "compare_dataset"]
    assert [option.split()[0] for option in rows.options] == ["prompts", "answers"]


def test_trainer_starts_a_comparison_of_the_chosen_versions(
    store: Store, sign_in_as: SignIn, kept: ComparisonView
) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        make_feedback(db, make_interaction(db).id, actor=make_actor(db), rating=5)
    freeze(store, "ratings", DatasetParams())
    app = open_page()
    assert "less than a minute" in texts(app)
    app.button(key="compare_start").click().run()
    with store.reading() as db:
        (job,) = list_jobs(db, kind=JobKind.COMPARE_VERSIONS)
    assert job.params["version_ids"] == [str(one) for one in kept.version_ids]
    assert (job.params["split"], job.params["with_learned"]) == ("all", False)


def test_answers_of_policies_stand_beside_each_other(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        versions = [make_version(db, model_name="assistant") for _ in range(2)]
        first, second = (str(version.id) for version in versions)
        figure = {"value": 0.2, "low": -0.1, "high": 0.5}
        record_comparison(
            db, actor=SYSTEM, versions=versions, dataset_version_id=None, job_id=None,
            split="test", num_rows=1, artifact=None,
            result={
                "purpose": "policy", "baseline": first, "deciding": "reward", "num_prompts": 1,
                "versions": {one: {"reward": {"value": 0.3}} for one in (first, second)},
                "differences": {second: {"reward": figure}}, "slices": [],
                "judge": {"name": "rule:short"},
                "samples": [{
                    "prompt": EVIL, "answers": {first: "Step one.\n\nStep two.", second: "No."},
                    "rewards": {first: 0.1, second: 0.5},
                }],
            },
        )  # fmt: skip
    app = open_page()
    assert "judged by rule:short" in texts(app)
    assert "That may be chance." in texts(app)
    show(app, "Answers")
    shown = texts(app)
    assert "reward 0.100 · 4 words · 2 steps" in shown
    assert "**assistant v2** :material/trophy:" in shown
    assert EVIL in [element.value for element in app.text]
