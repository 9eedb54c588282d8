"""A disputed pair: its two completions, blind to the models, and everybody's choice."""

from collections.abc import Sequence

import streamlit as st

from pages._ui.compare_place import Place
from pages._ui.compare_view import STRENGTHS, draw_prompt, draw_sides
from pages._ui.dispute_view import IN_A_ROW, KINDS, draw_decision
from pages._ui.interaction_view import draw_text
from pages._ui.messages import plain
from rlhf_core.analytics.pair_disputes import DisputedPair
from rlhf_core.feedback.pair_adjudication import PairDecision, PairDispute, PairOpinion
from rlhf_core.vocabulary import Choice

WORDS = {
    Choice.LEFT: "left is better",
    Choice.RIGHT: "right is better",
    Choice.TIE: "a tie",
    Choice.BOTH_BAD: "both bad",
}


def draw_pair(dispute: PairDispute, *, decisions_first: bool = False) -> None:
    """The prompt, the two completions side by side, what the raters chose, and decisions."""
    place = Place(dispute.task, None)
    if decisions_first:
        _draw_decisions(dispute.decisions)
    draw_prompt(place)
    draw_sides(place)
    numbered = list(enumerate(dispute.opinions))
    if not numbered:
        st.caption("Nobody's comparison stands any more.")
    for row in (numbered[at : at + IN_A_ROW] for at in range(0, len(numbered), IN_A_ROW)):
        columns = st.columns(max(2, len(row)))
        for column, (number, opinion) in zip(columns, row, strict=False):
            with column, st.container(border=True, key=f"opinion_{number}", gap="xsmall"):
                _draw_opinion(opinion, number)
    if not decisions_first:
        _draw_decisions(dispute.decisions)


def _draw_decisions(decisions: Sequence[PairDecision]) -> None:
    """What was decided, by whom and why; what no longer counts is said so."""
    for number, one in enumerate(decisions):
        what = "Excluded" if one.choice is None else f"Decided: {WORDS[one.choice]}"
        draw_decision(number, one, what)


def row_of_pair(item: DisputedPair, *, is_decided: bool) -> dict[str, str]:
    """A disputed pair in the list. Which completion stands left is another matter."""
    said = {"Raters": f"{item.num_each} and {item.num_each}"}
    if is_decided:
        answers = {None: "excluded", Choice.TIE: "a tie"}
        said = {"Decision": answers.get(item.choice, "one is better"), "By": item.decided_by or ""}
    return {"What": "pair", **said, "Prompt": item.prompt, "One": item.first,
            "Other": item.second, "Source": item.source}  # fmt: skip


def _draw_opinion(opinion: PairOpinion, number: int) -> None:
    words = WORDS[opinion.choice]
    if opinion.choice in (Choice.LEFT, Choice.RIGHT) and opinion.strength in STRENGTHS:
        words = words.replace("is", f"is {STRENGTHS[opinion.strength].lower()}")
    again = ", shown again" if opinion.occasion else ""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{words}**", width="content")
        st.caption(
            f"{plain(opinion.name)}{KINDS.get(opinion.rater_kind, '')}{again}", width="content"
        )
    if opinion.reason:
        draw_text(opinion.reason, key=f"opinion_reason_{number}")
