"""Making a rating queue: which items, in which order, judged how and by whom."""

import secrets
import uuid

import streamlit as st

from pages._ui.messages import plain, reporting
from pages._ui.queue_filter import ask_filter, read_matching, read_num_matching, show_matches
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor
from rlhf_core.clock import utcnow
from rlhf_core.queues.checks import MAX_ASPECTS, MAX_ITEMS, MAX_NAME_CHARS, MAX_OVERLAP
from rlhf_core.queues.filters import QueueFilter
from rlhf_core.queues.selection import select_items, select_pairs
from rlhf_core.queues.service import create_queue, list_assignable
from rlhf_core.queues.views import DEFAULT_ASPECTS
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import QueueOrder, QueueSubject

SUBJECTS = {
    QueueSubject.COMPLETIONS: ("Answers", "Each answer is rated by itself."),
    QueueSubject.STEPS: ("Reasoning steps", "Each step of the reasoning is labelled."),
    QueueSubject.COMPARISONS: ("Comparisons", "Two answers to one prompt, the better one named."),
}
ORDERS = {
    QueueOrder.INFORMATIVE: (
        "What teaches most",
        "Half of them what a model is unsure of or raters disagree on, a fifth unlike each other, "
        "a fifth drawn at random, which gives unbiased figures.",
    ),
    QueueOrder.OLDEST_FIRST: ("Oldest first", "As they came."),
}
SHOWN = 20
DEFAULT_SIZE = 200


def show_make(actor: Actor) -> None:
    """The whole form, with what would come in as it stands."""
    subject = st.segmented_control(
        "What is judged", list(SUBJECTS), format_func=lambda one: SUBJECTS[one][0],
        default=QueueSubject.COMPLETIONS, required=True, key="queue_subject",
    )  # fmt: skip
    st.caption(SUBJECTS[subject][1])
    st.header("Which items")
    where = ask_filter(actor, "queue", subject=subject)
    count = read_num_matching(actor, where)
    what = "answer" if count == 1 else "answers"
    st.markdown(f"**{count:,} {what}** match{'es' if count == 1 else ''}.")
    if not count:
        return
    with st.expander(f"Look at the first {min(SHOWN, count)}", key="queue_preview"):
        show_matches(read_matching(actor, where, limit=SHOWN), key="queue_matches")
    st.header("How they are judged")
    _ask_rest(actor, where, subject, count)


def _ask_rest(actor: Actor, where: QueueFilter, subject: QueueSubject, count: int) -> None:
    of_pairs = subject is QueueSubject.COMPARISONS
    with get_store().reading() as db:
        people = {one.account_id: one for one in list_assignable(db, actor=actor)}
    with st.form("queue_make", border=True):
        name = st.text_input(
            "Name", value=f"{SUBJECTS[subject][0]}, {utcnow():%Y-%m-%d %H:%M}",
            max_chars=MAX_NAME_CHARS, key=f"queue_name_{subject.value}",
        )  # fmt: skip
        instructions = st.text_area(
            "Instructions", key="queue_instructions", max_chars=2_000, height=80,
            placeholder="What raters should look at; shown above each item.",
        )  # fmt: skip
        order = QueueOrder.INFORMATIVE
        if not of_pairs:
            order = st.radio(
                "Which first", list(ORDERS), key="queue_order",
                format_func=lambda one: ORDERS[one][0],
                captions=[caption for _, caption in ORDERS.values()],
            )  # fmt: skip
        with st.container(horizontal=True):
            size = st.number_input(
                "Pairs at most" if of_pairs else "Items at most", min_value=1, max_value=MAX_ITEMS,
                value=min(DEFAULT_SIZE, count), key="queue_size", width=150,
            )  # fmt: skip
            overlap = st.number_input(
                "Raters an item", min_value=1, max_value=MAX_OVERLAP, value=1, key="queue_overlap",
                width=150, help="From two on, their agreement is known.",
            )  # fmt: skip
            gold = _ask_percent("Known answers (%)", "queue_gold", 0, of_pairs,
                "Items that were adjudicated, or that you judged yourself, go to every rater: "
                "how often raters are right is known then.")  # fmt: skip
            repeat = _ask_percent("Repeats (%)", "queue_repeat", 10, False,
                "Items that come to the same rater a second time, a while later: how far raters "
                "agree with themselves is known then.")  # fmt: skip
            lease = st.number_input(
                "Minutes an item is held", min_value=1, max_value=1_440, value=30,
                key="queue_lease", width=180,
                help="Then it goes to somebody else; what its rater submits later is kept.",
            )  # fmt: skip
        aspects: list[str] = []
        if subject is QueueSubject.COMPLETIONS:
            aspects = st.multiselect(
                "Aspects", list(DEFAULT_ASPECTS), default=list(DEFAULT_ASPECTS),
                accept_new_options=True, max_selections=MAX_ASPECTS, key="queue_aspects",
                help="Rated 1 to 5 besides the whole. Type to add your own.",
            )  # fmt: skip
        assignees = st.multiselect(
            "Raters", list(people), key="queue_assignees", placeholder="Everyone",
            format_func=lambda one: f"{people[one].name} ({people[one].role.value})",
        )  # fmt: skip
        is_blind = st.toggle(
            "Blind", value=True, key="queue_blind",
            help="Raters see neither which model answered nor of which items the answer is known.",
        )  # fmt: skip
        is_asked = st.form_submit_button(
            "Make the queue", type="primary", icon=":material/playlist_add:", key="queue_start"
        )
    if is_asked:
        with reporting(), st.spinner("Choosing items ..."):
            _make(
                actor, where, order, int(size), name=name, subject=subject,
                instructions=instructions, overlap=int(overlap), gold_rate=gold / 100,
                repeat_rate=repeat / 100, lease_s=int(lease) * 60, assignee_ids=assignees,
                aspects=aspects, is_blind=is_blind,
            )  # fmt: skip


def _ask_percent(label: str, key: str, value: int, is_off: bool, help: str) -> int:
    return int(
        st.number_input(
            label, min_value=0, max_value=50, value=value, step=5, key=key, width=150, help=help,
            disabled=is_off,
        )
    )  # fmt: skip


def _make(
    actor: Actor, where: QueueFilter, order: QueueOrder, size: int, *, name: str, **rest: object
) -> None:
    """Choose, store, and show the new queue."""
    seed = secrets.randbits(32)
    with get_store().reading() as db:  # it may take a while: nobody's writing waits for it
        if where.subject is QueueSubject.COMPARISONS:
            items = select_pairs(db, actor=actor, where=where, limit=size, seed=seed)
        else:
            items = select_items(db, actor=actor, where=where, limit=size, order=order, seed=seed)
    with get_store().writing() as db:
        queue = create_queue(
            db, actor=actor, name=name, items=items, order=order, filters=where.to_json(),
            **rest,  # type: ignore[arg-type]
        )  # fmt: skip
    notify(f"{plain(queue.name)} has {queue.num_items:,} items.", icon=":material/playlist_add:")
    open_queue(queue.id)
    st.rerun()


def open_queue(queue_id: uuid.UUID) -> None:
    """Show this queue; also a callback."""
    st.query_params["queue"] = str(queue_id)
    st.session_state["queues_part_wanted"] = "Queues"
