"""How good a version is on frozen rows: figures beside baselines, and where it is wrong."""

import uuid
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui.charts import draw_reliability
from pages._ui.measures import (
    BASELINE_NAMES,
    MAIN_METRICS,
    NONE_THERE,
    explain_baseline,
    name_baseline,
    name_metric,
    name_segment,
    name_short,
    show_interval,
    sort_metrics,
)
from pages._ui.messages import plain
from rlhf_core.registry.evaluations import EvaluationView
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.vocabulary import DatasetPurpose

FIGURE = st.column_config.NumberColumn(format="%.3f", width="small")
MEASURE_WIDTH = 290  # pixels: the longest name
SLICE_METRICS = ("auc", "first_error_f1", "pair_accuracy", "accuracy", "ece")
DECIDING = ("first_error_f1", "auc", "pair_accuracy")
SMALL_SLICE = 30
"""With fewer rows a slice's figures say little: their intervals are wide."""
RATED = (DatasetPurpose.SCORES, DatasetPurpose.UNPAIRED)


def choose_evaluation(
    version: ModelVersionView, evaluations: list[EvaluationView]
) -> EvaluationView | None:
    """The evaluation to show: the latest unless another is chosen; None where there is none."""
    if len(evaluations) < 2:
        return evaluations[0] if evaluations else None
    by_id = {evaluation.id: evaluation for evaluation in evaluations}
    chosen = st.selectbox(
        "Evaluated on",
        list(by_id),
        format_func=lambda found: name_evaluation(by_id[found]),
        key=f"evaluation_{version.id}",
    )
    return by_id[chosen]


def show_evaluation(evaluation: EvaluationView) -> None:
    """On which rows, the figures beside baselines, and where the model is wrong."""
    examination = evaluation.examination
    _show_rows(evaluation)
    _show_leakage(examination.get("leakage"))
    _show_doubt(evaluation)
    _show_figures(evaluation)
    left, right = st.columns(2)
    with left.container(border=True, key="reliability"):
        show_reliability(
            examination.get("reliability") or [],
            key=str(evaluation.id),
            word=_words(examination)[0],
        )
    with right.container(border=True, key="confusion"):
        _show_confusion(examination)
    _show_slices(examination.get("slices") or [], evaluation.id)


def name_evaluation(evaluation: EvaluationView) -> str:
    """`ratings v3, test · 412 rows · 2026-05-04 16:20 UTC`."""
    dataset = evaluation.dataset or "rows that are gone"
    return (
        f"{dataset}, {evaluation.split} · {evaluation.num_rows:,} rows · "
        f"{evaluation.created_at:%Y-%m-%d %H:%M} UTC"
    )


def show_ensemble(version: ModelVersionView) -> None:
    """How far the members of an ensemble differ, and who judges; nothing for a single model."""
    members = version.details.get("members") or []
    if members:
        names = [name for name in sort_metrics(members[0]["metrics"]) if name in MAIN_METRICS]
        spread = version.details.get("metrics_spread") or {}
        rows = [
            {"Member": f"seed {member['seed']}", **_columns(member["metrics"], names)}
            for member in members
        ]
        means = {name: version.metrics.get(name) for name in names}
        rows.append({"Member": "mean", **_columns(means, names)})
        rows.append({"Member": "spread (standard deviation)", **_columns(spread, names)})
        st.markdown(f"**Ensemble of {len(members)}**")
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            column_config={name_short(name): FIGURE for name in names},
            placeholder=NONE_THERE,
            key=f"members_{version.id}",
            alt=f"Figures of the {len(members)} members of {version.name}",
        )
    judge = version.details.get("judge")
    if judge:
        with st.container(horizontal=True, vertical_alignment="center", key="judge"):
            st.markdown(
                f":material/balance: Its held-out judge is **{plain(str(judge))}**, trained on the "
                "other half of the prompts.",
                width="content",
            )
            st.page_link(
                "pages/models/registry.py",
                label="Show it",
                query_params={"version": str(version.details.get("judge_version_id", ""))},
            )
    elif version.details.get("role") == "judge":
        st.markdown(
            ":material/balance: A held-out judge: it learned from the other half of the prompts, "
            "and rewards no policy."
        )


def _columns(metrics: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name_short(name): metrics.get(name) for name in names}


def _show_rows(evaluation: EvaluationView) -> None:
    examination = evaluation.examination
    prompts = examination.get("num_prompts")
    of_prompts = f" of {prompts:,} prompts" if isinstance(prompts, int) else ""
    threshold = examination.get("threshold")
    is_rated = examination.get("purpose") in RATED
    good = f" Good is a rating of {threshold:g} or more." if threshold and is_rated else ""
    st.caption(
        f"{evaluation.num_rows:,} rows{of_prompts}, {plain(evaluation.split)} part of "
        f"{plain(evaluation.dataset or 'rows that are gone')}.{good}"
    )
    for note in examination.get("notes") or []:
        st.caption(plain(str(note)))


def _show_leakage(leakage: dict[str, Any] | None) -> None:
    """Whether prompts of the test were trained on: such figures promise too much."""
    if not leakage:
        return
    seen, near, total = leakage["num_seen"], leakage["num_near"], leakage["num_prompts"]
    if not seen and not near:
        st.markdown(f":material/check: None of the {total:,} prompts was trained on.")
        return
    share = (seen + near) / max(1, total)
    st.warning(
        f"**{share:.0%} of the prompts leaked.** {seen:,} of {total:,} were trained on and "
        f"{near:,} are nearly like one that was: these figures are better than the model is.",
        icon=":material/water_drop:",
    )


