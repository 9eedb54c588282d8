"""The page of steps: its figures as DataFrames, and its cards."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui.insight_data import READ_AGAIN_S, fresh_db
from pages._ui.insight_filters import name_value
from pages._ui.insight_words import UNKNOWN, say_change, say_share
from rlhf_core.accounts.permissions import Actor
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.steps import MistakeFigures, StepLabels, StepReport, read_steps

MAX_POSITIONS = 20
"""Columns of a chart; steps behind them are one column."""


@st.cache_data(ttl=READ_AGAIN_S, max_entries=100, show_spinner=False)
def read_steps_page(_actor: Actor, filters: Filters) -> StepReport:
    """The figures of steps, at most 10 s old."""
    with fresh_db() as db:
        return read_steps(db, actor=_actor, filters=filters)


def draw_cards(report: StepReport) -> None:
    """How many labels and answers, how many are wrong, and what a mistake does to the approval."""
    labels, flawed, flawless = report.all_labels, report.flawed, report.flawless
    num_answers = flawed.num_answers + flawless.num_answers
    with st.grid(4, key="step_cards"):
        with st.container(border=True, height="stretch"):
            st.metric("Labels of steps", f"{labels.num_labels:,}")
            st.caption(f"on {num_answers:,} answers of this period")
        with st.container(border=True, height="stretch"):
            st.metric("Steps called wrong", say_share(labels.wrong), help="Among right and wrong.")
            st.caption(_say_range(labels.wrong) or "no step was called right or wrong")
        with st.container(border=True, height="stretch"):
            share = flawed.num_answers / num_answers if num_answers else None
            st.metric("Answers with a mistake", UNKNOWN if share is None else f"{share:.1%}")
            st.caption(f"{flawed.num_answers:,} with at least one wrong step")
        with st.container(border=True, height="stretch"):
            change = report.approval_change
            st.metric(
                "Approval after a mistake",
                say_share(flawed.approval),
                delta=None if change is None else say_change(change),
                help="What people say of answers with a wrong step: good among good and bad. "
                "Beside it the difference to answers whose steps are all right.",
            )
            if change is not None:
                st.caption(f"against those without; 95 %: {say_change(change, ends=True)}")
            else:
                st.caption("too few of both were rated")


def columns_of_positions(positions: Sequence[StepLabels]) -> pd.DataFrame:
    """For `draw_columns`: right, neutral and wrong by position, from 1."""
    rows: dict[tuple[str, str], int] = {}
    for one in positions:
        place = _name_position(one.position)
        for name, num in (
            ("Right", one.num_good), ("Neutral", one.num_neutral), ("Wrong", one.num_wrong)
        ):  # fmt: skip
            rows[place, name] = rows.get((place, name), 0) + num
    frame = pd.DataFrame([(*key, num) for key, num in rows.items()], columns=["x", "name", "value"])
    kinds = pd.Categorical(frame["name"], ["Right", "Neutral", "Wrong"], ordered=True)
    return frame.assign(name=kinds).sort_values("name", kind="stable").astype({"name": str})


def columns_of_mistakes(mistakes: Sequence[MistakeFigures]) -> pd.DataFrame:
    """For `draw_columns`: answers by the position of their first mistake."""
    rows: dict[str, int] = {}
    for one in mistakes:
        place = _name_position(one.position)
        rows[place] = rows.get(place, 0) + one.num_answers
    return pd.DataFrame(
        [(place, "", num) for place, num in rows.items()], columns=["x", "name", "value"]
    )


def bars_of_places(places: Sequence[StepLabels]) -> pd.DataFrame:
    """For `draw_bars`: the share of wrong with its interval; places without one are left out."""
    rows = [
        {
            "name": name_place(one),
            "value": one.wrong.value,
            "low": one.wrong.low,
            "high": one.wrong.high,
            "n": one.num_good + one.num_wrong,
        }
        for one in places
        if one.wrong is not None
    ]
    return pd.DataFrame(rows, columns=["name", "value", "low", "high", "n"])


def table_of_places(places: Sequence[StepLabels]) -> pd.DataFrame:
    """A line a place."""
    rows = []
    for one in places:
        row: dict[str, Any] = {}
        if one.position is not None:
            row["Step"] = one.position + 1
        if one.kind is not None:
            row["Kind"] = name_value(one.kind)
        row |= {"Right": one.num_good, "Neutral": one.num_neutral, "Wrong": one.num_wrong}
        if one.wrong is not None:
            row |= _percents("Wrong", one.wrong)
        rows.append(row)
    return pd.DataFrame(rows)


def table_of_mistakes(report: StepReport) -> pd.DataFrame:
    """A line a position of the first mistake, the first of the answers without one."""
    rows = []
    for one in (report.flawless, *report.mistakes):
        row: dict[str, Any] = {
            "First mistake": "none" if one.position is None else f"step {one.position + 1}",
            "Answers": one.num_answers,
            "Good": one.num_good,
            "Bad": one.num_bad,
        }
        if one.approval is not None:
            row |= _percents("Approval", one.approval)
        rows.append(row)
    return pd.DataFrame(rows)


def bars_of_approval(report: StepReport) -> pd.DataFrame:
    """For `draw_bars`: approval without a mistake, then by where the first one is."""
    early = [one for one in report.mistakes if (one.position or 0) < MAX_POSITIONS]
    rows = [
        {
            "name": "No mistake" if one.position is None else f"Step {one.position + 1}",
            "value": one.approval.value,
            "low": one.approval.low,
            "high": one.approval.high,
            "n": one.num_good + one.num_bad,
        }
        for one in (report.flawless, *early)
        if one.approval is not None
    ]
    return pd.DataFrame(rows, columns=["name", "value", "low", "high", "n"])


def name_place(one: StepLabels) -> str:
    """Such as `step 3, calculation`."""
    said = [] if one.position is None else [f"step {one.position + 1}"]
    if one.kind:
        said.append(one.kind)
    return ", ".join(said) or name_value("")


def _name_position(position: int | None) -> str:
    place = position or 0
    return str(place + 1) if place < MAX_POSITIONS else f"{MAX_POSITIONS + 1} and on"


def _percents(name: str, interval: Any) -> dict[str, float]:
    return {
        f"{name} (%)": round(100 * interval.value, 1),
        "from (%)": round(100 * interval.low, 1),
        "to (%)": round(100 * interval.high, 1),
    }


def _say_range(interval: Any) -> str:
    return "" if interval is None else f"95 %: {interval.low:.1%} to {interval.high:.1%}"
