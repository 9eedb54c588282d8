"""Labelling the steps of the way to an answer; keys work on the current one."""

from typing import Any

import streamlit as st

from pages._ui.interaction_view import draw_text
from pages._ui.messages import plain
from pages._ui.rating_place import Place, Spot, change, finish, is_left, leave, submit
from pages._ui.rating_texts import typed_texts
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor
from rlhf_core.feedback.step_labels import (
    are_steps_judged,
    find_first_wrong,
    label_first_wrong,
)
from rlhf_core.feedback.unsent import drop_unsent
from rlhf_core.feedback.views import StepView, get_interaction

LABELS = {1: ("Good", "G"), 0: ("Neutral", "H"), -1: ("Wrong", "J")}
STEPS_A_PAGE = 20
CURSOR = "rating_step"  # (item and occasion, position): the step that the keys label


def draw_steps(place: Place) -> None:
    """The steps, each to be labelled; nothing where there is none."""
    steps = place.item.steps
    if not steps:
        return
    current = current_step(place)
    with st.container(key="steps", gap="small"):
        _draw_head(place, current)
        page = 1
        if len(steps) > STEPS_A_PAGE:
            page_key = f"steps_page_{place.key}_{current}"
            page = st.pagination(
                -(-len(steps) // STEPS_A_PAGE), key=page_key, default=current // STEPS_A_PAGE + 1
            )
        first = (page - 1) * STEPS_A_PAGE
        for step in steps[first : first + STEPS_A_PAGE]:
            _draw_step(place, step, is_current=step.position == current)


def current_step(place: Place) -> int:
    """The position of the step that the keys label: the chosen one, else the first unlabelled."""
    where, position = st.session_state.get(CURSOR, (None, 0))
    last = len(place.item.steps) - 1
    if where == place.spot:
        return max(0, min(int(position), last))
    unlabelled = (step.position for step in place.item.steps if step.my_label is None)
    return next(unlabelled, last)


def _draw_head(place: Place, current: int) -> None:
    steps = place.item.steps
    num_labelled = sum(step.my_label is not None for step in steps)
    wrong = find_first_wrong(steps)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        said = f"{num_labelled} of {len(steps)} steps labelled"
        if wrong is not None:
            said += f", first wrong: step {wrong + 1}"
        st.markdown(f"**Reasoning** · {said}", width="content")
        st.space("stretch")
        with st.container(horizontal=True, gap="xsmall", width="content"):
            for name, key, by in (("Up", "W", -1), ("Down", "S", 1)):
                st.button(name, key=f"step_{name}_{place.key}_{current}", shortcut=key,
                          type="tertiary", disabled=not 0 <= current + by < len(steps),
                          on_click=_move_to, args=(place, current + by))  # fmt: skip


def _draw_step(place: Place, step: StepView, *, is_current: bool) -> None:
    name = f"step_now_{step.position}" if is_current else f"step_{step.position}"
    with st.container(border=True, key=name, gap="xsmall"):
        kind = f" · {plain(step.kind)}" if step.kind else ""
        with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
            st.caption(f"Step {step.position + 1}{kind}", width="content")
            st.space("stretch")
            for label, (name, key) in LABELS.items():
                st.button(
                    name,
                    key=f"label_{step.position}_{key}_{place.key}",
                    shortcut=key if is_current else None,
                    type=_kind(step.my_label == label, is_current),
                    on_click=_label,
                    args=(place, step.position, label),
                )
            if is_current:
                st.button(
                    "First wrong",
                    key=f"first_wrong_{step.position}_{place.key}",
                    shortcut="F",
                    help="This step is wrong, those before it are good",
                    on_click=_label_first_wrong,
                    args=(place, step.position),
                )
        draw_text(step.content, key=f"step_{step.id.hex}")


def _kind(is_chosen: bool, is_current: bool) -> Any:
    if is_chosen:
        return "primary"
    return "secondary" if is_current else "tertiary"


def _move_to(place: Place, position: int) -> None:
    st.session_state[CURSOR] = (place.spot, position)


def _label(place: Place, position: int, label: int) -> None:
    def work(db: Any, actor: Actor) -> None:
        submit(db, place, actor, step=position, label=label)

    _store(place, position + 1, work)


def _label_first_wrong(place: Place, position: int) -> None:
    def work(db: Any, actor: Actor) -> None:
        label_first_wrong(db, place.item.id, position, actor=actor, occasion=place.item.occasion)

    _store(place, position, work)


def _store(place: Place, following: int, work: Any) -> None:
    """Store labels; in a queue about steps go to the next item once they are complete."""
    if is_left(place):
        return
    done: list[Spot | None] = []

    def work_and_finish(db: Any, actor: Actor) -> None:
        work(db, actor)
        if place.is_about_steps and not are_steps_judged(place.item):
            now = get_interaction(db, place.item.id, actor=actor, occasion=place.item.occasion)
            if are_steps_judged(now):
                texts = typed_texts(place)
                if texts:
                    submit(db, place, actor, **texts)
                drop_unsent(db, place.item.id, actor=actor)
                done.append(finish(db, place, actor))

    if not change(work_and_finish):
        return
    if done:
        notify("Saved: all steps")
        leave(place, done[0])
    else:
        _move_to(place, following)