def _show_doubt(evaluation: EvaluationView) -> None:
    """A warning where something simpler does as well by the figure that matters most."""
    name = next((name for name in DECIDING if name in evaluation.metrics), None)
    if name is None:
        return
    value = evaluation.metrics[name]
    simpler = (evaluation.examination.get("baselines") or {}).get(name) or {}
    found = [
        (mark, baseline)
        for baseline, mark in simpler.items()
        if baseline != "rater_agreement" and mark is not None and mark >= value
    ]
    if found:
        mark, baseline = max(found)
        st.warning(
            f"**No better than something simpler.** {name_short(name)} is {value:.3f}, and "
            f"{mark:.3f} for: {plain(name_baseline(baseline).lower())}. Do not let it serve.",
            icon=":material/thumb_down:",
        )


def _show_figures(evaluation: EvaluationView) -> None:
    examination, metrics = evaluation.examination, evaluation.metrics
    baselines = examination.get("baselines") or {}
    intervals = examination.get("intervals") or {}
    beside = list(BASELINE_NAMES)
    found = {name for by_name in baselines.values() for name in by_name}
    columns = [name for name in beside if name in found] + sorted(found - set(beside))
    names = sort_metrics(name for name in metrics if name in baselines or name in MAIN_METRICS)
    if not names:
        st.caption("No figure is defined on these rows.")
        return
    rows = [
        {
            "Measure": name_metric(name),
            "This version": metrics[name],
            "95 % interval": show_interval(intervals.get(name)),
            **{name_baseline(c): (baselines.get(name) or {}).get(c) for c in columns},
        }
        for name in names
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "Measure": st.column_config.TextColumn(width=MEASURE_WIDTH),
            "This version": FIGURE,
            **{
                name_baseline(name): st.column_config.NumberColumn(
                    format="%.3f", width="small", help=explain_baseline(name)
                )
                for name in columns
            },
        },
        placeholder=NONE_THERE,
        key=f"figures_{evaluation.id}",
        alt="Figures of the evaluation with their intervals, beside baselines and the ceiling",
    )


def show_reliability(bins: list[dict[str, float]], *, key: str, word: str = "good") -> None:
    """The chart of what the model promises against what is so, and its numbers."""
    st.markdown("**Does it keep its promises?**")
    if not bins:
        st.caption("Of these rows the model says no chance that could be checked.")
        return
    st.caption(f"On the dashed line, of 10 to which the model gives 70 %, 7 are {word}.")
    frame = pd.DataFrame(bins)
    st.plotly_chart(
        draw_reliability(frame, word=word),
        key=f"reliability_{key}",
        config={"displayModeBar": False},
        alt=f"Reliability: the share that is {word} by the chance that the model gave it",
    )
    with st.expander("As a table", key="reliability_table"):
        model, people = f"Model says {word}", f"People say {word}"
        shares = st.column_config.NumberColumn(format="percent")
        st.dataframe(
            frame.rename(columns={"mean_probability": model, "share_good": people, "n": "Rows"}),
            hide_index=True,
            column_config={model: shares, people: shares},
            key=f"bins_{key}",
            alt="The bins of the reliability chart",
        )


def _show_confusion(examination: dict[str, Any]) -> None:
    st.markdown("**Right and wrong**")
    counts = examination.get("confusion") or {}
    total = sum(int(value) for value in counts.values())
    if not total:
        st.caption("These rows are not judged one by one.")
        return

    def cell(name: str) -> str:
        count = int(counts.get(name, 0))
        return f"{count:,} ({count / total:.0%})"

    good, bad = _words(examination)
    frame = pd.DataFrame(
        {
            f"Model says {good}": [cell("true_good"), cell("false_good")],
            f"Model says {bad}": [cell("false_bad"), cell("true_bad")],
        },
        index=[f"People say {good}", f"People say {bad}"],
    )
    st.table(frame, border="horizontal", alt="How often model and people agree")
    right = int(counts.get("true_good", 0)) + int(counts.get("true_bad", 0))
    st.caption(
        f"{right:,} of {total:,} as people say. The model says {good} from a chance of 50 % on."
    )


def _words(examination: dict[str, Any]) -> tuple[str, str]:
    """What the two classes are called: of steps, right and wrong."""
    is_stepped = examination.get("purpose") == DatasetPurpose.STEPS
    return ("right", "wrong") if is_stepped else ("good", "bad")


def _show_slices(slices: list[dict[str, Any]], evaluation_id: uuid.UUID) -> None:
    if not slices:
        return
    st.markdown("**By slice**")
    names = [
        name for name in SLICE_METRICS if any(name in (part["metrics"] or {}) for part in slices)
    ]
    main = names[0] if names else ""
    frame = pd.DataFrame(
        [
            {
                "By": name_segment(part["segment"]),
                "Slice": part["value"],
                "Rows": part["num_rows"],
                "Prompts": part["num_prompts"],
                **_columns(part["metrics"], names[:1]),
                "95 % interval": show_interval((part["intervals"] or {}).get(main)),
                **_columns(part["metrics"], names[1:]),
            }
            for part in slices
        ]
    )
    st.dataframe(
        frame,
        hide_index=True,
        height="content" if len(frame) < 12 else 420,
        column_config={
            "By": st.column_config.TextColumn(width=80),
            "Slice": st.column_config.TextColumn(width=210),
            **{name_short(name): FIGURE for name in names},
        },
        placeholder=NONE_THERE,
        key=f"slices_{evaluation_id}",
        alt="Figures by action, length, source and language",
    )
    if (frame["Rows"] < SMALL_SLICE).any():
        st.caption(f"A slice of fewer than {SMALL_SLICE} rows says little: mind its interval.")
