"""The rows behind a figure: a link that leads to them, and the list itself.

The address names them: the filters of all pages of analysis, and what the figure counts.
"""

import dataclasses
import hashlib
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.errors import StreamlitAPIException

from pages._ui.history_list import LABEL_NAMES, THUMB_NAMES, shorten
from pages._ui.insight_data import fresh_db
from pages._ui.insight_empty import show_nothing_here
from pages._ui.insight_filters import RATER_KIND_NAMES, read_filter_choices, write_filters
from pages._ui.interaction_view import draw_action, draw_prompt, draw_text
from pages._ui.messages import empty_state, plain
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.rows import EVERY_ROW, FeedbackLine, RowChoice, list_rows
from rlhf_core.errors import NotFound
from rlhf_core.feedback.drafts import MAX_STEPS
from rlhf_core.feedback.views import get_interaction
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Verdict

PAGE = "pages/analyse/rows.py"
A_PAGE = 50
TEXT_CHARS = 160
_NUMBERS = ("rating", "thumb", "position", "label")
_IDS = ("rater_id", "cluster_id")
_WORDS = ("aspect", "pattern_hash", "kind")
_PREFIX = "row_"  # apart from the filters' names: both have a kind


def link_to_rows(
    label: str,
    /,  # `RowChoice` has a label, too
    filters: Filters,
    *,
    icon: str | None = ":material/list:",
    help: str | None = None,
    **choice: Any,
) -> None:
    """A link to the rows that a figure counts; `choice` are fields of `RowChoice`.

    `label` is Markdown: text of others goes through `plain` first.
    """
    with suppress(StreamlitAPIException):  # raised where this role has no such page
        st.page_link(
            PAGE,
            label=label,
            icon=icon,
            help=help,
            width="content",
            query_params=write_filters(filters) | write_choice(RowChoice(**choice)),
        )


def write_choice(choice: RowChoice) -> dict[str, list[str]]:
    """The query parameters that mean it."""
    return {
        f"{_PREFIX}{name}": [str(int(value) if isinstance(value, bool) else value)]
        for name, value in dataclasses.asdict(choice).items()
        if value is not None and value is not False
    }


def read_choice(params: Mapping[str, str]) -> RowChoice:
    """The choice that an address means. What it cannot mean is left out."""
    found: dict[str, Any] = {}
    for name, parse in (
        *((name, int) for name in _NUMBERS),
        *((name, uuid.UUID) for name in _IDS),
        *((name, str) for name in _WORDS),
        ("verdict", Verdict),
        ("about_steps", lambda text: bool(int(text))),
    ):
        with suppress(KeyError, ValueError):
            found[name] = parse(params[f"{_PREFIX}{name}"])
    if found.get("rating") not in (None, 1, 2, 3, 4, 5):
        del found["rating"]
    for name in ("thumb", "label"):
        if found.get(name) not in (None, -1, 0, 1):
            del found[name]
    if not 0 <= found.get("position", 0) < MAX_STEPS:
        del found["position"]
    return RowChoice(**found)


def describe_choice(choice: RowChoice) -> str:
    """What is chosen in a few words, Markdown; empty where nothing is."""
    said = []
    if choice.about_steps:
        said.append("labels of steps")
    if choice.verdict is not None:
        said.append(f"verdict {choice.verdict.value}")
    if choice.thumb is not None:
        said.append(THUMB_NAMES[choice.thumb])
    if choice.aspect is not None:
        said.append(f"aspect {plain(choice.aspect)}")
    if choice.rating is not None:
        said.append(f"rating {choice.rating}")
    if choice.position is not None:
        said.append(f"step {choice.position + 1}")
    if choice.kind is not None:
        said.append(f"steps of kind {plain(choice.kind or '(none)')}")
    if choice.label is not None:
        said.append(f"label {LABEL_NAMES[choice.label]}")
    if choice.rater_id is not None:
        said.append("one rater")
    if choice.pattern_hash is not None:
        said.append("one exchange")
    if choice.cluster_id is not None:
        said.append("one group of failures")
    return ", ".join(said)


