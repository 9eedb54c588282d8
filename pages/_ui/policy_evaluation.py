"""How a policy does on prompts that it did not learn from, beside its base and production."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui.measures import NONE_THERE, name_metric, show_interval, sort_metrics
from pages._ui.messages import plain
from pages._ui.run_samples import show_beside
from rlhf_core.registry.evaluations import EvaluationView

OWN = "policy"
PLACES = {OWN: "This version", "base": "Its base", "production": "Production"}
COIN = 0.5
SHOWN_SAMPLES = 8


def show_policy_evaluation(evaluation: EvaluationView) -> None:
    """Who judged on how many prompts, what came out, and the figures of each policy."""
    examination = evaluation.examination
    judge = (examination.get("judge") or {}).get("name") or "the reward model"
    st.caption(
        f"{evaluation.num_rows:,} prompts, {plain(evaluation.split)} part of "
        f"{plain(evaluation.dataset or 'rows that are gone')}, judged by {plain(str(judge))}."
    )
    _show_verdict(examination.get("policies") or {})
    _show_figures(evaluation)
    for note in examination.get("notes") or []:
        st.caption(plain(str(note)))
    _show_answers(evaluation)


def _show_verdict(policies: Mapping[str, Any]) -> None:
    """The sentence that decides: does it beat its base, surely?"""
    found = (policies.get(OWN) or {}).get("win_rate")
    share, bounds = _number(found), _bounds(found)
    if share is None:
        return
    said = f"It wins {share:.0%} of the prompts against its base"
    if bounds is None:
        st.markdown(f"{said}.")
    elif bounds[0] > COIN:
        st.success(f"{said} ({bounds[0]:.0%} to {bounds[1]:.0%}): it is better.",
                   icon=":material/trending_up:")  # fmt: skip
    elif bounds[1] < COIN:
        st.warning(f"{said} ({bounds[0]:.0%} to {bounds[1]:.0%}): it is worse.",
                   icon=":material/trending_down:")  # fmt: skip
    else:
        st.info(
            f"{said} ({bounds[0]:.0%} to {bounds[1]:.0%}): on so many prompts that may be chance.",
            icon=":material/trending_flat:",
        )


def _show_figures(evaluation: EvaluationView) -> None:
    examination = evaluation.examination
    policies: dict[str, Any] = examination.get("policies") or {}
    if not policies:
        policies = {OWN: evaluation.metrics}
    names = examination.get("names") or {}
    metrics = sort_metrics(
        {
            metric
            for figures in policies.values()
            for metric, value in figures.items()
            if _number(value) is not None
        }
    )
    rows = []
    for metric in metrics:
        row: dict[str, Any] = {"Measure": name_metric(metric)}
        for policy, figures in policies.items():
            row[_heading(policy, names)] = _number(figures.get(metric))
        own = (policies.get(OWN) or {}).get(metric)
        row["95 % interval"] = show_interval(_bounds(own))
        rows.append(row)
    if not rows:
        st.caption("No figure is defined on these prompts.")
        return
    columns = {_heading(policy, names): _FIGURE for policy in policies}
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height="content",
        column_config={"Measure": st.column_config.TextColumn(width=290), **columns},
        placeholder=NONE_THERE,
        key=f"policy_figures_{evaluation.id}",
        alt="Figures of the policy beside its base and the one that serves",
    )


def _show_answers(evaluation: EvaluationView) -> None:
    """What each policy answers to some of the prompts."""
    names = evaluation.examination.get("names") or {}
    samples = evaluation.examination.get("samples") or []
    for number, sample in enumerate(samples[:SHOWN_SAMPLES]):
        rewards = sample.get("rewards") or {}
        answers = {
            _heading(policy, names): (str(text), rewards.get(policy))
            for policy, text in sorted(sample["answers"].items(), key=lambda one: one[0] != OWN)
        }
        show_beside(str(sample["prompt"]), answers, key=f"{evaluation.id.hex}_{number}")


_FIGURE = st.column_config.NumberColumn(format="%.3f")


def _heading(policy: str, names: Mapping[str, Any]) -> str:
    name = names.get(policy)
    place = PLACES.get(policy, policy)
    return f"{place} ({name})" if name else place


def _number(value: Any) -> float | None:
    """A figure, given alone or as `{"value": ...}` with its interval."""
    if isinstance(value, Mapping):
        value = value.get("value")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def _bounds(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, Mapping):
        return None
    bounds = value.get("interval") or (value.get("low"), value.get("high"))
    if len(bounds) != 2 or None in bounds:
        return None
    return float(bounds[0]), float(bounds[1])
