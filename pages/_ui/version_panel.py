"""How model versions are shown: the table of all, one of them whole, and the alias's moves."""

import hashlib
import uuid
from collections.abc import Sequence
from typing import Literal

import pandas as pd
import streamlit as st

from pages._ui.demo_mark import mark_rows, read_marks
from pages._ui.evaluation_panel import show_reliability
from pages._ui.measures import (
    MODEL_KIND_NAMES,
    NONE_THERE,
    name_metric,
    name_short,
    show_interval,
)
from rlhf_core.gates.views import describe_evidence
from rlhf_core.registry.views import AliasChangeView, ModelVersionView
from rlhf_core.vocabulary import Alias

Badge = tuple[str, str, Literal["green", "gray", "orange"]]
LISTED_METRICS = (
    "auc", "pair_accuracy", "first_error_f1", "accuracy", "ece",
    "reward", "held_out_reward", "kl", "length",
)  # fmt: skip
# (metric, baseline, what the baseline is): the order in which they are shown
MEASURES = [
    ("auc", "length_only_auc", "by the length of the text alone"),
    ("first_error_f1", "always_last_f1", "always the last step"),
    ("pair_accuracy", "length_only_pair_accuracy", "by length alone"),
    ("accuracy", "majority_accuracy", "always the more frequent answer"),
    ("spearman", "length_only_spearman", "by length alone"),
    ("brier", "base_rate_brier", "always the share of good ones"),
    ("ece", "uncalibrated_ece", "before calibration"),
    ("reward", "first_reward", "before the first update"),
    ("held_out_reward", "first_held_out_reward", "before the first update"),
    *(
        (name, "", "")
        for name in (
            "eval_loss",
            "perplexity",
            "margin",
            "kl",
            "length",
            "eos_share",
            "entropy",
            "distinct_2",
        )
    ),
]


def badges_of(version: ModelVersionView, previous: uuid.UUID | None) -> list[Badge]:
    """What the version is now: production, canary, or the one to roll back to."""
    badges: list[Badge] = []
    if Alias.PRODUCTION in version.aliases:
        badges.append(("Production", ":material/verified:", "green"))
    if Alias.CANARY in version.aliases:
        badges.append(("Canary", ":material/science:", "orange"))
    if version.id == previous:
        badges.append(("Previous", ":material/history:", "gray"))
    return badges


def show_version_table(
    versions: list[ModelVersionView], selected: uuid.UUID, previous: uuid.UUID | None
) -> None:
    """All versions, newest first; a click on a row puts its number into the address."""
    frame = pd.DataFrame(
        {
            "Version": [version.name for version in versions],
            "State": [", ".join(b[0] for b in badges_of(v, previous)) for v in versions],
            **_tags(versions),
            **mark_rows([version.id for version in versions], read_marks().model_versions),
            "Kind": [MODEL_KIND_NAMES[version.kind] for version in versions],
            "Made": [version.created_at for version in versions],
            **{
                name_short(name): [version.metrics.get(name) for version in versions]
                for name in _listed(versions)
            },
            "Rows": [version.details.get("num_rows") or None for version in versions],
            "Dataset": [version.dataset or "" for version in versions],
        }
    )
    ids = [version.id for version in versions]
    # A row is known to the browser by its place only: with the list, the table is a new one.
    key = hashlib.sha256(repr((ids, selected)).encode()).hexdigest()[:12]

    def choose() -> None:
        rows = st.session_state[f"versions_{key}"].selection.rows
        if rows:
            st.query_params["version"] = str(ids[rows[0]])

    figures = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        frame,
        hide_index=True,
        height="auto" if len(versions) < 7 else 248,
        column_config={
            "State": st.column_config.TextColumn(width=95),  # the longest word is not cut off
            "Made": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC"),
            **{name_short(name): figures for name in _listed(versions)},
        },
        placeholder=NONE_THERE,
        on_select=choose,
        selection_mode="single-row",
        selection_default={"selection": {"rows": [ids.index(selected)]}},
        key=f"versions_{key}",
        alt="Model versions, newest first",
    )


def _tags(versions: list[ModelVersionView]) -> dict[str, list[str]]:
    """The column of tags, where any version has one."""
    if not any(version.tags for version in versions):
        return {}
    return {"Tags": [", ".join(version.tags) for version in versions]}


def _listed(versions: list[ModelVersionView]) -> list[str]:
    """The figures that any of the versions has."""
    return [name for name in LISTED_METRICS if any(name in each.metrics for each in versions)]


def show_report(version: ModelVersionView) -> None:
    """Everything that its run wrote down."""
    with st.expander("Parameters, library versions and the whole report", key="version_report"):
        st.json(
            {
                "parameters": version.params,
                "seed": version.seed,
                "library_versions": version.library_versions,
                "report": version.details,
            },
            expanded=1,
        )


def show_training_figures(version: ModelVersionView) -> None:
    """Of a version that was not evaluated: what its training run found out itself."""
    st.caption(
        "Not evaluated on frozen rows yet: these are the figures of the training run. Choose a "
        "dataset above to evaluate it."
    )
    show_measures(version)
    bins = version.details.get("reliability") or []
    if bins:
        with st.container(border=True, key="reliability", width=480):
            show_reliability(bins, key=str(version.id))


def show_measures(version: ModelVersionView) -> None:
    """The figures of the training run, beside their baselines."""
    metrics, details = version.metrics, version.details
    intervals = details.get("intervals") or {}
    rows = [
        {
            "Measure": name_metric(name),
            "This version": metrics[name],
            "95 % interval": show_interval(intervals.get(name)),
            "Baseline": metrics.get(baseline),
            "What the baseline is": what if baseline in metrics else None,
        }
        for name, baseline, what in MEASURES
        if name in metrics
    ]
    if not rows:
        st.caption("This version was registered without figures.")
        return
    figures = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={"This version": figures, "Baseline": figures},
        placeholder=NONE_THERE,
        key=f"measures_{version.id}",
        alt=f"Figures of {version.name} beside their baselines",
    )
    counted = [
        f"{details[name]:,} {what}"
        for name, what in (("n", "rows"), ("num_prompts", "prompts"), ("num_ratings", "ratings"))
        if isinstance(details.get(name), int)
    ]
    if counted:
        st.caption(f"The training run's own figures, on prompts left out: {', '.join(counted)}.")


def show_history(changes: Sequence[AliasChangeView]) -> None:
    """Who moved the alias, when, from where to where, and why."""
    if not changes:
        st.caption("Nothing was promoted yet.")
        return
    frame = pd.DataFrame(
        {
            "When": [change.changed_at for change in changes],
            "Who": [change.changed_by or "command line" for change in changes],
            "What": ["Rolled back" if c.is_roll_back else "Promoted" for c in changes],
            "From": [f"v{c.from_number}" if c.from_number else "nothing" for c in changes],
            "To": [f"v{change.to_number}" for change in changes],
            "Why": [change.reason for change in changes],
            "Evidence": [describe_evidence(change.evidence) or None for change in changes],
        }
    )
    st.dataframe(
        frame,
        hide_index=True,
        height="auto" if len(changes) < 7 else 248,
        column_config={
            "When": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC"),
            "Why": st.column_config.TextColumn(width=140),
            "Evidence": st.column_config.TextColumn(width=300),
        },
        placeholder=NONE_THERE,
        key="history",
        alt="Promotions and roll backs, the latest first",
    )