def show_rows(
    filters: Filters, choice: RowChoice = EVERY_ROW, *, actor: Actor, key: str = "rows"
) -> None:
    """The rows, the latest first, page by page; a click on one shows it in full below."""
    page_key = f"{key}_page_{make_key(filters, choice)}"  # other rows begin at their first page
    number = int(st.session_state.get(page_key) or 1) - 1
    with fresh_db() as db:
        asked: dict[str, Any] = {"filters": filters, "choice": choice, "limit": A_PAGE}
        page = list_rows(db, actor=actor, offset=number * A_PAGE, **asked)
        if number and not page.rows:  # there are fewer than there were
            st.session_state.pop(page_key)
            number, page = 0, list_rows(db, actor=actor, **asked)
    if not page.num_all and read_filter_choices(actor).first_day is None:
        show_nothing_here(actor)
        return
    if not page.num_all:
        empty_state(
            "No feedback here",
            "Nothing in this period and these filters was rated so: choose a longer period.",
            icon=":material/filter_list_off:",
        )
        return
    num_pages = -(-page.num_all // A_PAGE)
    first = number * A_PAGE
    last = first + len(page.rows)
    st.caption(f"{first + 1:,} to {last:,} of {max(last, page.num_all):,}, the latest first")
    # A row is known to the browser by its place only: with the rows, the table is a new one.
    chosen = _show_table(page.rows, key=f"{key}_{make_key([row.id for row in page.rows])}")
    if num_pages > 1:
        st.pagination(num_pages, key=page_key)
    if chosen is not None:
        _show_whole(chosen, actor)
    else:
        st.caption("Choose a row to see it in full.")


def make_key(*parts: Any) -> str:
    """A part of a widget's key that is another one for other values."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _show_table(rows: tuple[FeedbackLine, ...], *, key: str) -> FeedbackLine | None:
    frame = pd.DataFrame(
        {
            "When": [row.occurred_at for row in rows],
            "Said": [describe_said(row) for row in rows],
            "Prompt": [shorten(row.prompt, TEXT_CHARS) for row in rows],
            "Completion": [shorten(row.completion, TEXT_CHARS) for row in rows],
            "Comment": [shorten(row.comment or "", TEXT_CHARS) for row in rows],
            "By": [RATER_KIND_NAMES[row.rater_kind] for row in rows],
            "Action": [row.action_type or "" for row in rows],
            "Model": [row.model_name or "" for row in rows],
            "Source": [row.source for row in rows],
        }
    )
    wide = st.column_config.TextColumn(width="large")
    chosen = st.dataframe(
        frame,
        hide_index=True,
        height="content" if len(rows) < 10 else 380,
        column_config={
            "When": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC"),
            "Prompt": wide,
            "Completion": wide,
        },
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        alt="Rows of feedback, the latest first",
    )
    places = [place for place in chosen.selection.rows if place < len(rows)]
    return rows[places[0]] if places else None


def describe_said(row: FeedbackLine) -> str:
    """What was said, in a few words."""
    said = [] if row.position is None else [f"step {row.position + 1}"]
    if row.rating is not None:
        said.append(f"{row.rating} of 5")
    if row.thumb is not None:
        said.append(THUMB_NAMES[row.thumb])
    if row.label is not None:
        said.append(LABEL_NAMES[row.label])
    return ", ".join(said) or "only a comment"


def _show_whole(row: FeedbackLine, actor: Actor) -> None:
    try:
        with get_store().reading() as db:
            item = get_interaction(db, row.interaction_id, actor=actor)
    except NotFound as error:
        st.warning(plain(str(error)), icon=":material/info:")
        return
    st.markdown(f"**{plain(describe_said(row))}** · {row.occurred_at:%Y-%m-%d %H:%M} UTC")
    draw_prompt(item)
    for step in item.steps:
        mark = " (this one)" if step.position == row.position else ""
        st.caption(f"Step {step.position + 1}{mark}")
        draw_text(step.content, key=f"step_{step.id.hex}")
    with st.container(border=True):
        st.markdown("**Completion**")
        draw_text(item.completion or "(empty)", key=f"completion_{item.id.hex}")
    draw_action(item)
    if row.comment:
        with st.container(border=True):
            st.markdown("**Comment**")
            draw_text(row.comment, key=f"comment_{row.id.hex}")
    if actor.may(Permission.RATE):
        with suppress(StreamlitAPIException):
            st.page_link(
                "pages/collect/rate.py",
                label="Open in Rate",
                icon=":material/open_in_new:",
                query_params={"item": str(item.id)},
            )
    with suppress(StreamlitAPIException):
        st.page_link(
            "pages/models/registry.py",
            label="Which models learned from it",
            icon=":material/account_tree:",
            query_params={"row": str(item.id)},
        )
