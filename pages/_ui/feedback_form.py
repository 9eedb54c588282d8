"""Giving feedback: buttons with keys, and callbacks that store before the next item shows.

A callback gets the item as an argument, so that a key pressed twice quickly never rates what is not
on screen. It asks again who is signed in, for it runs before the page's own guard.
"""

import time
import uuid
from typing import Any

import streamlit as st
from pydantic import ValidationError

from pages._ui.guard import require_page
from pages._ui.interaction_view import draw_text
from pages._ui.messages import plain, show_error
from pages._ui.rating_queue import chosen_queue
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import RlhfError
from rlhf_core.feedback.assignment import next_to_rate
from rlhf_core.feedback.drafts import MAX_COMMENT_CHARS, FeedbackDraft, explain
from rlhf_core.feedback.service import submit_feedback, undo_last
from rlhf_core.feedback.views import InteractionView
from rlhf_core.store.engine import get_store

THUMBS = {1: ("Yes", "Y", "thumb_up"), -1: ("No", "N", "thumb_down")}
RATINGS = {1: "Bad", 2: "Poor", 3: "Fair", 4: "Good", 5: "Great"}
LABELS = {1: ("Good", "G"), 0: ("Neutral", "H"), -1: ("Wrong", "J")}
STEPS_A_PAGE = 20
NOWHERE = uuid.UUID(int=0)


def draw_keys(item: InteractionView | None) -> None:
    """Rating, thumb, and the way back and on. Without an item, only the way back."""
    with st.container(horizontal=True, gap="small", key="keys"):
        if item is not None:
            with _row("ratings"):
                _draw_ratings(item)
            with _row("thumbs"):
                _draw_thumbs(item)
            st.space("stretch")
        with _row("ways"):
            st.button("Back", key="back", shortcut="Left", on_click=_go_back, args=(item,))
            st.button("Undo", key="undo", shortcut="U", on_click=_undo)
            if item is not None:
                name = "Next" if item.is_rated else "Skip"
                st.button(name, key="next", shortcut="Right", on_click=_go_on, args=(item,))


def _row(key: str) -> Any:
    return st.container(horizontal=True, gap="xsmall", width="content", key=key)


def _draw_ratings(item: InteractionView) -> None:
    mine = item.my_feedback
    for rating, name in RATINGS.items():
        st.button(
            name,
            key=f"rating_{rating}",
            shortcut=str(rating),
            type=_chosen(mine is not None and mine.rating == rating),
            on_click=_judge,
            args=(item, f"{rating} of 5"),
            kwargs={"rating": rating},
        )


def _draw_thumbs(item: InteractionView) -> None:
    mine = item.my_feedback
    for thumb, (name, key, icon) in THUMBS.items():
        st.button(
            name,
            key=f"thumb_{key}",
            shortcut=key,
            icon=f":material/{icon}:",
            type=_chosen(mine is not None and mine.thumb == thumb),
            on_click=_judge,
            args=(item, f"thumb {'up' if thumb > 0 else 'down'}"),
            kwargs={"thumb": thumb},
        )


def draw_comment(item: InteractionView) -> None:
    """The comment: saved with the judgement, when moving on, or by Ctrl+Enter."""
    stored = item.my_feedback.comment if item.my_feedback else None
    st.text_area(
        "Comment",
        value=stored or "",
        key=_comment_key(item),
        max_chars=MAX_COMMENT_CHARS,
        height=100,
        placeholder="Why? What would be better?",
        persist_state="session",  # a page that could not be drawn must not lose what was typed
    )
    st.button(
        "Save comment",
        key="save_comment",
        shortcut="Ctrl+Enter",
        on_click=_save_comment,
        args=(item,),
    )


