"""One queue for its manager: progress, pace, who did what, whom it is for, and its end."""

import uuid

import pandas as pd
import streamlit as st

from pages._ui.guard import require_page
from pages._ui.job_panel import describe_duration
from pages._ui.messages import plain, reporting
from pages._ui.queue_list import show_badges, show_rate_link
from pages._ui.rating_queue import read_num_done
from pages._ui.sparklines import draw_sparkline
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.clock import utcnow
from rlhf_core.errors import NotFound
from rlhf_core.queues.progress import Pace, RaterProgress, compute_pace, list_rater_progress
from rlhf_core.queues.service import (
    close_queue,
    get_queue,
    list_assignable,
    reopen_queue,
    set_queue,
)
from rlhf_core.queues.views import Assignable, QueueView
from rlhf_core.store.engine import get_store


def show_panel(actor: Actor, queue: QueueView) -> None:
    """All of it, from the figures to the button that closes it."""
    with get_store().reading() as db:
        pace = compute_pace(db, queue, actor=actor)
        raters = list_rater_progress(db, queue.id, actor=actor)
    st.button("All queues", key="queues_back", icon=":material/arrow_back:", on_click=_leave)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(plain(queue.name), width="content")
        show_badges(queue)
        st.space("stretch")
        show_rate_link(actor, queue)
    _show_figures(queue, pace)
    st.header("Who did what")
    _show_raters(raters)
    st.header("Raters and instructions")
    _ask_changes(actor, queue)
    _show_end(queue)


def _show_figures(queue: QueueView, pace: Pace) -> None:
    done = min(queue.num_items, read_num_done(queue, queue.id))
    with st.grid(4, key="queue_figures"):
        st.metric("Items done", f"{done:,} of {queue.num_items:,}", border=True, height="stretch")
        st.metric("Judgements wanted still", f"{pace.num_left:,}", border=True, height="stretch")
        with st.container(border=True, height="stretch"):
            st.metric(
                "Judgements a day", f"{pace.per_day:,.1f}",
                help="Over the last week; the bars are the last 14 days.",
            )  # fmt: skip
            draw_sparkline(pace.daily, "Judgements on each of the last 14 days", as_bars=True)
        st.metric(
            "Done in", _say_days(pace), border=True, height="stretch",
            help="At the pace of the last week.",
        )  # fmt: skip
    controls = [
        f"{queue.num_gold:,} with a known answer" if queue.num_gold else "",
        f"{queue.num_repeats:,} repeats besides" if queue.num_repeats else "",
    ]
    said = ", ".join(one for one in controls if one)
    made = f"Made on {queue.created_at:%Y-%m-%d %H:%M} UTC."
    st.caption(f"{made} {said[:1].upper()}{said[1:]}{'.' if said else ''}")


def _say_days(pace: Pace) -> str:
    if pace.num_left == 0:
        return "all done"
    if pace.days_left is None:
        return "stands still"
    days = pace.days_left
    return "under a day" if days < 1 else f"{days:,.0f} day{'s' if round(days) != 1 else ''}"


def _show_raters(raters: list[RaterProgress]) -> None:
    if not raters:
        st.caption("Nobody judged anything here yet.")
        return
    now = utcnow()
    frame = pd.DataFrame(
        {
            "Rater": [one.name for one in raters],
            "Judged": [one.num_done for one in raters],
            "Holds now": [one.num_open_leases for one in raters],
            "Median time (s)": [one.median_s for one in raters],
            "Last": [
                "" if one.last_at is None
                else f"{describe_duration((now - one.last_at).total_seconds())} ago"
                for one in raters
            ],
        }
    )  # fmt: skip
    st.dataframe(
        frame, hide_index=True, key="queue_raters", alt="Raters of this queue",
        column_config={"Median time (s)": st.column_config.NumberColumn(format="%.1f")},
    )  # fmt: skip


def _ask_changes(actor: Actor, queue: QueueView) -> None:
    with get_store().reading() as db:
        found = list_assignable(db, actor=actor, also=queue.assignee_ids)
    people = {one.account_id: one for one in found}
    with st.form("queue_set", border=True):
        instructions = st.text_area(
            "Instructions", value=queue.instructions or "", max_chars=2_000, height=80,
            key=f"set_instructions_{queue.id.hex}",
        )  # fmt: skip
        assignees = st.multiselect(
            "Raters", list(people), placeholder="Everyone",
            default=[one for one in queue.assignee_ids if one in people],
            format_func=lambda one: _name(people[one]),
            key=f"set_assignees_{queue.id.hex}",
        )  # fmt: skip
        is_asked = st.form_submit_button("Save", icon=":material/save:", key="queue_save")
    if is_asked:
        with reporting():
            with get_store().writing() as db:
                set_queue(
                    db, queue.id, actor=actor, instructions=instructions, assignee_ids=assignees
                )
            notify("Saved")
            st.rerun()


def _name(person: Assignable) -> str:
    state = "disabled" if person.is_disabled else person.role.value
    return f"{person.name} ({state})"


def _show_end(queue: QueueView) -> None:
    if queue.is_open:
        st.caption("A closed queue gives nothing out. What was judged in it stays.")
    st.button(
        "Close the queue" if queue.is_open else "Open it again",
        key="queue_close" if queue.is_open else "queue_reopen",
        icon=":material/lock:" if queue.is_open else ":material/lock_open:",
        on_click=_set_closed,
        args=(queue,),
    )


def _set_closed(queue: QueueView) -> None:
    """A callback: it asks again who is signed in."""
    actor = require_page(Permission.MANAGE_QUEUES)
    change = close_queue if queue.is_open else reopen_queue
    with reporting(), get_store().writing() as db:
        change(db, queue.id, actor=actor)
        notify("Closed" if queue.is_open else "Open again")


def _leave() -> None:
    st.query_params.pop("queue", None)


def find_shown(actor: Actor, queue_id: object) -> QueueView | None:
    """The queue that the address names, closed or not."""
    if not queue_id:
        return None
    try:
        wanted = uuid.UUID(str(queue_id))
    except ValueError:
        raise NotFound("The address names no rating queue; it may be cut off.") from None
    with get_store().reading() as db:
        return get_queue(db, wanted, actor=actor, with_closed=True)
