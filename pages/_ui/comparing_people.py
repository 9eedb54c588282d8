"""With which version people side, blind, and asking them."""

from collections.abc import Sequence

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.messages import plain, reporting
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import RlhfError
from rlhf_core.queues.reward_pairs import (
    Disagreements,
    PeopleVerdict,
    create_version_queue,
    find_disagreements,
)
from rlhf_core.registry.comparisons import ComparisonView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import QueueSubject

FAILURE = "_version_queue_failure"
COIN = 0.5
ITEMS = {
    QueueSubject.COMPARISONS: "pairs",
    QueueSubject.COMPLETIONS: "answers",
    QueueSubject.STEPS: "solutions",
}
PAGES = {
    QueueSubject.COMPARISONS: "pages/collect/compare.py",
    QueueSubject.COMPLETIONS: "pages/collect/rate.py",
    QueueSubject.STEPS: "pages/collect/rate.py",
}


@st.cache_data(max_entries=100, show_spinner=False)
def _read_disagreements(
    comparison_id: str, other: str, _comparison: ComparisonView
) -> Disagreements:
    """A comparison never changes: neither does what its versions disagree on."""
    other_id = next(one for one in _comparison.version_ids if str(one) == other)
    return find_disagreements(_comparison, other_id, _comparison.version_ids[0])


def show_people(comparison: ComparisonView, people: Sequence[PeopleVerdict], actor: Actor) -> None:
    """What people said so far, and one button a version to ask them."""
    asked = {one.version_id for one in people}
    first = plain(comparison.names[str(comparison.version_ids[0])])
    with st.container(border=True, key="version_people"):
        st.markdown("**Judged by people, blind**")
        error: RlhfError | None = st.session_state.pop(FAILURE, None)
        if error is not None:
            with reporting():
                raise error
        for one in people:
            _show_verdict(one)
        for version_id in comparison.version_ids[1:]:
            if version_id in asked:
                continue
            name = plain(comparison.names[str(version_id)])
            found = None
            with reporting():
                found = _read_disagreements(str(comparison.id), str(version_id), comparison)
            if found is None:
                continue
            if not found.num_items:
                st.caption(f"{name} and {first} disagree on nothing that people could judge.")
            elif actor.may(Permission.MANAGE_QUEUES):
                st.button(
                    f"Let people decide between {name} and {first} ({_count(found)})",
                    icon=":material/balance:",
                    key=f"ask_people_{version_id.hex}",
                    help="Makes a queue of what they disagree on; who says what is hidden",
                    on_click=_ask,
                    args=(comparison, str(version_id)),
                )
            else:
                st.caption(f"{name} and {first} disagree on {_count(found)}; nobody was asked yet.")


def _count(found: Disagreements) -> str:
    """`16 pairs`, `1 pair`."""
    word = ITEMS[found.subject]
    return f"{found.num_items} {word if found.num_items != 1 else word.removesuffix('s')}"


def _show_verdict(people: PeopleVerdict) -> None:
    verdict = people.verdict
    rate, items = verdict.win_rate, ITEMS[people.subject]
    own, other = plain(people.version), plain(verdict.other)
    if rate is None:
        st.markdown(f"{own} or {other}: nobody has judged yet.")
    else:
        said = (f"People side with {own} against {other} in {rate.value:.0%} of "
                f"{verdict.num_compared} {items} ({rate.low:.0%} to {rate.high:.0%})")  # fmt: skip
        if rate.low > COIN:
            st.success(f"{said}: it is better.", icon=":material/trending_up:")
        elif rate.high < COIN:
            st.warning(f"{said}: it is worse.", icon=":material/trending_down:")
        else:
            st.info(f"{said}: that may be chance.", icon=":material/trending_flat:")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{verdict.num_compared} of {verdict.num_pairs} {items} judged"
            + ("" if verdict.is_open else ", the queue is closed"),
            width="content",
        )
        if verdict.is_open:
            st.page_link(
                PAGES[people.subject],
                label="Judge them",
                icon=":material/balance:",
                query_params={"queue": str(verdict.queue_id)},
            )


def _ask(comparison: ComparisonView, version: str) -> None:
    actor = require_page(Permission.MANAGE_QUEUES)
    version_id = next(one for one in comparison.version_ids if str(one) == version)
    try:
        with get_store().writing() as db:
            queue = create_version_queue(
                db, actor=actor, comparison_id=comparison.id, version_id=version_id
            )
    except RlhfError as error:
        st.session_state[FAILURE] = error
        return
    notify(f"{queue.num_items} items wait in the queue {plain(queue.name)}")
