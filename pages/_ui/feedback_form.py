"""The bar of keys: judging the whole, an aspect, and the ways on and back."""

from typing import Any

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.rating_aspects import advance, aspect_ratings, list_aspects, rate, target_of
from pages._ui.rating_place import (
    FAILURE,
    Place,
    find_former,
    find_next,
    judge,
    leave,
    point_to,
    refresh,
)
from pages._ui.rating_texts import keep_texts, typed_texts
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import RlhfError
from rlhf_core.feedback.undo import UndoneFeedback, undo_last
from rlhf_core.feedback.unsent import keep_withdrawn_texts
from rlhf_core.feedback.views import find_spot
from rlhf_core.store.engine import get_store

THUMBS = {1: ("Yes", "Y", "thumb_up"), -1: ("No", "N", "thumb_down")}
RATINGS = {1: "Bad", 2: "Poor", 3: "Fair", 4: "Good", 5: "Great"}


def draw_keys(place: Place | None) -> None:
    """Rating, thumb, and the way back and on. Without an item, only the way back."""
    with st.container(horizontal=True, gap="small", key="keys", vertical_alignment="center"):
        if place is not None and not place.is_about_steps:
            with _row("ratings"):
                _draw_ratings(place)
            with _row("thumbs"):
                _draw_thumbs(place)
        st.space("stretch")
        with _row("ways"):
            suffix = "none" if place is None else place.key
            st.button("Back", key=f"back_{suffix}", shortcut="Left", on_click=_go_back,
                      args=(place,))  # fmt: skip
            st.button("Undo", key="undo", shortcut="U", on_click=_undo)
            if place is not None:
                name = "Next" if place.is_judged else "Skip"
                st.button(name, key=f"next_{suffix}", shortcut="Right", on_click=_go_on,
                          args=(place,))  # fmt: skip


def _row(key: str) -> Any:
    return st.container(horizontal=True, gap="xsmall", width="content", key=key,
                        vertical_alignment="center")  # fmt: skip


def _draw_ratings(place: Place) -> None:
    target = target_of(place)
    aspects = list_aspects(place)
    mine = place.item.my_feedback
    given = mine and mine.rating if target is None else aspect_ratings(place).get(target)
    if aspects:
        st.button(
            "Overall" if target is None else "Aspect",
            key=f"target_{place.key}_{target}",
            shortcut="A",
            type="tertiary" if target is None else "primary",
            help="What the digits rate: the whole, or one aspect after the other",
            on_click=advance,
            args=(place,),
        )
    for rating, name in RATINGS.items():
        st.button(
            name,
            key=f"rating_{rating}_{place.key}_{target or ''}",
            shortcut=str(rating),
            type="primary" if given == rating else "secondary",
            on_click=_rate,
            args=(place, target, rating),
        )


def _draw_thumbs(place: Place) -> None:
    mine = place.item.my_feedback
    for thumb, (name, key, icon) in THUMBS.items():
        st.button(
            name,
            key=f"thumb_{key}_{place.key}",
            shortcut=key,
            icon=f":material/{icon}:",
            type="primary" if mine is not None and mine.thumb == thumb else "secondary",
            on_click=_judge,
            args=(place, f"thumb {'up' if thumb > 0 else 'down'}"),
            kwargs={"thumb": thumb},
        )


def _rate(place: Place, target: str | None, rating: int) -> None:
    if target is None:
        _judge(place, f"{rating} of 5", rating=rating)
    else:
        rate(place, target, rating)


def _judge(place: Place, shown: str, **said: Any) -> None:
    judge(place, shown, **said, **typed_texts(place))


def _go_on(place: Place) -> None:
    if not keep_texts(place):
        return
    try:
        found = find_next(place)
    except RlhfError as error:
        st.session_state[FAILURE] = error
        return
    if found is None or found == place.spot:
        notify("There is no other item to rate.", icon=":material/info:")
    else:
        leave(place, found)


def _go_back(place: Place | None) -> None:
    if place is not None and not keep_texts(place):
        return
    try:
        found = find_former(place)
    except RlhfError as error:
        st.session_state[FAILURE] = error
        return
    if found is None:
        notify("You have rated nothing before this.", icon=":material/info:")
    else:
        point_to(found)


def _undo() -> None:
    """Take back one's last action, and show the item that it was about."""
    actor = require_page(Permission.RATE)
    spot = None
    try:
        with get_store().writing() as db:
            undone = undo_last(db, actor=actor)
            if isinstance(undone, UndoneFeedback):
                spot = find_spot(db, undone.feedback_id, actor=actor)
                if undone.was_creation:  # of a rating taken back, the texts stay as typed
                    keep_withdrawn_texts(db, undone.feedback_id, actor=actor)
    except RlhfError as error:
        st.session_state[FAILURE] = error
        return
    if undone is None:
        notify("There is nothing to undo: the last ten actions can be taken back.",
               icon=":material/info:")  # fmt: skip
    elif spot is None:
        notify("Undone: your last comparison", icon=":material/undo:")
    else:
        notify("Undone", icon=":material/undo:")
        refresh(spot[0])
        point_to(spot)
