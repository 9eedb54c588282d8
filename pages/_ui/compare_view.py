"""Showing completions of one prompt side by side. All of it is text of others: see `draw_text`."""

import streamlit as st

from pages._ui.compare_place import Place, keep_reason
from pages._ui.interaction_view import draw_text, flatten
from pages._ui.messages import plain
from rlhf_core.accounts.permissions import Actor
from rlhf_core.errors import RlhfError
from rlhf_core.feedback.comparison_tasks import ComparisonTask, Side
from rlhf_core.feedback.drafts import MAX_COMMENT_CHARS
from rlhf_core.feedback.history import OtherOpinion, list_others
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Choice, RaterKind

NUM_RECENT_MESSAGES = 4
MAX_FACTS = 30
PAIR_NAMES = ("Left", "Right")
STRENGTHS = {1: "Slightly", 2: "Clearly", 3: "Much"}
KIND_NAMES = {
    RaterKind.SME: "Expert",
    RaterKind.END_USER: "End user",
    RaterKind.MODEL: "Model",
}


def name_side(task: ComparisonTask, number: int) -> str:
    """What a side is called: Left and Right of two, else its number from 1."""
    return PAIR_NAMES[number] if len(task.sides) == 2 else str(number + 1)


def draw_prompt(place: Place) -> None:
    """The earlier messages and the prompt."""
    task = place.task
    hidden, recent = task.context[:-NUM_RECENT_MESSAGES], task.context[-NUM_RECENT_MESSAGES:]
    if hidden:
        with st.expander(f"{len(hidden)} earlier messages", key=f"earlier_{place.key}"):
            _draw_messages(hidden, key=f"e_{place.key}")
    _draw_messages(recent, key=f"r_{place.key}")
    with st.container(border=True, key="prompt"):
        with st.container(horizontal=True, gap="small"):
            st.markdown("**Prompt**", width="content")
            if task.is_demo:
                st.badge("demo", icon=":material/science:", color="gray")
        draw_text(task.prompt, key=f"prompt_{place.key}")


def draw_sides(place: Place) -> None:
    """The completions, beside each other; four of them two by two."""
    sides = place.task.sides
    a_row = 2 if len(sides) in (2, 4) else 3
    for start in range(0, len(sides), a_row):
        columns = st.columns(a_row, gap="small")
        for number in range(start, min(start + a_row, len(sides))):
            with columns[number - start]:
                _draw_side(place, number, sides[number])


def draw_reason(place: Place) -> None:
    """Why: sent with the choice, and kept when the page is loaded again."""
    mine = place.task.mine
    stored = (mine and mine.reason) or ""
    with st.container(key="texts", gap="xsmall"):
        st.text_area(
            "Why? (T)",
            value=stored if place.task.unsent_reason is None else place.task.unsent_reason,
            key=f"reason_{place.key}",
            max_chars=MAX_COMMENT_CHARS,
            height=80,
            placeholder="T to type, Esc to go back to the keys",
            on_change=keep_reason,
            args=(place,),
        )


def draw_others(place: Place, actor: Actor) -> None:
    """What others said of this pair, for who has compared it."""
    task = place.task
    if task.mine is None or task.occasion or len(task.sides) != 2:
        return
    one, other = task.shown_ids
    try:
        with get_store().reading() as db:
            others = list_others(db, one, actor=actor, other_interaction_id=other)
    except RlhfError:  # it was taken back in another tab
        return
    label = f"{len(others)} other{'s' if len(others) != 1 else ''} compared this"
    if not others:
        st.caption("Nobody else has compared this pair yet.")
        return
    with st.popover(label, icon=":material/groups:", key=f"others_{place.key}"):
        for opinion in others:
            st.markdown(f"**{KIND_NAMES[opinion.rater_kind]} {opinion.number}** · "
                        f"{_describe(task, opinion)}")  # fmt: skip
            if opinion.comment:
                draw_text(opinion.comment, key=f"other_{place.key}_{opinion.number}")


def _describe(task: ComparisonTask, opinion: OtherOpinion) -> str:
    if opinion.preferred_id is None:
        return "both bad" if opinion.choice is Choice.BOTH_BAD else "tie"
    side = PAIR_NAMES[task.shown_ids.index(opinion.preferred_id)].lower()
    how = STRENGTHS.get(opinion.strength or 0)
    return f"{side} is {how.lower() if how else ''} better".replace("  ", " ")


def _draw_side(place: Place, number: int, side: Side) -> None:
    key = f"{place.key}_{number}"
    mine = place.task.mine
    with st.container(border=True, key=f"side_{number}"):
        with st.container(horizontal=True, gap="small"):
            st.markdown(f"**{name_side(place.task, number)}**", width="content")
            if mine is not None and mine.best_id == side.interaction_id:
                st.badge("your choice", icon=":material/check:", color="blue")
            if side.model_name is not None:
                st.badge(plain(side.model_name), color="gray")
        if side.completion.strip():
            draw_text(side.completion, key=f"side_{key}")
        else:
            st.caption("Empty: the assistant answered nothing.")
        if side.action_type is not None or side.action_data:
            _draw_action(side)
        if side.steps:
            with st.expander(f"Reasoning: {len(side.steps)} steps", key=f"steps_{key}"):
                for position, (kind, content) in enumerate(side.steps):
                    said = f" · {plain(kind)}" if kind else ""
                    st.caption(f"Step {position + 1}{said}")
                    draw_text(content, key=f"step_{key}_{position}")


def _draw_action(side: Side) -> None:
    st.caption("Action")
    if side.action_type is not None:
        st.badge(plain(side.action_type), color="gray")
    facts = list(flatten(side.action_data or {}))
    for name, value in facts[:MAX_FACTS]:
        st.caption(plain(name))
        st.text(value)
    if len(facts) > MAX_FACTS:
        st.caption(f"and {len(facts) - MAX_FACTS} more values")


def _draw_messages(messages: tuple[tuple[str, str], ...], *, key: str) -> None:
    for number, (role, content) in enumerate(messages):
        known = role if role in ("user", "assistant") else "message"
        with st.chat_message(known, avatar=None if known == role else ":material/notes:"):
            if known != role:
                st.caption(plain(role))
            draw_text(content, key=f"{key}_{number}")
