"""Rating single aspects of a completion: by mouse in the list, by keys after `A`."""

from typing import Any

import streamlit as st

from pages._ui.messages import plain
from pages._ui.rating_place import Place, change, is_left, read_mine, submit
from rlhf_core.accounts.permissions import Actor
from rlhf_core.queues.views import DEFAULT_ASPECTS

TARGET = "rating_target"  # (widget key of the item, aspect): what the digits rate
SCALE = (1, 2, 3, 4, 5)


def list_aspects(place: Place) -> tuple[str, ...]:
    """What is rated besides the whole: the queue's aspects, and what this rater rated before."""
    wanted = DEFAULT_ASPECTS if place.queue is None else place.queue.aspects
    return (*wanted, *(name for name in aspect_ratings(place) if name not in wanted))


def aspect_ratings(place: Place) -> dict[str, int]:
    """The ratings given, by aspect."""
    mine = place.item.my_feedback
    return {} if mine is None else mine.aspects


def target_of(place: Place) -> str | None:
    """The aspect that the digits rate; None: the whole."""
    where, aspect = st.session_state.get(TARGET, (None, None))
    return aspect if where == place.key and aspect in list_aspects(place) else None


def advance(place: Place) -> None:
    """Let the digits rate the next aspect, after the last one the whole again: a callback."""
    names = [*list_aspects(place), None]
    now = target_of(place)
    st.session_state[TARGET] = (place.key, names[0 if now is None else names.index(now) + 1])


def draw_aspects(place: Place) -> None:
    """A row an aspect, with what was given."""
    names = list_aspects(place)
    if not names:
        return
    given = aspect_ratings(place)
    target = target_of(place)
    with st.container(key="aspects", gap="xsmall"):
        for name in names:
            st.segmented_control(
                f"**▸ {plain(name.capitalize())}**" if name == target else plain(name.capitalize()),
                SCALE,
                default=given.get(name),
                key=_widget_key(place, name),
                on_change=_take,
                args=(place, name),
            )


def rate(place: Place, name: str, rating: int) -> None:
    """Store the rating of an aspect, and let the digits rate the next one: a callback."""
    if is_left(place) or not _store(place, name, rating):
        return
    st.session_state[_widget_key(place, name)] = rating
    advance(place)


def _take(place: Place, name: str) -> None:
    _store(place, name, st.session_state[_widget_key(place, name)])


def _store(place: Place, name: str, rating: int | None) -> bool:
    def work(db: Any, actor: Actor) -> None:
        mine = read_mine(db, place, actor)
        aspects = {} if mine is None else dict(mine.aspects)
        aspects.pop(name, None)
        if rating is not None:
            aspects[name] = rating
        submit(db, place, actor, aspects=aspects)

    return change(work)


def _widget_key(place: Place, name: str) -> str:
    return f"aspect_{name}_{place.key}"
