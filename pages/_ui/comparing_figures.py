"""Figures of versions side by side: who is better by how much, on all rows and by slice."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui.chart_table import show_chart
from pages._ui.comparing_charts import draw_calibrations, draw_distributions
from pages._ui.evaluation_panel import FIGURE, MEASURE_WIDTH, SMALL_SLICE
from pages._ui.measures import (
    NONE_THERE,
    name_metric,
    name_segment,
    name_short,
    sort_metrics,
)
from pages._ui.messages import plain
from rlhf_core.queues.reward_pairs import PeopleVerdict
from rlhf_core.registry.comparisons import ComparisonView
from rlhf_core.rewards.paired import is_better
from rlhf_core.vocabulary import DatasetPurpose

JUDGED = frozenset(
    ("auc", "pair_accuracy", "accuracy", "spearman", "brier", "ece", "reward",
     "first_error_f1", "first_error_accuracy", "erroneous_accuracy", "faultless_accuracy")
)  # fmt: skip
"""Figures of which more, or less, is better; of a length neither is."""
WORDS = {True: "better", False: "worse", None: "may be chance"}
ALL_ROWS, GOOD_ROWS, BAD_ROWS = "All rows", "Rated good", "Rated bad"


def show_figures(comparison: ComparisonView, people: Sequence[PeopleVerdict]) -> None:
    """On which rows, the sentence that decides, and every figure with its paired difference."""
    _show_rows(comparison)
    _show_verdicts(comparison)
    _show_table(comparison, people)
    for note in comparison.result.get("notes") or ():
        st.caption(plain(str(note)))


def show_charts(comparison: ComparisonView) -> None:
    """Calibration and score distributions, one line a version."""
    names = comparison.names
    left, right = st.columns(2)
    reliability = comparison.result.get("reliability") or {}
    bins = pd.DataFrame(
        [
            {"name": names[key], "x": one["mean_probability"], "value": one["share_good"],
             "n": one["n"]}
            for key in names
            for one in reliability.get(key) or ()
        ]
    )  # fmt: skip
    with left.container(border=True, key="compared_calibration"):
        st.markdown("**Do they keep their promises?**")
        if bins.empty:
            st.caption("They say no chance that could be checked.")
        else:
            st.caption("On the dashed line, of 10 to which a version gives 70 %, 7 are good.")
            show_chart(
                draw_calibrations(bins),
                bins.rename(columns={"name": "Version", "x": "It says", "value": "Is so",
                                     "n": "Rows"}),
                key="calibration_chart",
                alt="The share that is good by the chance that each version gave it",
                name="calibration",
            )  # fmt: skip
    with right.container(border=True, key="compared_distribution"):
        st.markdown("**What do they say?**")
        _show_distribution(comparison)


def show_slices(comparison: ComparisonView) -> None:
    """A figure by slice, the lowest difference first: each version's, and against the first's."""
    slices: list[dict[str, Any]] = comparison.result.get("slices") or []
    metrics = sort_metrics(
        {name for part in slices for found in part["differences"].values() for name in found}
    )
    if not metrics:
        st.caption("These rows have nothing to be sliced by.")
        return
    deciding = comparison.result.get("deciding")
    metric = st.selectbox(
        "Figure",
        metrics,
        metrics.index(deciding) if deciding in metrics else 0,
        format_func=name_metric,
        key="sliced_metric",
    )
    names, others = comparison.names, _others(comparison)
    found = []
    for part in slices:
        differences = {key: part["differences"].get(key, {}).get(metric) for key in others}
        if not any(differences.values()):
            continue
        row = {
            "Slice": f"{name_segment(part['segment'])}: {part['value']}",
            "Rows": part["num_rows"],
            "Prompts": part["num_prompts"],
        }
        row |= {name: _value(part["versions"].get(key), metric) for key, name in names.items()}
        row |= {
            f"{names[key]}, difference": say_difference(metric, one)
            for key, one in differences.items()
        }
        found.append((min(one["value"] for one in differences.values() if one), row))
    rows = [row for _, row in sorted(found, key=lambda pair: pair[0])]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "Slice": st.column_config.TextColumn(width="medium"),
            **dict.fromkeys(names.values(), FIGURE),
        },
        placeholder=NONE_THERE,
        key="compared_slices",
        alt=f"{name_metric(metric)} by slice, of each version and as a difference",
    )
    if any(part["num_rows"] < SMALL_SLICE for part in slices):
        st.caption("Slices of few rows say little: look at their intervals.")


def say_difference(metric: str, figure: Mapping[str, float] | None) -> str | None:
    """`+0.031 (+0.010 to +0.052), better`; None where it is not defined."""
    if not figure:
        return None
    said = f"{figure['value']:+.3f}"
    if "low" not in figure:
        return f"{said}, too few prompts for an interval"
    said += f" ({figure['low']:+.3f} to {figure['high']:+.3f})"
    return f"{said}, {WORDS[is_better(metric, dict(figure))]}" if metric in JUDGED else said


def _show_rows(comparison: ComparisonView) -> None:
    result = comparison.result
    rows = f"{comparison.num_rows:,} rows"
    prompts = result.get("num_prompts")
    of_prompts = f" of {prompts:,} prompts" if isinstance(prompts, int) else ""
    judge = (result.get("judge") or {}).get("name")
    judged = f", judged by {plain(str(judge))}" if judge else ""
    st.caption(
        f"{rows}{of_prompts}, {plain(comparison.split)} part of "
        f"{plain(comparison.dataset or 'rows that are gone')}{judged}. Differences are measured on "
        "the same draws of prompts; intervals are 95 %."
    )
    leaks: dict[str, dict[str, int]] = result.get("learned") or {}
    kept = [name for name, leak in leaks.items() if leak["num_seen"] > leak["num_left_out"]]
    if kept:
        seen = ", ".join(f"{plain(name)} {leaks[name]['num_seen']:,}" for name in kept)
        total = next(iter(leaks.values()))["num_prompts"]
        st.warning(
            f"**Some learned from these rows.** Of {total:,} prompts {seen}: what knows the answer "
            "looks better than it is.",
            icon=":material/water_drop:",
        )
    elif left := {name: leak["num_left_out"] for name, leak in leaks.items()
                  if leak["num_left_out"]}:  # fmt: skip
        who = ", ".join(f"{plain(name)} {count:,}" for name, count in left.items())
        st.caption(f"Prompts left out because a model had learned from them: {who}.")


def _show_verdicts(comparison: ComparisonView) -> None:
    """Of each version the sentence that matters most."""
    result, names = comparison.result, comparison.names
    metric = result.get("deciding")
    if metric is None:
        return
    for key in _others(comparison):
        figure = result["differences"].get(key, {}).get(metric)
        if figure is None:
            continue
        said = f"{plain(names[key])} against {plain(_first(comparison))}, {name_short(metric)}"
        span = ""
        if "low" in figure:
            span = f" ({figure['low']:+.3f} to {figure['high']:+.3f})"
        said = f"{said}: {figure['value']:+.3f}{span}"
        match is_better(metric, figure):
            case True:
                st.success(f"{said}. It is better.", icon=":material/trending_up:")
            case False:
                st.warning(f"{said}. It is worse.", icon=":material/trending_down:")
            case None:
                st.info(f"{said}. That may be chance.", icon=":material/trending_flat:")


def _show_table(comparison: ComparisonView, people: Sequence[PeopleVerdict]) -> None:
    result, names, others = comparison.result, comparison.names, _others(comparison)
    versions: dict[str, dict[str, dict[str, float]]] = result["versions"]
    rows: list[dict[str, Any]] = []
    for metric in sort_metrics({name for figures in versions.values() for name in figures}):
        row: dict[str, Any] = {"Measure": name_metric(metric)}
        row |= {name: _value(versions.get(key), metric) for key, name in names.items()}
        for key in others:
            row[f"{names[key]}, difference"] = say_difference(
                metric, result["differences"].get(key, {}).get(metric)
            )
        rows.append(row)
    rows += [_row_of_people(one, names) for one in people if one.verdict.win_rate is not None]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "Measure": st.column_config.TextColumn(width=MEASURE_WIDTH),
            **dict.fromkeys(names.values(), FIGURE),
        },
        placeholder=NONE_THERE,
        key=f"compared_figures_{comparison.id}",
        alt="Figures of each version, and their paired differences with intervals",
    )


def _row_of_people(people: PeopleVerdict, names: Mapping[str, str]) -> dict[str, Any]:
    rate = people.verdict.win_rate
    assert rate is not None  # noqa: S101 - only judged ones are asked about
    own, other = names.get(str(people.version_id), ""), names.get(str(people.other_id), "")
    return {
        "Measure": f"People side with it, blind (n = {people.verdict.num_compared})",
        own: rate.value,
        other: 1.0 - rate.value,
        f"{own}, difference": f"{rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%}) of {own}",
    }


def _show_distribution(comparison: ComparisonView) -> None:
    found = comparison.result.get("distribution") or {}
    if not found:
        st.caption("These versions give no score.")
        return
    part = "all"
    if comparison.purpose != DatasetPurpose.PREFERENCES:
        words = {ALL_ROWS: "all", GOOD_ROWS: "good", BAD_ROWS: "bad"}
        chosen = st.segmented_control(
            "Rows",
            list(words),
            default=ALL_ROWS,
            required=True,
            key="distribution_part",
            label_visibility="collapsed",
        )
        part = words[chosen or ALL_ROWS]
    else:
        st.caption("The chance that the side is better which people prefer.")
    edges = found["edges"]
    points = pd.DataFrame(
        [
            {"name": name, "x": (low + high) / 2, "value": count / max(1, sum(counts)), "n": count}
            for key, name in comparison.names.items()
            for counts in [found["counts"][key][part]]
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
        ]
    )
    show_chart(
        draw_distributions(points),
        points.rename(columns={"name": "Version", "x": "Score", "value": "Share", "n": "Rows"}),
        key="distribution_chart",
        alt="How often each version gives which score",
        name="scores",
    )


def _others(comparison: ComparisonView) -> list[str]:
    baseline = comparison.result.get("baseline")
    return [key for key in comparison.names if key != baseline]


def _first(comparison: ComparisonView) -> str:
    return comparison.names[str(comparison.result["baseline"])]


def _value(figures: Mapping[str, Mapping[str, float]] | None, metric: str) -> float | None:
    return (figures or {}).get(metric, {}).get("value")
