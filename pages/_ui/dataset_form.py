"""Choosing what a dataset is made of: its purpose, which interactions, how raters become rows."""

from datetime import UTC, date, datetime, time, timedelta

import streamlit as st

from pages._ui.data import read_filter_values
from pages._ui.failure_choice import ask_cluster, find_wanted
from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.params import DatasetParams, Filters
from rlhf_core.vocabulary import (
    DatasetPurpose,
    DisputeRule,
    MergeRule,
    PairOrigin,
    RaterKind,
    TieRule,
)

PURPOSES = {
    DatasetPurpose.SCORES: (
        "Scores",
        "Completions with the mean of their ratings, to train a reward model.",
    ),
    DatasetPurpose.PREFERENCES: (
        "Preference pairs",
        "Two answers to one prompt, the better one named: for a reward model, or DPO.",
    ),
    DatasetPurpose.UNPAIRED: (
        "Thumbs",
        "Completions called good or bad, without a partner: for a reward model, or KTO.",
    ),
    DatasetPurpose.STEPS: (
        "Steps",
        "Reasoning in steps, each labelled right or wrong, for a process reward model.",
    ),
    DatasetPurpose.SFT: (
        "Demonstrations",
        "Completions to imitate: rated good, or corrected by a person.",
    ),
    DatasetPurpose.PROMPTS: (
        "Prompts",
        "Each prompt once, to sample completions for while a policy is trained.",
    ),
}
EVERYBODY = "everybody"
RATER_KINDS = {
    EVERYBODY: "Everybody",
    RaterKind.SME: "Experts",
    RaterKind.END_USER: "End users",
    RaterKind.MODEL: "Models",
}
MERGES = {
    MergeRule.MEAN: "Mean",
    MergeRule.MAJORITY: "Majority",
    MergeRule.WEIGHTED: "Weighted by reliability",
}
ORIGINS = {
    PairOrigin.COMPARISON: "Comparisons",
    PairOrigin.RATINGS: "Two rated answers",
    PairOrigin.CORRECTION: "Corrections",
}
TIES = {TieRule.DROP: "Leave out", TieRule.KEEP: "Keep, with margin 0"}
DISPUTES = {DisputeRule.KEEP: "Keep", DisputeRule.DROP: "Leave out"}
THRESHOLDS = [2.0, 3.0, 3.5, 4.0, 4.5, 5.0]
RATED = (
    DatasetPurpose.SCORES,
    DatasetPurpose.PREFERENCES,
    DatasetPurpose.UNPAIRED,
    DatasetPurpose.SFT,
)
MERGED = (*RATED, DatasetPurpose.STEPS)
DEFAULTS = DatasetParams()


def ask_params(actor: Actor) -> DatasetParams:
    """The purpose and everything else; what a purpose does not use is not asked."""
    purpose = st.segmented_control(
        "What it trains",
        list(PURPOSES),
        format_func=lambda purpose: PURPOSES[purpose][0],
        default=DatasetPurpose.SCORES,
        required=True,
        key="dataset_purpose",
    )
    st.caption(PURPOSES[purpose][1])
    left, right = st.columns(2)
    with (
        left,
        st.expander("Which interactions", key="dataset_filters", expanded=bool(find_wanted())),
    ):
        filters = _ask_filters(actor, purpose)
    if purpose is DatasetPurpose.PROMPTS:
        return DatasetParams(purpose=purpose, filters=filters)
    with right, st.expander("How feedback becomes rows", key="dataset_rules"):
        return _ask_rules(purpose, filters)


