"""A disputed item: what it is about, and everybody's answers side by side."""

from collections.abc import Sequence

import streamlit as st

from pages._ui.dispute_list import describe_answer
from pages._ui.interaction_view import draw_action, draw_prompt, draw_text
from pages._ui.messages import plain
from rlhf_core.feedback.disputed import Decision, Dispute, Opinion
from rlhf_core.feedback.pair_adjudication import PairDecision
from rlhf_core.vocabulary import AdjudicationDecision, RaterKind

IN_A_ROW = 3
KINDS = {RaterKind.MODEL: " (a model)"}


def draw_dispute(dispute: Dispute, *, decisions_first: bool = False) -> None:
    """The prompt, the completion or the steps up to the disputed one, opinions and decisions."""
    item, step = dispute.interaction, dispute.step
    if decisions_first:
        _draw_decisions(dispute.decisions)
    draw_prompt(item)
    if step is not None:
        with st.container(border=True, key="disputed_steps"):
            st.markdown("**Steps**")
            for each in item.steps[: step.position + 1]:
                is_it = each.id == step.id
                name = f"Step {each.position + 1}"
                st.caption(f"**{name}: disputed**" if is_it else name)
                draw_text(each.content, key=f"step_{each.id.hex}")
    with st.container(border=True, key="completion"):
        st.markdown("**Completion**")
        if item.completion.strip():
            draw_text(item.completion, key=f"completion_{item.id.hex}")
        else:
            st.caption("Empty: the assistant answered nothing.")
    draw_action(item)
    _draw_opinions(dispute.opinions, item.completion)
    if not decisions_first:
        _draw_decisions(dispute.decisions)


def _draw_opinions(opinions: Sequence[Opinion], completion: str) -> None:
    if not opinions:
        st.caption("Nobody's rating stands any more.")
    numbered = list(enumerate(opinions))
    for row in (numbered[at : at + IN_A_ROW] for at in range(0, len(numbered), IN_A_ROW)):
        columns = st.columns(max(2, len(row)))
        for column, (number, opinion) in zip(columns, row, strict=False):
            with column, st.container(border=True, key=f"opinion_{number}", gap="xsmall"):
                _draw_opinion(opinion, completion, number)


def _draw_opinion(opinion: Opinion, completion: str, number: int) -> None:
    said = describe_answer(opinion.rating, opinion.thumb, opinion.label)
    again = ", shown again" if opinion.occasion else ""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{said or 'no verdict'}**", width="content")
        st.caption(
            f"{plain(opinion.name)}{KINDS.get(opinion.rater_kind, '')}{again}", width="content"
        )
    if opinion.aspects:
        st.caption(" · ".join(f"{plain(name)} {n}" for name, n in sorted(opinion.aspects.items())))
    if opinion.comment:
        draw_text(opinion.comment, key=f"opinion_comment_{number}")
    for place, span in enumerate(opinion.spans):
        st.caption(plain(span.tag) + (f": {plain(span.note)}" if span.note else ""))
        draw_text(f"“{completion[span.start_at : span.end_at]}”", key=f"span_{number}_{place}")
    if opinion.correction:
        with st.expander("Their correction", key=f"opinion_correction_{number}"):
            draw_text(opinion.correction, key=f"opinion_correction_text_{number}")


def _draw_decisions(decisions: Sequence[Decision]) -> None:
    """What was decided, by whom and why; what no longer counts is said so."""
    for number, one in enumerate(decisions):
        answer = describe_answer(one.rating, one.thumb, one.label)
        is_excluded = one.decision is AdjudicationDecision.EXCLUDED
        draw_decision(number, one, "Excluded" if is_excluded else f"Decided: {answer}")


def draw_decision(number: int, one: Decision | PairDecision, what: str) -> None:
    """A decision; `what` was decided in our own words."""
    with st.container(border=True, key=f"decision_{number}", gap="xsmall"):
        ended = one.superseded_at
        over = "" if ended is None else f", until {ended:%Y-%m-%d %H:%M}"
        st.caption(f"**{what}** by {plain(one.decided_by)}, {one.created_at:%Y-%m-%d %H:%M}{over}")
        if one.reason:
            draw_text(one.reason, key=f"reason_{one.id.hex}")
