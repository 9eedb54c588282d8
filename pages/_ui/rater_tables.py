"""Agreement by question, raters, and the sides of comparisons, drawn."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui.messages import plain
from pages._ui.rater_words import (
    explain_agreement,
    explain_bias,
    find_remarks,
    name_aspect,
    percent,
)
from rlhf_core.agreement import Interval
from rlhf_core.analytics.agreement import AspectAgreement
from rlhf_core.analytics.position_bias import PositionBias
from rlhf_core.analytics.raters import RaterReport
from rlhf_core.vocabulary import DEMO_SOURCE, QueueSubject

MAX_REMARKS = 5
SHUFFLED = ("page", DEMO_SOURCE)
"""Comparisons whose sides were shuffled; of those from elsewhere nobody knows."""
SUBJECT_NAMES = {
    QueueSubject.COMPLETIONS: "Completions",
    QueueSubject.STEPS: "Steps",
    QueueSubject.COMPARISONS: "Comparisons",
}
HELP = {
    "alpha": "Krippendorff's alpha: 1 is full agreement, 0 what chance would give. For ratings, "
    "answers that lie closer disagree less.",
    "ac1": "Gwet's AC1: as alpha, but it does not fall where nearly all answers are the same. It "
    "counts equal answers only.",
    "raw": "How often two raters of one item give the very same answer.",
}


def draw_agreement(found: Sequence[AspectAgreement]) -> None:
    """A card a question: the three coefficients with their intervals, and what they mean."""
    for number, aspect in enumerate(found):
        summary = aspect.agreement
        if number % 2 == 0:  # a row at a time: on a narrow screen their order stays
            row = st.columns(2)
        with row[number % 2], st.container(border=True, key=f"agreement_{number}"):
            with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
                st.markdown(f"**{plain(name_aspect(aspect))}**", width="content")
                st.caption(
                    f"{summary.num_answers:,} answers to {summary.num_units:,} items",
                    width="content",
                )
            with st.container(horizontal=True, gap="medium"):
                _draw_figure("Alpha", summary.alpha, HELP["alpha"])
                _draw_figure("AC1", summary.ac1, HELP["ac1"])
                _draw_figure("Same answer", summary.raw, HELP["raw"], as_percent=True)
            st.markdown(explain_agreement(summary))


def _draw_figure(
    name: str, value: Interval | None, about: str, *, as_percent: bool = False
) -> None:
    unit = ".0%" if as_percent else ".2f"
    st.metric(
        name,
        "none" if value is None else f"{value.value:{unit}}",
        delta=None if value is None else f"{value.low:{unit}} to {value.high:{unit}}",
        delta_color="off",
        delta_arrow="off",
        help=about,
        width="content",
    )


def draw_raters(report: RaterReport, subject: QueueSubject) -> None:
    """Who stands out, and the table of all raters."""
    remarks = find_remarks(report.raters)
    for name, said in remarks[:MAX_REMARKS]:
        st.warning(f"**{plain(name)}** {'; '.join(said)}.", icon=":material/person_alert:")
    if len(remarks) > MAX_REMARKS:
        st.caption(f"{len(remarks) - MAX_REMARKS} more stand out: see the table.")
    table = pd.DataFrame([_row(rater) for rater in report.raters])
    if subject is not QueueSubject.COMPLETIONS:
        table = table.drop(columns="points")
    if subject is QueueSubject.COMPARISONS:
        table = table.drop(columns=["gold", "gold_n"])
    # a column in which nobody has a figure says nothing
    table = table.dropna(axis="columns", how="all")
    table = table.drop(columns=[n for n in table if n.endswith("_n") and not table[n].any()])
    st.dataframe(table, hide_index=True, column_config=_columns(), key=f"raters_{subject.value}")
    notes = []
    if report.num_more:
        notes.append(f"{report.num_more:,} more raters judged less.")
    if report.num_end_users:
        notes.append(
            f"{report.num_end_users:,} end users gave {report.num_by_end_users:,} judgements: they "
            "count among the others and are never listed."
        )
    if notes:
        st.caption(" ".join(notes))


def _row(rater: Any) -> dict[str, Any]:
    def share(value: Interval | None) -> float | None:
        return None if value is None else 100 * value.value

    return {
        "name": rater.name,
        "judged": rater.num_judged,
        "seconds": rater.median_s,
        "others": share(rater.with_others),
        "others_n": rater.num_shared,
        "points": rater.points_above,
        "gold": share(rater.gold),
        "gold_n": rater.num_gold,
        "self": share(rater.with_self),
        "self_n": rater.num_repeats,
        "quality": rater.quality,
    }


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "name": st.column_config.TextColumn("Rater", pinned=True),
        "judged": number("Judged", format="localized"),
        "seconds": number("s an item", format="%.0f", help="The median, where it was measured."),
        "others": number("Like most others", format="%.0f %%",
                         help="The same verdict as most of the others, each time without the "
                         "rater's own; items on which they are evenly split are left out."),
        "others_n": number("of", help="So many items that others judged, too."),
        "points": number("Points above", format="%+.2f",
                         help="Rating points above the mean of the others."),
        "gold": number("Known answers right", format="%.0f %%",
                       help="The same verdict as the known answer of a queue's gold items."),
        "gold_n": number("of ", help="So many known answers."),
        "self": number("Same when repeated", format="%.0f %%",
                       help="The same verdict when an item was shown again."),
        "self_n": number("of  ", help="So many items shown again."),
        "quality": number("Quality", format="%.2f",
                          help="How often this rater is right, by a model (one-coin Dawid-Skene) "
                          "that learns the truth and the raters from each other. From 20 items "
                          "on. It takes for granted that there is one right answer."),
    }  # fmt: skip


def draw_bias(whole: PositionBias, by_rater: Sequence[tuple[str, PositionBias]]) -> None:
    """Whether raters prefer a side, all of them together and each."""
    icon = ":material/warning:" if whole.is_biased else ":material/balance:"
    (st.warning if whole.is_biased else st.info)(explain_bias(whole), icon=icon)
    biased = [(name, one) for name, one in by_rater if one.is_biased]
    for name, one in biased:
        side = "left" if one.num_left > one.num_right else "right"
        st.markdown(
            f"**{plain(name)}** chose the {side} side more often than chance explains: left won "
            f"{percent(one.left)} of {one.num_left + one.num_right:,}."
        )
    if by_rater and not biased:
        st.caption(f"None of {len(by_rater):,} raters with 20 comparisons or more prefers a side.")
