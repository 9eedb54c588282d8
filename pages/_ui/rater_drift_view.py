"""Whether the answers changed or those who judge them, drawn."""

import pandas as pd
import streamlit as st

from pages._ui.chart_table import show_chart
from pages._ui.insight_charts import draw_lines
from pages._ui.insight_words import UNKNOWN, is_clear, say_change
from rlhf_core.agreement import Interval
from rlhf_core.analytics.rater_drift import MIN_FIXED, DriftCause, RaterDrift

APPROVAL, LENIENCY = "Approval", "Leniency on known answers"
WORDS = {
    DriftCause.NOTHING: "Neither the answers nor the raters clearly changed.",
    DriftCause.ANSWERS: "**The answers changed**: on items that stay the same, raters judge as "
    "before.",
    DriftCause.RATERS: "**The raters changed**, not the answers: they judge items that stay the "
    "same otherwise than before.",
    DriftCause.BOTH: "**Both changed**: raters judge items that stay the same otherwise than "
    "before, and that does not explain all of it.",
    DriftCause.UNKNOWN: "Whether the answers changed or the raters, nobody can tell: that takes "
    f"{MIN_FIXED} or more known answers, or repeats, on each side. Put known answers and repeats "
    "into a queue.",
}


def draw_drift(drift: RaterDrift) -> None:
    """The sentence, the changes with their intervals, and both by week."""
    if drift.approval is None:
        st.caption("All experts' verdicts are of one day: there is nothing to compare yet.")
        return
    st.markdown(WORDS[drift.cause])
    with st.grid(3, key="rater_drift_cards"):
        _draw_change("Approval by experts", drift.approval, f"since {drift.split_on}")
        _draw_change("Due to the raters", drift.raters, _say_fixed(drift))
        _draw_change("Due to the answers", drift.answers, "what is left")
    frame = points_of_weeks(drift)
    if frame["x"].nunique() > 1:
        show_chart(
            draw_lines(
                frame, title="Share", as_percent=True, bounds=(-1, 1), count_word="verdicts"
            ),
            table_of_weeks(drift),
            key="rater_drift",
            alt="Approval by experts by week, with 95 % intervals, and by how much more often they "
            "call items with a known answer good than these are",
            name="rater drift",
        )
        st.caption(
            "Leniency: how much more often raters call items with a known answer good than they "
            "are; 0 is right on the whole. A line that stays flat while approval moves tells that "
            "the answers changed."
        )


def points_of_weeks(drift: RaterDrift) -> pd.DataFrame:
    """For `draw_lines`: approval and leniency by week."""
    rows = []
    for week in drift.weeks:
        at = pd.Timestamp(week.start)
        if week.approval is not None:
            own = week.approval
            rows.append((at, APPROVAL, own.value, own.low, own.high, week.num_verdicts))
        if week.leniency is not None:
            rows.append((at, LENIENCY, week.leniency, None, None, week.num_known))
    frame = pd.DataFrame(rows, columns=["x", "name", "value", "low", "high", "n"])
    return frame.astype({"value": float, "low": float, "high": float})


def table_of_weeks(drift: RaterDrift) -> pd.DataFrame:
    """A line a week."""
    return pd.DataFrame(
        [
            {
                "Week from": str(week.start),
                "Verdicts": week.num_verdicts,
                "Approval (%)": None
                if week.approval is None
                else round(100 * week.approval.value, 1),
                "Known answers": week.num_known,
                "Leniency (points)": None
                if week.leniency is None
                else round(100 * week.leniency, 1),
            }
            for week in drift.weeks
        ]
    )


def _draw_change(name: str, change: Interval | None, about: str) -> None:
    with st.container(border=True, height="stretch"):
        st.metric(name, UNKNOWN if change is None else say_change(change))
        if change is not None:
            clear = "" if is_clear(change) else ", not clear"
            st.caption(f"95 %: {say_change(change, ends=True)}{clear}")
        st.caption(about)


def _say_fixed(drift: RaterDrift) -> str:
    return f"{drift.num_known:,} known answers, {drift.num_repeats:,} repeats"
