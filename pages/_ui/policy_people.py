"""What people say of a policy's answers beside another one's: asking them, and who wins."""

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.messages import plain, reporting
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import RlhfError
from rlhf_core.queues.policy_pairs import (
    HumanVerdict,
    create_policy_queue,
    list_opponents,
    list_verdicts,
)
from rlhf_core.registry.evaluations import EvaluationView
from rlhf_core.store.engine import get_store

FAILURE = "policy_people_failure"
COIN = 0.5


def show_people(evaluation: EvaluationView, actor: Actor) -> None:
    """What people said so far, and one button to ask them."""
    with get_store().reading() as db:
        verdicts = list_verdicts(db, evaluation.id, actor=actor)
    opponents = list_opponents(evaluation)
    may_ask = actor.may(Permission.MANAGE_QUEUES)
    asked = {verdict.other for verdict in verdicts}
    open_to_ask = {
        place: said for place, said in opponents.items() if said[0] not in asked and may_ask
    }
    if not verdicts and not open_to_ask:
        return
    with st.container(border=True, key="policy_people"):
        st.markdown("**Compared by people, blind**")
        error: RlhfError | None = st.session_state.pop(FAILURE, None)
        if error is not None:
            with reporting():
                raise error
        for verdict in verdicts:
            _show_verdict(verdict)
        for place, (name, num_pairs) in open_to_ask.items():
            pairs = "1 pair" if num_pairs == 1 else f"{num_pairs} pairs"
            st.button(
                f"Let people compare it with {plain(name)} ({pairs})",
                icon=":material/compare:",
                key=f"ask_people_{place}",
                help="Makes a queue of comparisons; who answered is hidden, sides are shuffled",
                on_click=_ask,
                args=(evaluation, place),
            )


def _show_verdict(verdict: HumanVerdict) -> None:
    rate = verdict.win_rate
    if rate is None:
        st.markdown(f"Against {plain(verdict.other)}: nobody has compared yet.")
    else:
        said = (f"Against {plain(verdict.other)} people prefer it in {rate.value:.0%} of "
                f"{verdict.num_compared} pairs ({rate.low:.0%} to {rate.high:.0%})")  # fmt: skip
        if rate.low > COIN:
            st.success(f"{said}: it is better.", icon=":material/trending_up:")
        elif rate.high < COIN:
            st.warning(f"{said}: it is worse.", icon=":material/trending_down:")
        else:
            st.info(f"{said}: that may be chance.", icon=":material/trending_flat:")
        st.caption(
            f"{verdict.num_wins} better, {verdict.num_losses} worse, {verdict.num_ties} ties, "
            f"{verdict.num_both_bad} both bad; a tie counts half."
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{verdict.num_compared} of {verdict.num_pairs} pairs compared"
            + ("" if verdict.is_open else ", the queue is closed"),
            width="content",
        )
        if verdict.is_open:
            st.page_link(
                "pages/collect/compare.py",
                label="Compare",
                icon=":material/compare:",
                query_params={"queue": str(verdict.queue_id)},
            )


def _ask(evaluation: EvaluationView, place: str) -> None:
    actor = require_page(Permission.MANAGE_QUEUES)
    try:
        with get_store().writing() as db:
            queue = create_policy_queue(
                db,
                actor=actor,
                version_id=evaluation.model_version_id,
                evaluation_id=evaluation.id,
                other=place,
            )
    except RlhfError as error:
        st.session_state[FAILURE] = error
        return
    notify(f"{queue.num_items} pairs wait on the page Compare: {plain(queue.name)}")
