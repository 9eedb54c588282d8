"""What to train, and on which rows: the choices at the head of the launch page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from pages._ui.data import read_dataset_versions, read_filter_values, read_readiness
from pages._ui.messages import plain
from pages._ui.readiness_panel import ROW_NAMES
from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.readiness import Readiness
from rlhf_core.dataset.service import DatasetVersionView
from rlhf_core.jobs.policy_params import TrainPolicyParams
from rlhf_core.jobs.reward_advice import ENOUGH_TO_TUNE, Recommendation, recommend
from rlhf_core.jobs.train_params import LEARNERS, TrainRewardParams
from rlhf_core.vocabulary import DatasetPurpose, JobKind, MergeRule, TieRule

LEARNER_NAMES = {
    JobKind.TRAIN_SBERT: "Sentence embeddings",
    JobKind.TRAIN_TRANSFORMER: "Transformer",
    JobKind.TRAIN_STEPS: "Steps",
}
LEARNER_CAPTIONS = {
    JobKind.TRAIN_SBERT: "Works from 50 ratings and trains in seconds; small, fast to serve.",
    JobKind.TRAIN_TRANSFORMER: "Fine-tunes a language model on ratings or pairs. The most exact "
    f"from about {ENOUGH_TO_TUNE:,} rows on; takes minutes to hours.",
    JobKind.TRAIN_STEPS: "Learns from step labels where reasoning goes wrong; scores each step.",
}
SOURCES_OF_ROWS = {
    DatasetPurpose.SCORES: "Ratings, 1 to 5",
    DatasetPurpose.PREFERENCES: "Pairs, one better than the other",
    DatasetPurpose.UNPAIRED: "Thumbs up and down",
    DatasetPurpose.STEPS: "Labels of reasoning steps",
    DatasetPurpose.SFT: "Good completions and corrections",
    DatasetPurpose.PROMPTS: "Prompts",
}
MERGE_NAMES = {
    MergeRule.MEAN: "their mean",
    MergeRule.MAJORITY: "what most of them say",
    MergeRule.WEIGHTED: "their mean, weighted by how reliable each is",
}
TIE_NAMES = {TieRule.DROP: "left out", TieRule.KEEP: "kept, with margin 0"}
Start = TrainRewardParams | TrainPolicyParams
"""What a run was asked for, where it is copied."""
ABOUT_TEST = (
    "The model never sees them; its figures are measured on them. With fewer than 200 rows none "
    "are kept, and the figures come from cross-validation."
)
HELP_ON_GOOD = {
    DatasetPurpose.SCORES: "The model learns how likely people are to rate a completion this or "
    "better. A thumb up counts as 5, a thumb down as 1, a neutral one is left out.",
    DatasetPurpose.UNPAIRED: "A completion rated this or better counts as a thumb up, one rated "
    "worse as a thumb down.",
    DatasetPurpose.SFT: "The policy imitates completions that are rated this or better, and "
    "corrections.",
}
NOW = "What there is now, frozen at the start"
ALL = ""  # None would be no choice at all, which can be cleared
THRESHOLDS = [3.0, 3.5, 4.0, 4.5, 5.0]


@dataclass(frozen=True)
class Rows:
    """What a run learns from: `version`, or what there is now as `params` says."""

    params: DatasetParams
    version: DatasetVersionView | None = None
    test_percent: float = 20.0


def find_recommendation(actor: Actor) -> Recommendation:
    """The recommendation for all that is stored."""
    scored = read_readiness(actor, DatasetParams(purpose=DatasetPurpose.SCORES))
    if scored.have >= ENOUGH_TO_TUNE:
        return recommend(scored.have, 0, 0, need=scored.need)
    paired = read_readiness(actor, DatasetParams(purpose=DatasetPurpose.PREFERENCES))
    stepped = read_readiness(actor, DatasetParams(purpose=DatasetPurpose.STEPS))
    return recommend(scored.have, paired.have, stepped.have, need=scored.need)


def choose_learner(found: Recommendation, start: JobKind | None) -> JobKind:
    """The learner, the recommended one first; `start` is chosen at first."""
    learners = [found.learner, *(kind for kind in LEARNERS if kind is not found.learner)]
    captions = [LEARNER_CAPTIONS[kind] for kind in learners]
    captions[0] += f" {found.why}"

    def name(kind: JobKind) -> str:
        return LEARNER_NAMES[kind] + (" (recommended)" if kind is found.learner else "")

    chosen = st.radio(
        "Train",
        learners,
        index=0 if start is None else learners.index(start),
        format_func=name,
        captions=captions,
        key="learner",
    )
    return chosen or found.learner


def choose_rows(
    actor: Actor,
    learner: JobKind,
    purposes: Sequence[DatasetPurpose],
    start: Start | None,
    *,
    about_test: str = ABOUT_TEST,
) -> Rows:
    """The kind of rows, and whether they are frozen now or were before."""
    left, right = st.columns(2)
    started = start.rows.purpose if start is not None else purposes[0]
    purpose = started if started in purposes else purposes[0]
    if len(purposes) > 1:
        purpose = left.selectbox(
            "Learn from",
            purposes,
            index=purposes.index(purpose),
            format_func=lambda each: SOURCES_OF_ROWS[each],
            key=f"purpose_{learner.value}",
            help="Pairs come from comparisons, from two rated completions of one prompt, and from "
            "corrections.",
        )
    params = DatasetParams(purpose=purpose)
    if start is not None and started is purpose:
        params = start.rows
    versions = [each for each in read_dataset_versions(actor) if each.purpose is purpose]
    place = right if len(purposes) > 1 else left
    offered: list[DatasetVersionView | str] = [NOW, *versions]
    version = place.selectbox(
        "Dataset",
        offered,
        index=_find_started(offered, start),
        format_func=_name_version,
        key=f"dataset_{purpose.value}",
        help="A run freezes its rows first, so that it can be repeated. Choose a frozen version to "
        "compare learners on the same rows.",
    )
    if isinstance(version, DatasetVersionView):
        # the parameters are those of the version's rows; what counts as good may still be chosen
        threshold = float(version.params.get("threshold") or 4.0)
        if start is not None and _is_of(version, start):
            threshold = start.rows.threshold
        return Rows(
            DatasetParams(purpose=purpose, threshold=_ask_threshold(purpose, threshold)),
            version=version,
        )
    params = replace(params, threshold=_ask_threshold(purpose, params.threshold))
    test_percent = 20.0 if start is None else start.test_percent
    return _ask_more(actor, params, test_percent, about_test)


def show_version(version: DatasetVersionView, need: int) -> bool:
    """What a frozen version holds; false where that is too little."""
    parts = version.card.get("parts") or {}
    with st.container(horizontal=True, key="version_counts"):
        st.metric(ROW_NAMES[version.purpose], f"{version.num_rows:,}", border=True)
        st.metric("Prompts", f"{version.num_groups:,}", border=True)
        st.metric("To learn from", f"{version.num_rows - parts.get('test', 0):,}", border=True)
        st.metric("For the test", f"{parts.get('test', 0):,}", border=True)
    if version.num_rows < need:
        st.warning(
            f"{plain(version.name)} has {version.num_rows:,} rows, at least {need:,} are needed: "
            "choose another version.",
            icon=":material/info:",
        )
        return False
    return True


def is_empty(ready: Readiness) -> bool:
    """Whether there is nothing at all that rows of this purpose could be made of."""
    return ready.have == 0 and not ready.left_out


def _name_version(version: DatasetVersionView | str) -> str:
    if isinstance(version, str):
        return version
    return f"{version.name} · {version.num_rows:,} rows · {version.created_at:%Y-%m-%d}"


def _is_of(version: DatasetVersionView, start: Start) -> bool:
    return start.number == version.number and start.dataset == version.dataset


def _find_started(offered: list[DatasetVersionView | str], start: Start | None) -> int:
    """The place of the version that a copied run learned from; else of what there is now."""
    for place, version in enumerate(offered):
        if start is not None and isinstance(version, DatasetVersionView) and _is_of(version, start):
            return place
    return 0


def _ask_threshold(purpose: DatasetPurpose, default: float) -> float:
    if purpose not in HELP_ON_GOOD:
        return default
    thresholds = sorted({*THRESHOLDS, default})
    return st.radio(
        "A completion is good from a rating of",
        thresholds,
        index=thresholds.index(default),
        horizontal=True,
        format_func=lambda value: f"{value:g}",
        key=f"threshold_{purpose.value}_{default:g}",
        help=HELP_ON_GOOD[purpose],
    )


def _ask_more(actor: Actor, params: DatasetParams, test_percent: float, about_test: str) -> Rows:
    """Filters and rules that most people leave as they are."""
    with st.expander("Which rows", key="which_rows"):
        left, middle, right = st.columns(3)
        known, filters = read_filter_values(actor), params.filters
        sources = _with(filters.source, known.sources)
        source = left.selectbox(
            "Learn from the source",
            sources,
            index=sources.index(filters.source or ALL),
            format_func=lambda name: name or "all sources",
            key="source",
        )
        actions = _with(filters.action_type, known.action_types)
        action_type = middle.selectbox(
            "Action",
            actions,
            index=actions.index(filters.action_type or ALL),
            format_func=lambda name: name or "all actions",
            key="action_type",
        )
        kept_percent = right.number_input(
            "Prompts kept for the test (%)",
            min_value=0,
            max_value=50,
            value=int(test_percent),
            step=5,
            key="test_percent",
            help=about_test,
        )
        params = _ask_rules(params)
        st.page_link(
            "pages/train/datasets.py",
            label="More filters, and the rows themselves",
            icon=":material/dataset:",
        )
    filters = replace(filters, source=source or None, action_type=action_type or None)
    return Rows(replace(params, filters=filters), test_percent=float(kept_percent))


def _with(chosen: str | None, known: Sequence[str]) -> list[str]:
    """All, what is known, and what a copied run chose though it is gone by now."""
    return list(dict.fromkeys([ALL, *known, *([chosen] if chosen else [])]))


def _ask_rules(params: DatasetParams) -> DatasetParams:
    if params.purpose in (DatasetPurpose.STEPS, DatasetPurpose.PROMPTS):
        return params
    left, right = st.columns(2)
    merge = left.selectbox(
        "Several raters of one completion count as",
        list(MergeRule),
        index=list(MergeRule).index(params.merge),
        format_func=lambda rule: MERGE_NAMES[rule],
        key="merge",
    )
    if params.purpose is not DatasetPurpose.PREFERENCES:
        return replace(params, merge=merge)
    ties = right.selectbox(
        "Ties are",
        list(TieRule),
        index=list(TieRule).index(params.ties),
        format_func=lambda rule: TIE_NAMES[rule],
        key="ties",
    )
    return replace(params, merge=merge, ties=ties)
