"""Deciding a dispute: a key or a button for each answer, then the reason."""

from typing import Any

import streamlit as st

from pages._ui.dispute_list import go_to
from pages._ui.guard import admit
from pages._ui.messages import plain, show_error
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import RlhfError
from rlhf_core.feedback.adjudication import MAX_REASON_CHARS, adjudicate, withdraw_adjudication
from rlhf_core.feedback.disputed import Dispute
from rlhf_core.feedback.pair_adjudication import (
    PairDispute,
    adjudicate_pair,
    withdraw_pair_adjudication,
)
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import AdjudicationDecision, Choice

_QUESTION = "dispute_question"  # what the open dialog is about
RESOLVED = {"decision": AdjudicationDecision.RESOLVED}
EXCLUDED = {"decision": AdjudicationDecision.EXCLUDED}

Said = dict[str, Any]
# (key, name, what it says)
RATING_KEYS: list[tuple[str, str, Said]] = [
    (str(n), f"{n} {word}", {**RESOLVED, "rating": n})
    for n, word in enumerate(("Bad", "Poor", "Fair", "Good", "Great"), 1)
]
THUMB_KEYS: list[tuple[str, str, Said]] = [
    ("Y", "Yes", {**RESOLVED, "thumb": 1}),
    ("N", "No", {**RESOLVED, "thumb": -1}),
]
LABEL_KEYS: list[tuple[str, str, Said]] = [
    ("G", "Good", {**RESOLVED, "label": 1}),
    ("N", "Neutral", {**RESOLVED, "label": 0}),
    ("W", "Wrong", {**RESOLVED, "label": -1}),
]
PAIR_KEYS: list[tuple[str, str, Said]] = [
    ("1", "Left", {"choice": Choice.LEFT}),
    ("2", "Right", {"choice": Choice.RIGHT}),
    ("0", "Tie", {"choice": Choice.TIE}),
]


# A dialog gives the focus to itself; here it is the reason that is typed next.
_focus_reason: Any = st.components.v2.component(
    "rlhf_focus_reason",
    html="<span hidden></span>\n",
    js="""
const OPENS_MS = 150;  // the dialog takes the focus while it opens
export default function () {
  setTimeout(() => {
    const box = document.querySelector('[role="dialog"] textarea');
    const focused = document.activeElement;
    if (box && !['BUTTON', 'TEXTAREA'].includes(focused?.tagName)) box.focus();
  }, OPENS_MS);
}
""",
)


def is_asking() -> bool:
    """Whether a dialog is open: the keys of the page are dead then."""
    return _QUESTION in st.session_state


def draw_keys(dispute: Dispute | PairDispute, place: int, num_all: int) -> None:
    """The answers, excluding, and the ways to the items before and behind."""
    _forget_other(dispute)
    standing = dispute.standing
    is_pair = isinstance(dispute, PairDispute)
    suffix = _suffix(dispute)
    with st.container(horizontal=True, gap="small", key="keys", vertical_alignment="center"):
        for key, name, said in _answers(dispute):
            st.button(
                name.removeprefix(f"{key} "), shortcut=_live(key), key=f"decide_{key}_{suffix}",
                on_click=_ask, args=(dispute, name, said, place),
            )  # fmt: skip
        st.button(
            "Exclude", shortcut=_live("X"), key=f"exclude_{suffix}", icon=":material/block:",
            help="It goes into no dataset.",
            on_click=_ask,
            args=(dispute, "Exclude", {"choice": None} if is_pair else EXCLUDED, place),
        )  # fmt: skip
        if standing is not None:
            st.button(
                "Take back", shortcut=_live("U"), key=f"take_back_{suffix}",
                help="The raters' answers count again.",
                on_click=_take_back, args=(standing.id, is_pair),
            )  # fmt: skip
        st.space("stretch")
        with st.container(horizontal=True, gap="small", width="content", key="ways"):
            st.button("Back", shortcut=_live("Left"), key=f"back_{suffix}", disabled=place == 0,
                      on_click=go_to, args=(place - 1,))  # fmt: skip
            st.button("Next", shortcut=_live("Right"), key=f"next_{suffix}",
                      disabled=place + 1 >= num_all, on_click=go_to, args=(place + 1,))  # fmt: skip


