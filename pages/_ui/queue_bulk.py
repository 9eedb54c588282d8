"""Rating many at once: choose, see what would happen, apply, and undo it as one."""

import streamlit as st
from pydantic import ValidationError

from pages._ui.guard import require_page
from pages._ui.messages import reporting, show_error
from pages._ui.queue_filter import ask_filter, read_matching, read_num_matching, show_matches
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import Conflict, RlhfError
from rlhf_core.feedback.drafts import MAX_COMMENT_CHARS, FeedbackDraft, explain
from rlhf_core.feedback.undo import UndoneFeedback, undo_last
from rlhf_core.queues.bulk import MAX_BULK, BulkPreview, preview_bulk, rate_in_bulk
from rlhf_core.queues.filters import Match
from rlhf_core.store.engine import get_store

RATINGS = {1: "1 Bad", 2: "2 Poor", 3: "3 Fair", 4: "4 Good", 5: "5 Great"}
THUMBS = {1: "Yes", -1: "No"}
FAILURE = "bulk_failure"


def show_bulk(actor: Actor) -> None:
    """Filter, table, judgement, preview, and the two buttons."""
    with st.expander("Which answers", expanded=True, key="bulk_filters"):
        where = ask_filter(actor, "bulk")
    count = read_num_matching(actor, where)
    if not count:
        st.caption("Nothing matches.")
        _draw_undo()
        return
    matches = read_matching(actor, where, limit=MAX_BULK)
    ticked = show_matches(matches, key="bulk_matches", can_select=True)
    if count > MAX_BULK:
        st.caption(f"The first {MAX_BULK:,} of {count:,}: so many can be rated at once.")
    if st.checkbox(f"All {len(matches):,} shown", key="bulk_all"):
        ticked = matches
    with st.container(horizontal=True, vertical_alignment="bottom"):
        rating = st.segmented_control(
            "Rating", list(RATINGS), format_func=RATINGS.__getitem__, key="bulk_rating"
        )
        thumb = st.segmented_control(
            "Thumb", list(THUMBS), format_func=THUMBS.__getitem__, key="bulk_thumb"
        )
    comment = st.text_input(
        "Comment", key="bulk_comment", max_chars=MAX_COMMENT_CHARS, placeholder="the same for all"
    )
    given = _collect(rating, thumb, comment)
    _draw_failure()
    with reporting(), st.container(horizontal=True, vertical_alignment="center"):
        preview = _preview(actor, ticked, given)
        st.button(
            f"Rate {preview.num_all:,}" if preview else "Rate",
            key="bulk_apply",
            type="primary",
            icon=":material/done_all:",
            disabled=preview is None,
            on_click=_apply,
            args=(tuple(one.id for one in ticked), given),
        )
        _draw_undo()
    st.caption(_say(preview, len(ticked), bool(given)))


def _collect(rating: int | None, thumb: int | None, comment: str | None) -> dict[str, object]:
    """What is said of all, as the fields of a draft."""
    said = {"rating": rating, "thumb": thumb, "comment": (comment or "").strip() or None}
    return {name: value for name, value in said.items() if value is not None}


def _preview(actor: Actor, ticked: list[Match], given: dict[str, object]) -> BulkPreview | None:
    if not ticked or not given:
        return None
    try:
        draft = FeedbackDraft.model_validate(given)
    except ValidationError as error:
        raise explain(error) from error
    with get_store().reading() as db:
        return preview_bulk(
            db, actor=actor, interaction_ids=[one.id for one in ticked], draft=draft
        )


def _say(preview: BulkPreview | None, num_ticked: int, is_given: bool) -> str:
    if preview is None:
        return (
            "Tick answers in the table, or all of them."
            if not num_ticked
            else f"{num_ticked:,} ticked: choose a rating, a thumb or a comment."
            if not is_given
            else ""
        )
    parts = [f"{preview.num_new:,} new"]
    if preview.num_changed:
        parts.append(f"{preview.num_changed:,} of yours changed")
    if preview.num_same:
        parts.append(f"{preview.num_same:,} stay as they are")
    return f"Would be: {', '.join(parts)}. One undo takes all of it back."


def _draw_undo() -> None:
    st.button("Undo", key="bulk_undo", icon=":material/undo:", on_click=_undo)


def _draw_failure() -> None:
    error = st.session_state.pop(FAILURE, None)
    if error is not None:
        show_error(error)


def _apply(ids: tuple[object, ...], given: dict[str, object]) -> None:
    """Store them all; a callback, which asks again who is signed in.

    What was typed or chosen in the moment of the click was not in the preview: it is shown first.
    """
    actor = require_page(Permission.RATE)
    fields = ("bulk_rating", "bulk_thumb", "bulk_comment")
    if given != _collect(*(st.session_state.get(name) for name in fields)):
        st.session_state[FAILURE] = Conflict(
            "Nothing was rated: what you say was changed after the preview. Look at it, and rate."
        )
        return
    try:
        with get_store().writing() as db:
            draft = FeedbackDraft.model_validate(given)
            rate_in_bulk(db, actor=actor, interaction_ids=ids, draft=draft)
    except RlhfError as error:
        st.session_state[FAILURE] = error
        return
    notify(f"Rated {len(ids):,} at once", icon=":material/done_all:")
    st.session_state["bulk_comment"] = ""
    st.session_state["bulk_all"] = False


def _undo() -> None:
    actor = require_page(Permission.RATE)
    try:
        with get_store().writing() as db:
            undone = undo_last(db, actor=actor)
    except RlhfError as error:
        st.session_state[FAILURE] = error
        return
    if undone is None:
        notify("There is nothing to undo: the last ten actions can be taken back.",
               icon=":material/info:")  # fmt: skip
        return
    count = undone.num_undone if isinstance(undone, UndoneFeedback) else 1
    notify(f"Undone: {count:,} rating{'s' if count != 1 else ''}", icon=":material/undo:")
