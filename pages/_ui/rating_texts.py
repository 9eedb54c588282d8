"""Comment and correction: what is typed is kept at each pause, and sent with the judgement."""

from typing import Any

import streamlit as st

from pages._ui.rating_diff import draw_diff
from pages._ui.rating_guard import FOCUS
from pages._ui.rating_place import SHOWN, Place, change, is_left, read_mine, refresh, submit
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor
from rlhf_core.feedback.drafts import MAX_COMMENT_CHARS
from rlhf_core.feedback.unsent import UnsentField, drop_unsent, keep_unsent

OPEN = "rating_correction"  # the item whose correction is open, or was closed by hand
MIN_HEIGHT, MAX_HEIGHT, CHARS_A_LINE = 120, 480, 70


def draw_comment(place: Place) -> None:
    """The comment: sent with the judgement, when moving on, or by Ctrl+Enter."""
    with st.container(key="texts", gap="xsmall"):
        st.text_area(
            "Comment (T)",
            value=place.item.unsent.get("comment", _stored(place, "comment")),
            key=_key(place, "comment"),
            max_chars=MAX_COMMENT_CHARS,
            height=100,
            placeholder="T to type, Esc to go back to the keys",
            on_change=_keep_typed,
            args=(place, "comment"),
        )


def draw_save(place: Place) -> None:
    """The buttons under the comment: save, and open or close the correction."""
    st.button(
        "Save",
        key=f"save_texts_{place.key}",
        shortcut="Ctrl+Enter",
        help="Save comment and correction now; else they are saved with the rating",
        on_click=_save,
        args=(place,),
    )
    st.button(
        "Close correction" if is_correcting(place) else "Correct",
        key=f"correct_{place.key}",
        shortcut="E",
        on_click=_open_or_close,
        args=(place,),
    )


def is_correcting(place: Place) -> bool:
    """Whether the correction is open: by hand, or because there is one."""
    where, is_open = st.session_state.get(OPEN, (None, False))
    if where == place.spot:
        return bool(is_open)
    return bool(_stored(place, "correction")) or "correction" in place.item.unsent


def draw_correction(place: Place) -> None:
    """The correction, typed into a copy of the completion, beside what it changes."""
    if is_correcting(place):
        with st.container(border=True, key="texts_correction", gap="small"):
            _draw_correction_box(place)
            st.button(
                "Discard correction",
                key=f"discard_{place.key}",
                type="tertiary",
                on_click=_discard,
                args=(place,),
            )


def _draw_correction_box(place: Place) -> None:
    completion = place.item.completion
    num_lines = sum(1 + len(line) // CHARS_A_LINE for line in completion.split("\n"))
    typed = st.text_area(
        "Corrected completion",
        value=_first_correction(place),
        key=_key(place, "correction"),
        height=max(MIN_HEIGHT, min(MAX_HEIGHT, 40 + 24 * num_lines)),
        on_change=_keep_typed,
        args=(place, "correction"),
    )
    if typed is None or typed == completion:
        st.caption("Change the text above: what differs shows here, side by side.")
        return
    draw_diff(completion, typed, key=f"diff_{place.key}")


def typed_texts(place: Place) -> dict[str, Any]:
    """Comment and correction as they stand on screen, where they differ from what is stored."""
    changed: dict[str, Any] = {}
    comment = _typed(place, "comment")
    if comment is not None and comment.strip() != _stored(place, "comment"):
        changed["comment"] = comment.strip()
    correction = _typed(place, "correction")
    if correction is not None:
        if not correction.strip() or correction == place.item.completion:
            correction = ""  # it corrects nothing
        if correction != _stored(place, "correction"):
            changed["correction"] = correction or None
    return changed


def keep_texts(place: Place) -> bool:
    """Store changed texts as feedback, before going elsewhere; true unless that fails."""
    texts = typed_texts(place)
    if not texts:
        return True

    def work(db: Any, actor: Actor) -> None:
        _submit_texts(db, place, actor, texts)

    if not change(work):
        return False
    notify("Comment saved" if set(texts) == {"comment"} else "Saved")
    return True


def _submit_texts(db: Any, place: Place, actor: Actor, texts: dict[str, Any]) -> None:
    submit(db, place, actor, **texts)
    drop_unsent(db, place.item.id, actor=actor)


def _save(place: Place) -> None:
    if not is_left(place):
        keep_texts(place)


def _keep_typed(place: Place, field: UnsentField) -> None:
    if st.session_state.get(SHOWN) != place.spot:
        return  # it went with the judgement
    typed = st.session_state.get(_key(place, field))

    def work(db: Any, actor: Actor) -> None:
        mine = read_mine(db, place, actor)  # a save may have come before this
        stored = (mine and getattr(mine, field)) or ""
        if field == "correction" and not stored:
            stored = place.item.completion
        kept = None if typed is None or typed == stored else typed
        keep_unsent(db, place.item.id, field, kept, actor=actor)

    change(work)


def _open_or_close(place: Place) -> None:
    is_open = not is_correcting(place)
    st.session_state[OPEN] = (place.spot, is_open)
    if is_open:
        st.session_state[FOCUS] = ".st-key-texts_correction textarea"


def _discard(place: Place) -> None:
    def work(db: Any, actor: Actor) -> None:
        drop_unsent(db, place.item.id, actor=actor, field="correction")
        if _stored(place, "correction"):
            submit(db, place, actor, correction=None)

    if change(work):
        st.session_state.pop(_key(place, "correction"), None)
        st.session_state[OPEN] = (place.spot, False)
        refresh(place.item.id)


def _first_correction(place: Place) -> str:
    kept = place.item.unsent.get("correction")
    return kept if kept is not None else _stored(place, "correction") or place.item.completion


def _typed(place: Place, field: UnsentField) -> str | None:
    """The text as typed: on screen, or where its box is closed, as it was kept."""
    typed = st.session_state.get(_key(place, field))
    return place.item.unsent.get(field) if typed is None else str(typed)


def _stored(place: Place, field: UnsentField) -> str:
    mine = place.item.my_feedback
    return "" if mine is None else getattr(mine, field) or ""


def _key(place: Place, field: UnsentField) -> str:
    return f"{field}_{place.key}"
