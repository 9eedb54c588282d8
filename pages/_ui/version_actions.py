"""What may be done with a version beside promoting it: examine it on frozen rows, let it score."""

import streamlit as st

from pages._ui.data import read_dataset_versions
from pages._ui.launch_policy_choice import REWARD_KINDS, name_version
from pages._ui.messages import reporting
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.dataset.service import DatasetVersionView
from rlhf_core.jobs.evaluate import ALL, enqueue_evaluate
from rlhf_core.jobs.evaluate_policy import enqueue_evaluate_policy
from rlhf_core.jobs.examining import JUDGED
from rlhf_core.jobs.score_interactions import enqueue_score
from rlhf_core.jobs.service import JobView
from rlhf_core.registry.scores import ScoringState, get_scoring_state
from rlhf_core.registry.service import list_versions as list_model_versions
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DatasetPurpose, ModelKind, Split

RUNS = "pages/train/runs.py"
PART_NAMES = {
    Split.TEST.value: "test",
    Split.VALIDATION.value: "validation",
    ALL: "all rows",
    Split.TRAIN.value: "training",
}


def show_actions(version: ModelVersionView, actor: Actor) -> None:
    """What there is to start, and how far the stored interactions are scored."""
    if version.is_policy:  # of another server's there is nothing to examine here
        if version.kind is ModelKind.POLICY and actor.may(Permission.RUN_JOBS):
            with (
                st.container(horizontal=True, key="version_actions"),
                st.popover("Evaluate on prompts", icon=":material/query_stats:", key="evaluate_on"),
            ):
                _ask_prompts(version, actor)
        return
    with get_store().reading() as db:
        state = get_scoring_state(db, version.id, actor=actor)
    with st.container(horizontal=True, vertical_alignment="center", key="version_actions"):
        if actor.may(Permission.RUN_JOBS):
            with st.popover(
                "Evaluate on a dataset", icon=":material/query_stats:", key="evaluate_on"
            ):
                _ask_dataset(version, actor)
            if st.button(
                "Score stored interactions",
                icon=":material/speed:",
                key="score_stored",
                disabled=not state.num_missing,
                help="Gives every stored interaction this version's reward.",
            ):
                _start_scoring(version, actor)
        st.caption(describe_scoring(state), width="content")


def describe_scoring(state: ScoringState) -> str:
    """How far the stored interactions are scored, in words."""
    if not state.num_interactions:
        return "No interactions are stored."
    if not state.num_scored:
        return f"None of {state.num_interactions:,} stored interactions is scored by it."
    mean = "" if state.mean is None else f", mean reward {state.mean:.2f}"
    return f"{state.num_scored:,} of {state.num_interactions:,} stored interactions scored{mean}."


def fitting(
    version: ModelVersionView, datasets: list[DatasetVersionView]
) -> list[DatasetVersionView]:
    """The datasets whose rows say what such a model can be measured by."""
    is_stepped = version.kind is ModelKind.REWARD_STEPS
    purposes = (*JUDGED, DatasetPurpose.STEPS) if is_stepped else JUDGED
    return [dataset for dataset in datasets if dataset.purpose in purposes]


def _ask_dataset(version: ModelVersionView, actor: Actor) -> None:
    offered = fitting(version, read_dataset_versions(actor))
    if not offered:
        st.caption("No frozen dataset fits this model: freeze one on the page Datasets.")
        return
    dataset = st.selectbox(
        "Dataset",
        offered,
        format_func=lambda each: f"{each.name} · {each.num_rows:,} rows",
        key="evaluate_dataset",
    )
    parts = name_parts(dataset)
    part = st.radio(
        "Rows", list(parts), format_func=parts.__getitem__, key=f"evaluate_part_{dataset.id}"
    )
    if st.button("Start the evaluation", type="primary", key="evaluate_start"):
        with reporting():
            with get_store().writing() as db:
                job = enqueue_evaluate(
                    db,
                    actor=actor,
                    version_id=version.id,
                    dataset=dataset.dataset,
                    number=dataset.number,
                    split=part,
                )
            _follow(job)
    # below the button, which thus stays where it is
    if part != Split.TEST.value and dataset.id == version.dataset_version_id:
        st.caption("It was trained on some of these rows: its figures will look too good.")


def _ask_prompts(version: ModelVersionView, actor: Actor) -> None:
    """Of a policy: on which prompts, and who judges."""
    with get_store().reading() as db:
        versions = list_model_versions(db, actor=actor)
    offered = [
        each for each in read_dataset_versions(actor) if each.purpose is DatasetPurpose.PROMPTS
    ]
    if not offered:
        st.caption("No frozen dataset holds prompts: freeze one on the page Datasets.")
        return
    dataset = st.selectbox(
        "Prompts",
        offered,
        format_func=lambda each: f"{each.name} · {each.num_rows:,} prompts",
        key="evaluate_dataset",
    )
    parts = name_parts(dataset)
    part = st.radio("Part", list(parts), format_func=parts.__getitem__,
                    key=f"evaluate_part_{dataset.id}")  # fmt: skip
    judges = {name_version(one): one.name for one in versions if one.kind in REWARD_KINDS}
    judge = st.selectbox(
        "Judge",
        ["", *judges],
        format_func=lambda name: judges.get(name, "that of its training, else what serves"),
        key="evaluate_judge",
        help="Best one that the policy did not learn from.",
    )
    if st.button("Start the evaluation", type="primary", key="evaluate_start"):
        with reporting():
            with get_store().writing() as db:
                job = enqueue_evaluate_policy(
                    db,
                    actor=actor,
                    version_id=version.id,
                    dataset=dataset.dataset,
                    number=dataset.number,
                    judge=judge or None,
                    split=part,
                )
            _follow(job)


def name_parts(dataset: DatasetVersionView) -> dict[str, str]:
    """The parts that hold rows, in words and with how many."""
    counts = dataset.card.get("parts") or {}
    return {
        part: f"{name} ({dataset.num_rows if part == ALL else counts[part]:,})"
        for part, name in PART_NAMES.items()
        if part == ALL or counts.get(part)
    }


def _start_scoring(version: ModelVersionView, actor: Actor) -> None:
    with reporting():
        with get_store().writing() as db:
            job = enqueue_score(db, actor=actor, version_id=version.id)
        _follow(job)


def _follow(job: JobView) -> None:
    st.switch_page(RUNS, query_params={"run": str(job.id)})
