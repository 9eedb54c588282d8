"""Schedules: what is trained by itself, when, and what came of the last time."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from pages._ui.guard import admit, require_page
from pages._ui.messages import plain, reporting
from pages._ui.schedule_form import WHAT_NAMES, ask_schedule, show_last
from pages._ui.state import notify, show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import RlhfError
from rlhf_core.jobs import schedules
from rlhf_core.jobs.heartbeats import find_worker_trouble
from rlhf_core.jobs.schedules import ScheduleView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Resource


def act(change: Callable[..., Any], said: str, *args: Any, **fields: Any) -> bool:
    """Change something on behalf of whoever is signed in; keep a sentence for the page."""
    actor = admit(Permission.RUN_JOBS)  # callbacks and dialogs run without the page's guard
    if actor is None:
        return False
    try:
        with get_store().writing() as db:
            change(db, *args, actor=actor, **fields)
    except RlhfError as error:
        notify(plain(str(error)), icon=":material/error:")
        return False
    notify(said)
    return True


def switch(name: str) -> None:
    is_on = bool(st.session_state[f"on_{name}"])
    said = "It is switched on." if is_on else "It is switched off."
    act(schedules.set_schedule, said, name, is_enabled=is_on)


def start(name: str) -> None:
    act(schedules.enqueue_schedule, "The retraining is queued: see Runs.", name)


def remove(name: str) -> None:
    act(schedules.delete_schedule, "It is removed.", name)


def forget_change() -> None:
    st.session_state.pop(CHANGED, None)


@st.dialog("Change the schedule", width="medium", on_dismiss=forget_change)
def change(schedule: ScheduleView) -> None:
    st.caption(plain(schedule.name.capitalize()))
    wanted = ask_schedule("change", schedule)
    is_asked = st.button("Save", type="primary", key="save_change", disabled=bool(wanted.problem))
    if is_asked:
        said = "The schedule is changed."
        act(schedules.set_schedule, said, schedule.name, **wanted.fields())
        forget_change()
        st.rerun()


def show_schedule(schedule: ScheduleView) -> None:
    name = schedule.name
    with st.container(border=True, key=f"schedule_{name}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            # As it is stored, whoever switched it: the widget's own memory may be older.
            st.session_state[f"on_{name}"] = schedule.is_enabled
            st.toggle(
                plain(name.capitalize()),
                key=f"on_{name}",
                on_change=switch,
                args=(name,),
            )
            st.space("stretch")
            st.button(
                "Start now", icon=":material/play_arrow:", key=f"start_{name}",
                on_click=start, args=(name,),
            )  # fmt: skip
            if st.button("Change", icon=":material/edit:", key=f"change_{name}"):
                st.session_state[CHANGED] = name
            if schedule.is_stored:
                st.button(
                    "Remove", icon=":material/delete:", key=f"remove_{name}",
                    on_click=remove, args=(name,),
                )  # fmt: skip
        when = schedules.describe_trigger(schedule.trigger, schedule.cron, schedule.params)
        said = f"{WHAT_NAMES[schedule.params['what']]}: {when}"
        if schedule.next_at:
            said += f", next {schedule.next_at:%Y-%m-%d %H:%M} UTC"
        st.markdown(plain(said))
        show_last(schedule)


def add() -> None:
    """The form of a new one, empty again after each."""
    key = f"new{st.session_state.get(ADDED, 0)}"
    with st.expander("Add a schedule", icon=":material/add:", key="add_schedule"):
        name = st.text_input("Name", max_chars=200, key=f"{key}_name")
        wanted = ask_schedule(key)
        is_off = not name.strip() or bool(wanted.problem)
        if st.button("Add, switched on", type="primary", key="save_new", disabled=is_off):
            said = "The schedule is switched on."
            fields = wanted.fields()
            if act(schedules.create_schedule, said, name=name, is_enabled=True, **fields):
                st.session_state[ADDED] = st.session_state.get(ADDED, 0) + 1
            st.rerun()


actor = require_page(Permission.RUN_JOBS)
CHANGED = "schedule_to_change"  # holds the name of the schedule that the dialog is about
ADDED = "num_schedules_added"
st.title("Retraining")
show_notices()
st.caption(
    "A retraining freezes the feedback, trains and examines, and proposes a version in Models. It "
    "never promotes one, never runs twice at a time, and is skipped where nothing is new."
)
with reporting():
    with get_store().reading() as db:
        found = schedules.list_schedules(db, actor=actor)
        trouble = find_worker_trouble(db, Resource.CPU)
    if trouble and any(schedule.is_enabled for schedule in found):
        st.warning(plain(trouble), icon=":material/cloud_off:")
    for schedule in found:
        show_schedule(schedule)
    add()
    asked = next((s for s in found if s.name == st.session_state.get(CHANGED)), None)
    if asked:
        change(asked)
