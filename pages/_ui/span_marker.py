"""The completion, with passages that the rater tagged: select, then a tag and a note.

By mouse or finger: select text. By keys: `M`, arrows with Shift, Enter, a digit. The text reaches
the page as text nodes of our own component: no Markdown, no HTML, nothing fetched. Places are
counted in characters (code points), as Python and both databases count them.
"""

from functools import partial
from typing import Any

import streamlit as st
from pydantic import ValidationError

from pages._ui.interaction_view import LONG_TEXT_CHARS
from pages._ui.rating_place import FAILURE, Place, change, read_mine, submit
from pages._ui.span_script import CSS, HTML, JS
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor
from rlhf_core.feedback.drafts import SpanDraft, explain
from rlhf_core.feedback.views import SpanView

TAGS = {
    "wrong": "red",
    "unsupported": "orange",
    "unsafe": "violet",
    "unclear": "yellow",
    "tone": "blue",
    "good": "green",
}
"""What a passage may be, and the colour that marks it."""

_component: Any = st.components.v2.component(
    "rlhf_spans", html=HTML, css=CSS, js=JS, isolate_styles=False
)


def draw_completion(place: Place) -> None:
    """The completion, its tagged passages, and the way to tag one more."""
    text = place.item.completion
    if not text.strip():
        st.markdown("**Completion**")
        st.caption("Empty: the assistant answered nothing.")
        return
    whole_key = f"whole_completion_{place.item.id.hex}"
    is_long = len(text) > LONG_TEXT_CHARS
    is_cut = is_long and not st.session_state.get(whole_key)
    mine = place.item.my_feedback
    key = f"spans_{place.key}"
    _component(
        data={
            "text": text[:LONG_TEXT_CHARS] if is_cut else text,
            "isCut": is_cut,
            "tags": list(TAGS.items()),
            "spans": [
                {"start": span.start_at, "end": span.end_at, "tag": span.tag, "note": span.note}
                for span in (mine.spans if mine else ())
            ],
        },
        key=key,
        on_added_change=partial(_add, place, key),
        on_removed_change=partial(_remove, place, key),
    )
    if is_long:
        st.toggle(f"Show all {len(text):,} characters", key=whole_key)


def _add(place: Place, key: str) -> None:
    told = st.session_state[key].get("added")
    if not told:
        return
    try:
        span = SpanDraft(
            start_at=told.get("start"),
            end_at=told.get("end"),
            tag=told.get("tag"),
            note=told.get("note") or None,
        )
    except ValidationError as error:
        st.session_state[FAILURE] = explain(error)
        return
    if _store(place, [SpanView(span.start_at, span.end_at, span.tag, span.note)], []):
        notify(f"Tagged: {span.tag}" if span.tag in TAGS else "Tagged")


def _remove(place: Place, key: str) -> None:
    told = st.session_state[key].get("removed")
    if not told:
        return
    gone = SpanView(told.get("start"), told.get("end"), told.get("tag"), told.get("note"))
    if _store(place, [], [gone]):
        notify("Tag removed")


def _store(place: Place, more: list[SpanView], gone: list[SpanView]) -> bool:
    def work(db: Any, actor: Actor) -> None:
        mine = read_mine(db, place, actor)
        left = [span for span in (mine.spans if mine else ()) if span not in gone + more]
        spans = [
            SpanDraft(start_at=span.start_at, end_at=span.end_at, tag=span.tag, note=span.note)
            for span in left + more
        ]
        submit(db, place, actor, spans=spans)

    return change(work)
