"""One's own ratings: what to look for, and the list of what was found."""

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, time

import pandas as pd
import streamlit as st

from rlhf_core.feedback.history import HistoryEntry, HistoryFilter, Subject
from rlhf_core.vocabulary import Choice

A_PAGE = 50
SUBJECT_NAMES = {
    Subject.COMPLETION: "Completions",
    Subject.STEP: "Steps",
    Subject.COMPARISON: "Comparisons",
}
ALL, STANDING, CHANGED, WITHDRAWN = "All", "Standing", "Changed", "Withdrawn"
CHOICE_NAMES = {
    Choice.LEFT: "left is better",
    Choice.RIGHT: "right is better",
    Choice.TIE: "tie",
    Choice.BOTH_BAD: "both bad",
}
STRENGTH_NAMES = {1: "slightly", 2: "clearly", 3: "much"}
LABEL_NAMES = {1: "good", 0: "neutral", -1: "wrong"}
THUMB_NAMES = {1: "thumb up", 0: "thumb neutral", -1: "thumb down"}
PROMPT_CHARS = 120


def ask_filter() -> HistoryFilter:
    """What the person looks for; a change goes back to the first page."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="history_filter"):
        subject = st.selectbox(
            "What",
            [ALL, *SUBJECT_NAMES],
            format_func=lambda one: SUBJECT_NAMES.get(one, one),
            key="history_subject",
            width=170,
            on_change=leave_entry,
        )
        state = st.selectbox(
            "State",
            [ALL, STANDING, CHANGED, WITHDRAWN],
            key="history_state",
            width=140,
            on_change=leave_entry,
        )
        since = st.date_input("Since", None, key="history_since", width=140, on_change=leave_entry)
        text = st.text_input("In the prompt", key="history_text", width=190, on_change=leave_entry)
    return HistoryFilter(
        subject=None if subject == ALL else Subject(subject),
        since=datetime.combine(since, time(), UTC) if since else None,
        is_withdrawn={STANDING: False, WITHDRAWN: True}.get(str(state)),
        is_changed=state == CHANGED,
        text=text or "",
    )


def close_entry() -> None:
    """Show no entry in full; a callback."""
    st.query_params.pop("entry", None)


def leave_entry() -> None:
    """Show no entry in full, and the first page; a callback."""
    close_entry()
    st.session_state.pop("history_page", None)


def ask_page(num_entries: int) -> int:
    """Which page of the list, from 0."""
    num_pages = -(-num_entries // A_PAGE)
    if num_pages < 2:
        return 0
    return int(st.pagination(num_pages, key="history_page")) - 1


def show_list(entries: Sequence[HistoryEntry], chosen: uuid.UUID | None) -> None:
    """The entries, the latest first; a click on a row puts its id into the address."""
    ids = [entry.id for entry in entries]
    frame = pd.DataFrame(
        {
            "Made": [entry.made_at for entry in entries],
            "What": [describe_subject(entry) for entry in entries],
            "You said": [describe_said(entry) for entry in entries],
            "Prompt": [shorten(entry.prompt, PROMPT_CHARS) for entry in entries],
            "Queue": [entry.queue or "" for entry in entries],
            "Changes": [entry.num_changes for entry in entries],
            "State": ["withdrawn" if entry.withdrawn_at else "" for entry in entries],
        }
    )
    # A row is known to the browser by its place only: with the list, the table is a new one.
    key = hashlib.sha256(repr((ids, chosen)).encode()).hexdigest()[:12]

    def choose() -> None:
        rows = st.session_state[f"history_{key}"].selection.rows
        if rows:
            st.query_params["entry"] = str(ids[rows[0]])

    selected = {"rows": [ids.index(chosen)]} if chosen in ids else {"rows": []}
    st.dataframe(
        frame,
        hide_index=True,
        height="auto" if len(entries) < 9 else 320,
        column_config={
            "Made": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC"),
            "Prompt": st.column_config.TextColumn(width="large"),
            "Changes": st.column_config.NumberColumn(width=80),
        },
        on_select=choose,
        selection_mode="single-row",
        selection_default={"selection": selected},
        key=f"history_{key}",
        alt="Your ratings, the latest first",
    )


def describe_subject(entry: HistoryEntry) -> str:
    """Completion, step 3, comparison; with the occasion where it was shown again."""
    match entry.subject:
        case Subject.COMPLETION:
            name = "completion"
        case Subject.STEP:
            name = f"step {(entry.position or 0) + 1}"
        case Subject.COMPARISON:
            name = "comparison"
    return f"{name}, shown again" if entry.occasion else name


def describe_said(entry: HistoryEntry) -> str:
    """What was said, in a few words."""
    parts = []
    if entry.rating is not None:
        parts.append(f"{entry.rating} of 5")
    if entry.thumb is not None:
        parts.append(THUMB_NAMES[entry.thumb])
    if entry.label is not None:
        parts.append(LABEL_NAMES[entry.label])
    if entry.choice is not None:
        how = STRENGTH_NAMES.get(entry.strength or 0)
        said = CHOICE_NAMES[entry.choice]
        parts.append(said.replace(" is ", f" is {how} ") if how else said)
    parts += [f"{name} {rating}" for name, rating in sorted(entry.aspects.items())]
    if entry.num_spans:
        parts.append(f"{entry.num_spans} passage{'s' if entry.num_spans > 1 else ''} tagged")
    if entry.correction is not None:
        parts.append("corrected")
    if entry.comment:
        parts.append(f"“{shorten(entry.comment, 60)}”")
    return ", ".join(parts) or "nothing"


def shorten(text: str, num_chars: int) -> str:
    """The text on one line, cut off at so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= num_chars else f"{line[:num_chars].rstrip()} …"