def draw_steps(item: InteractionView) -> None:
    """The reasoning steps, each to be labelled; the keys are those of the first unlabelled one."""
    num_labelled = sum(step.my_label is not None for step in item.steps)
    st.markdown(f"**Reasoning** · {num_labelled} of {len(item.steps)} steps labelled")
    first = 0
    if len(item.steps) > STEPS_A_PAGE:
        num_pages = -(-len(item.steps) // STEPS_A_PAGE)
        page = st.pagination(num_pages, key=f"steps_{item.id.hex}")
        first = (page - 1) * STEPS_A_PAGE
    shown = item.steps[first : first + STEPS_A_PAGE]
    current = next((step.position for step in shown if step.my_label is None), None)
    for step in shown:
        with st.container(border=True, key=f"step_{step.position}"):
            kind = f" · {plain(step.kind)}" if step.kind else ""
            st.caption(f"Step {step.position + 1}{kind}")
            draw_text(step.content, key=f"step_{step.id.hex}")
            with st.container(horizontal=True):
                for label, (name, key) in LABELS.items():
                    st.button(
                        name,
                        key=f"label_{step.position}_{key}",
                        shortcut=key if step.position == current else None,
                        type=_chosen(step.my_label == label),
                        on_click=_label,
                        args=(item, step.position, label),
                    )


def draw_failure() -> None:
    """What could not be saved, and why; shown once."""
    error = st.session_state.pop("feedback_failure", None)
    if error is not None:
        show_error(error)


def _chosen(is_chosen: bool) -> Any:
    return "primary" if is_chosen else "secondary"


def _comment_key(item: InteractionView) -> str:
    return f"comment_{item.id.hex}"


def _changed_comment(item: InteractionView) -> str | None:
    """The comment as typed, if it is another than the stored one."""
    typed = st.session_state.get(_comment_key(item))
    stored = (item.my_feedback.comment if item.my_feedback else None) or ""
    return None if typed is None or typed.strip() == stored else typed.strip()


def _store(item: InteractionView, **said: Any) -> bool:
    """Submit and commit. On failure keep the reason for `draw_failure`, and all that was typed."""
    actor = require_page(Permission.RATE)
    try:
        draft = FeedbackDraft(**said)
        with get_store().writing() as db:
            submit_feedback(db, item.id, draft, actor=actor)
    except ValidationError as error:
        st.session_state.feedback_failure = explain(error)
        return False
    except RlhfError as error:
        st.session_state.feedback_failure = error
        return False
    return True


def _judge(item: InteractionView, shown: str, **said: Any) -> None:
    """Save a thumb or rating, with the comment, and go to the next item to rate."""
    comment = _changed_comment(item)
    if comment is not None:
        said["comment"] = comment
    seen_item, seen_at = st.session_state.get("feedback_seen", (None, 0.0))
    if seen_item == item.id and not item.is_rated:
        said["duration_s"] = round(time.monotonic() - seen_at, 1)
    if _store(item, **said):
        notify(f"Saved: {shown}")
        _leave(item, None)


def _label(item: InteractionView, position: int, label: int) -> None:
    _store(item, step=position, label=label)


def _save_comment(item: InteractionView) -> None:
    _keep_comment(item)


def _keep_comment(item: InteractionView) -> bool:
    """Save a changed comment; true unless that fails."""
    comment = _changed_comment(item)
    if comment is None:
        return True
    if not _store(item, comment=comment):
        return False
    notify("Comment saved")
    return True


def _go_on(item: InteractionView) -> None:
    if not _keep_comment(item):
        return
    found = _find(after=item.id)
    if found is None:
        notify("There is no other item to rate.", icon=":material/info:")
    else:
        _leave(item, found)


def _go_back(item: InteractionView | None) -> None:
    if item is not None and not _keep_comment(item):
        return
    trail: list[uuid.UUID] = st.session_state.get("feedback_trail", [])
    while trail and item is not None and trail[-1] == item.id:
        trail.pop()
    found = trail.pop() if trail else _find(before=NOWHERE if item is None else item.id)
    if found is None:
        notify("You have rated nothing before this.", icon=":material/info:")
    else:
        st.query_params["item"] = str(found)


def _undo() -> None:
    """Take back one's last rating, label or comment, and show the item that it was about."""
    actor = require_page(Permission.RATE)
    try:
        with get_store().writing() as db:
            undone = undo_last(db, actor=actor)
    except RlhfError as error:
        st.session_state.feedback_failure = error
        return
    if undone is None:
        notify("There is nothing to undo: the last ten actions can be taken back.",
               icon=":material/info:")  # fmt: skip
        return
    if not undone.was_creation:  # of a first rating taken back, the comment stays as typed
        st.session_state.pop(f"comment_{undone.interaction_id.hex}", None)
    notify("Undone", icon=":material/undo:")
    st.query_params["item"] = str(undone.interaction_id)


def _find(**where: uuid.UUID) -> uuid.UUID | None:
    actor = require_page(Permission.RATE)
    try:
        with get_store().reading() as db:
            found = next_to_rate(db, actor=actor, queue_id=chosen_queue(), **where)
    except RlhfError as error:
        st.session_state.feedback_failure = error
        return None
    return None if found is None else found.id


def _leave(item: InteractionView, to: uuid.UUID | None) -> None:
    """Show another item; None: the next one to rate."""
    st.session_state.setdefault("feedback_trail", []).append(item.id)
    if to is None:
        st.query_params.pop("item", None)
    else:
        st.query_params["item"] = str(to)
