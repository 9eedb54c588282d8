"""How far raters agree, how reliable each of them is, and whether they prefer a side."""

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.messages import empty_state, reporting
from pages._ui.rater_drift_view import draw_drift
from pages._ui.rater_tables import SHUFFLED, SUBJECT_NAMES, draw_agreement, draw_bias, draw_raters
from pages._ui.scope_choice import ask_scope
from rlhf_core.accounts.permissions import Permission
from rlhf_core.analytics.agreement import compute_agreement
from rlhf_core.analytics.position_bias import list_position_bias, position_bias
from rlhf_core.analytics.rater_drift import read_rater_drift
from rlhf_core.analytics.raters import report_raters
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import QueueSubject, RaterKind

actor = require_page(Permission.READ_ANALYTICS)
st.title("Raters")
with reporting():
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scope = ask_scope(actor, key="raters_scope")
        with_repeats = st.toggle(
            "Count repeats",
            key="raters_repeats",
            help="An item that a rater was shown again counts as answered again. Without, a rater "
            "counts once an item: agreement with oneself is none between raters.",
        )
    with get_store().reading() as db:
        found = compute_agreement(db, actor=actor, scope=scope, with_repeats=with_repeats)

    st.header("Agreement")
    if found:
        draw_agreement(found)
        st.caption("With 95 % intervals, by drawing the items again. Withdrawn answers are out.")
    else:
        empty_state(
            "Nothing was judged by two raters yet",
            "Agreement shows once two people judged the same items: make a queue with an overlap "
            "of 2 or more, or import ratings with their raters.",
            icon=":material/group:",
            page="pages/collect/queues.py",
            page_label="Make a queue",
        )

    st.header("Each rater")
    subject = st.segmented_control(
        "Judging",
        list(SUBJECT_NAMES),
        format_func=SUBJECT_NAMES.__getitem__,
        default=QueueSubject.COMPLETIONS,
        required=True,
        key="raters_subject",
        label_visibility="collapsed",
    )
    with get_store().reading() as db:
        report = report_raters(db, actor=actor, subject=subject, scope=scope)
    if report.raters:
        draw_raters(report, subject)
    elif report.num_end_users:
        st.caption(f"Only end users judged here: {report.num_by_end_users:,} times.")
    else:
        st.caption(f"Nobody judged {SUBJECT_NAMES[subject].lower()} here yet.")

    with get_store().reading() as db:
        drift = read_rater_drift(db, actor=actor, scope=scope)
    if drift is not None:
        st.header("Did the answers change, or the raters?")
        draw_drift(drift)

    if subject is QueueSubject.COMPARISONS:
        st.header("Left and right")
        with get_store().reading() as db:
            asked = {"actor": actor, "queue_id": scope.queue_id, "rater_kind": RaterKind.SME}
            whole = position_bias(db, sources=SHUFFLED, **asked)
            each = list_position_bias(db, sources=SHUFFLED, **asked)
        names = {rater.rater_id: rater.name for rater in report.raters}
        draw_bias(whole, [(names[one.rater_id], one) for one in each if one.rater_id in names])