def _ask_filters(actor: Actor, purpose: DatasetPurpose) -> Filters:
    values = read_filter_values(actor)
    source = _choose("Source", values.sources, "dataset_source")
    action_type = _choose("Action type", values.action_types, "dataset_action")
    model_name = _choose("Model that answered", values.model_names, "dataset_model")
    with st.container(horizontal=True):
        since = st.date_input("From (UTC)", value=None, key="dataset_since", width=160)
        until = st.date_input("To, included", value=None, key="dataset_until", width=160)
    rater_kind, min_raters = EVERYBODY, 1
    if purpose is not DatasetPurpose.PROMPTS:
        rater_kind = st.segmented_control(
            "Feedback of",
            list(RATER_KINDS),
            format_func=RATER_KINDS.__getitem__,
            default=EVERYBODY,
            required=True,
            key="dataset_raters",
        )
        min_raters = st.number_input(
            "Raters at least",
            min_value=1,
            max_value=100,
            value=1,
            key="dataset_min_raters",
            width=160,
            help="Items that fewer people judged are left out.",
        )
    cluster_id = ask_cluster(actor, "dataset")
    include_demo = st.toggle("Include demo data", key="dataset_demo")
    return Filters(
        source=source,
        action_type=action_type,
        model_name=model_name,
        rater_kind=None if rater_kind == EVERYBODY else RaterKind(rater_kind),
        since=_start_of(since),
        until=_start_of(until + timedelta(days=1)) if isinstance(until, date) else None,
        include_demo=include_demo,
        min_raters=int(min_raters),
        cluster_id=cluster_id,
    )


def _ask_rules(purpose: DatasetPurpose, filters: Filters) -> DatasetParams:
    threshold, merge = DEFAULTS.threshold, DEFAULTS.merge
    disputes, ties, min_gap = DEFAULTS.disputes, DEFAULTS.ties, DEFAULTS.min_gap
    origins, max_pairs = list(DEFAULTS.pair_origins), DEFAULTS.max_pairs_a_prompt
    if purpose in RATED:
        threshold = st.select_slider(
            "Good from a rating of",
            THRESHOLDS,
            value=DEFAULTS.threshold,
            format_func=lambda value: f"{value:g}",
            key="dataset_threshold",
            help="A thumb up counts as 5, a thumb down as 1; a neutral one says neither.",
        )
    if purpose in MERGED:
        merge = st.segmented_control(
            "Several raters become one by",
            list(MERGES),
            format_func=MERGES.__getitem__,
            default=DEFAULTS.merge,
            required=True,
            key="dataset_merge",
            help="By reliability: raters who tend to agree with the others count for more "
            "(Dawid and Skene).",
        )
    adjudicated_first = st.toggle(
        "An adjudicator's answer comes first",
        value=True,
        key="dataset_adjudicated",
        help="It replaces what the raters said; items that they excluded are left out.",
    )
    disputes = st.segmented_control(
        "Disputes that nobody decided",
        list(DISPUTES),
        format_func=DISPUTES.__getitem__,
        default=DEFAULTS.disputes,
        required=True,
        key="dataset_disputes",
    )
    if purpose is DatasetPurpose.PREFERENCES:
        origins = st.pills(
            "Pairs from",
            list(ORIGINS),
            format_func=ORIGINS.__getitem__,
            selection_mode="multi",
            default=list(ORIGINS),
            key="dataset_origins",
        )
        ties = st.segmented_control(
            "Ties",
            list(TIES),
            format_func=TIES.__getitem__,
            default=DEFAULTS.ties,
            required=True,
            key="dataset_ties",
        )
        with st.container(horizontal=True):
            min_gap = st.number_input(
                "Rating gap that makes a pair",
                min_value=0.25,
                max_value=4.0,
                value=DEFAULTS.min_gap,
                step=0.25,
                key="dataset_gap",
                width=200,
                help="Two answers whose ratings lie closer together are a tie.",
            )
            max_pairs = st.number_input(
                "Pairs of one prompt at most",
                min_value=1,
                max_value=1_000,
                value=DEFAULTS.max_pairs_a_prompt,
                key="dataset_max_pairs",
                width=200,
            )
    return DatasetParams(
        purpose=purpose,
        filters=filters,
        threshold=float(threshold),
        merge=merge,
        adjudicated_first=adjudicated_first,
        ties=ties,
        disputes=disputes,
        min_gap=float(min_gap),
        pair_origins=tuple(origin for origin in PairOrigin if origin in origins),
        max_pairs_a_prompt=int(max_pairs),
    )


def _choose(label: str, values: list[str], key: str) -> str | None:
    chosen: str | None = st.selectbox(
        label,
        [None, *values],
        format_func=lambda value: "All" if value is None else value,
        key=key,
    )
    return chosen


def _start_of(day: object) -> datetime | None:
    return datetime.combine(day, time(), UTC) if isinstance(day, date) else None
