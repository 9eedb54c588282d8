"""The list of disputed items, and which of them is on screen: `?at=` is its number from 0."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import pandas as pd
import streamlit as st

from rlhf_core.accounts.permissions import Actor
from rlhf_core.analytics.disputes import PAGE_SIZE, DisputedItem
from rlhf_core.analytics.scope import Scope
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import AdjudicationDecision

ANSWERS, PAIRS = "Answers", "Pairs"
OPEN, DECIDED = "Open", "Decided"
LABELS = {1: "good", 0: "neutral", -1: "wrong"}


def current_place() -> int:
    """The number of the item on screen."""
    given = str(st.query_params.get("at", "0"))
    return min(int(given), 10**9) if given.isdecimal() and given.isascii() else 0


def go_to(place: int) -> None:
    """Show another item."""
    st.query_params["at"] = str(max(0, place))


class _Part(Protocol):
    @property
    def num_all(self) -> int: ...


PartT = TypeVar("PartT", bound=_Part)


def read_page(
    list_part: Callable[..., PartT], actor: Actor, scope: Scope, *, is_decided: bool
) -> tuple[PartT, int]:
    """The part of the list around the item on screen, and the item's number in the whole list.

    `list_part` is `list_disputes`, or `list_pair_disputes`.
    """
    place = current_place()
    while True:
        start = place // PAGE_SIZE * PAGE_SIZE
        with get_store().reading() as db:
            page = list_part(db, actor=actor, scope=scope, is_decided=is_decided, offset=start)
        last = max(0, page.num_all - 1)
        if place <= last:
            return page, place
        place = last  # the list became shorter


def draw_list(rows: Sequence[dict[str, str]], num_all: int, place: int, *, key: str) -> None:
    """The items around the one on screen; a click on a row shows it."""
    start = place // PAGE_SIZE * PAGE_SIZE

    def choose() -> None:
        picked = st.session_state[key].selection.rows
        if picked:
            go_to(start + picked[0])

    table = pd.DataFrame(rows)
    table.insert(0, " ", ["▸" if start + n == place else "" for n in range(len(rows))])
    with st.expander(f"The list: {start + 1:,} to {start + len(rows):,} of {num_all:,}",
                     key=f"{key}_list"):  # fmt: skip
        st.dataframe(
            table,
            hide_index=True,
            on_select=choose,
            selection_mode="single-row",
            key=key,
            height=min(300, 38 + 35 * len(rows)),
        )


def name_answer(item: DisputedItem) -> str:
    """What was decided, in words."""
    if item.decision is AdjudicationDecision.EXCLUDED:
        return "excluded"
    return describe_answer(item.rating, item.thumb, item.label)


def describe_answer(rating: int | None, thumb: int | None, label: int | None) -> str:
    """An answer in words: `4 of 5, thumb up`; empty where there is none."""
    said = []
    if rating is not None:
        said.append(f"{rating} of 5")
    if thumb is not None:
        said.append({1: "thumb up", 0: "neutral thumb", -1: "thumb down"}[thumb])
    if label is not None:
        said.append(LABELS[label])
    return ", ".join(said)


def row_of(item: DisputedItem, *, is_decided: bool) -> dict[str, str]:
    """A disputed completion or step in the list."""
    what = "completion" if item.position is None else f"step {item.position + 1}"
    said = {"Raters": f"{item.num_for} good, {item.num_against} not"}
    if is_decided:
        said = {"Decision": name_answer(item), "By": item.decided_by or ""}
    return {"What": what, **said, "Prompt": item.prompt, "Text": item.content,
            "Source": item.source}  # fmt: skip