def _suffix(dispute: Dispute | PairDispute) -> str:
    if isinstance(dispute, PairDispute):
        return "_".join(one.hex for one in dispute.task.shown_ids)
    return (dispute.step or dispute.interaction).id.hex


def _answers(dispute: Dispute | PairDispute) -> list[tuple[str, str, Said]]:
    """What may be answered: a side, a step's label, a rating, or a thumb where only thumbs are."""
    if isinstance(dispute, PairDispute):
        return PAIR_KEYS
    if dispute.step is not None:
        return LABEL_KEYS
    has_ratings = any(one.rating is not None for one in dispute.opinions)
    return RATING_KEYS if has_ratings else THUMB_KEYS


def _live(key: str) -> str | None:
    return None if is_asking() else key


def _ask(dispute: Dispute | PairDispute, name: str, said: Said, place: int) -> None:
    standing = dispute.standing
    question = {
        **_names(dispute),
        "replaces": None if standing is None else standing.id,
        **said,
    }
    st.session_state[_QUESTION] = (name, place, question)


def _names(dispute: Dispute | PairDispute) -> dict[str, Any]:
    if isinstance(dispute, PairDispute):
        left_id, right_id = dispute.task.shown_ids
        return {"left_id": left_id, "right_id": right_id}
    return {
        "interaction_id": dispute.interaction.id,
        "step_id": None if dispute.step is None else dispute.step.id,
    }


def _forget() -> None:
    st.session_state.pop(_QUESTION, None)


def _forget_other(dispute: Dispute | PairDispute) -> None:
    """Drop a question about another dispute: the browser went back, or the list moved on."""
    _, _, question = st.session_state.get(_QUESTION, (None, None, None))
    if question is not None and not _names(dispute).items() <= question.items():
        _forget()


def ask_reason() -> None:
    """Open the dialog that a key asked for; at the end of the page."""
    question = st.session_state.get(_QUESTION)
    if question is not None:
        _ask_reason(*question)


@st.dialog("Decide", width="medium", on_dismiss=_forget)
def _ask_reason(name: str, place: int, question: dict[str, Any]) -> None:
    st.markdown(f"**{name}**" + (" in place of the decision before" * bool(question["replaces"])))
    with st.form("decide", border=False):
        reason = st.text_area(
            "Why? Kept with the decision", key="dispute_reason", max_chars=MAX_REASON_CHARS,
            height=90,
        )  # fmt: skip
        is_sent = st.form_submit_button("Decide", type="primary", key="dispute_confirm",
                                        shortcut="Ctrl+Enter")  # fmt: skip
    _focus_reason(key="focus_reason", width=1, height=1)
    if not is_sent:
        return
    actor = admit(Permission.ADJUDICATE)  # a dialog reruns without the page's guard
    if actor is None:
        return
    try:
        with get_store().writing() as db:
            decide = adjudicate_pair if "left_id" in question else adjudicate
            decide(db, actor=actor, reason=reason, **question)
    except RlhfError as error:
        show_error(error)
        return
    _forget()
    go_to(place)  # the list closes up: the next one stands there now
    notify(f"Decided: {name}")
    st.rerun()


def _take_back(decision_id: Any, is_pair: bool) -> None:
    actor = admit(Permission.ADJUDICATE)
    if actor is None:
        return
    try:
        with get_store().writing() as db:
            withdraw = withdraw_pair_adjudication if is_pair else withdraw_adjudication
            withdraw(db, decision_id, actor=actor)
    except RlhfError as error:
        notify(plain(str(error)), icon=":material/error:")
        return
    notify("Taken back: the raters' answers count again.")
