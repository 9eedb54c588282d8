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
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import AdjudicationDecision

_QUESTION = "dispute_question"  # what the open dialog is about
RESOLVED, EXCLUDED = AdjudicationDecision.RESOLVED, AdjudicationDecision.EXCLUDED

# (key, name, what it says)
RATING_KEYS = [(str(n), f"{n} {word}", {"rating": n}) for n, word in
               enumerate(("Bad", "Poor", "Fair", "Good", "Great"), 1)]  # fmt: skip
THUMB_KEYS = [("Y", "Yes", {"thumb": 1}), ("N", "No", {"thumb": -1})]
LABEL_KEYS = [
    ("G", "Good", {"label": 1}),
    ("N", "Neutral", {"label": 0}),
    ("W", "Wrong", {"label": -1}),
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


def draw_keys(dispute: Dispute, place: int, num_all: int) -> None:
    """The answers, excluding, and the ways to the items before and behind."""
    _forget_other(dispute)
    standing = dispute.standing
    suffix = (dispute.step or dispute.interaction).id.hex
    with st.container(horizontal=True, gap="small", key="keys", vertical_alignment="center"):
        for key, name, said in _answers(dispute):
            st.button(
                name.removeprefix(f"{key} "), shortcut=_live(key), key=f"decide_{key}_{suffix}",
                on_click=_ask, args=(dispute, RESOLVED, name, said, place),
            )  # fmt: skip
        st.button(
            "Exclude", shortcut=_live("X"), key=f"exclude_{suffix}", icon=":material/block:",
            help="It goes into no dataset.",
            on_click=_ask, args=(dispute, EXCLUDED, "Exclude", {}, place),
        )  # fmt: skip
        if standing is not None:
            st.button(
                "Take back", shortcut=_live("U"), key=f"take_back_{suffix}",
                help="The raters' answers count again.",
                on_click=_take_back, args=(standing.id,),
            )  # fmt: skip
        st.space("stretch")
        with st.container(horizontal=True, gap="small", width="content", key="ways"):
            st.button("Back", shortcut=_live("Left"), key=f"back_{suffix}", disabled=place == 0,
                      on_click=go_to, args=(place - 1,))  # fmt: skip
            st.button("Next", shortcut=_live("Right"), key=f"next_{suffix}",
                      disabled=place + 1 >= num_all, on_click=go_to, args=(place + 1,))  # fmt: skip


def _answers(dispute: Dispute) -> list[tuple[str, str, dict[str, int]]]:
    """What may be answered: a step's label, else a rating, else a thumb where only thumbs are."""
    if dispute.step is not None:
        return LABEL_KEYS
    has_ratings = any(one.rating is not None for one in dispute.opinions)
    return RATING_KEYS if has_ratings else THUMB_KEYS


def _live(key: str) -> str | None:
    return None if is_asking() else key


def _ask(
    dispute: Dispute, decision: AdjudicationDecision, name: str, said: dict[str, int], place: int
) -> None:
    standing = dispute.standing
    question = {
        **_names(dispute),
        "decision": decision,
        "replaces": None if standing is None else standing.id,
        **said,
    }
    st.session_state[_QUESTION] = (name, place, question)


def _names(dispute: Dispute) -> dict[str, Any]:
    return {
        "interaction_id": dispute.interaction.id,
        "step_id": None if dispute.step is None else dispute.step.id,
    }


def _forget() -> None:
    st.session_state.pop(_QUESTION, None)


def _forget_other(dispute: Dispute) -> None:
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
            adjudicate(db, actor=actor, reason=reason, **question)
    except RlhfError as error:
        show_error(error)
        return
    _forget()
    go_to(place)  # the list closes up: the next one stands there now
    notify(f"Decided: {name}")
    st.rerun()


def _take_back(decision_id: Any) -> None:
    actor = admit(Permission.ADJUDICATE)
    if actor is None:
        return
    try:
        with get_store().writing() as db:
            withdraw_adjudication(db, decision_id, actor=actor)
    except RlhfError as error:
        notify(plain(str(error)), icon=":material/error:")
        return
    notify("Taken back: the raters' answers count again.")
