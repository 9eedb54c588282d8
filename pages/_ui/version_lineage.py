"""Where a version comes from, a step at a time, each with the way to it; and the way back."""

import uuid
from contextlib import suppress

import pandas as pd
import streamlit as st
from streamlit.errors import StreamlitAPIException

from pages._ui.history_list import shorten
from pages._ui.insight_data import READ_AGAIN_S
from pages._ui.insight_rows import link_to_rows
from pages._ui.interaction_view import draw_text
from pages._ui.measures import NONE_THERE
from pages._ui.messages import plain, reporting
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.analytics.filters import Filters
from rlhf_core.feedback.views import get_interaction
from rlhf_core.registry.lineage import (
    ROLES,
    Lineage,
    LineageRow,
    Relative,
    get_lineage,
    list_lineage_rows,
)
from rlhf_core.registry.lineage_raters import LineageRater, LineageRaters, list_lineage_raters
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import get_store

REGISTRY = "pages/models/registry.py"
A_PAGE = 25
TEXT_CHARS = 140


def show_lineage(version: ModelVersionView, actor: Actor) -> None:
    """Version, run, dataset, rows, raters, and the versions around it."""
    with reporting():
        with get_store().reading() as db:
            lineage = get_lineage(db, version.id, actor=actor)
        made, kin = st.columns(2)
        with made.container(border=True, key="version_origin"):
            _show_origin(lineage)
        with kin.container(border=True, key="version_kin"):
            _show_relatives(lineage)
        if lineage.dataset is None:
            return
        if actor.may(Permission.READ_ANALYTICS):
            _show_raters(version, actor)
        if actor.may(Permission.READ_INTERACTIONS):
            _show_rows(version, actor)


def _show_origin(lineage: Lineage) -> None:
    version, run, dataset = lineage.version, lineage.run, lineage.dataset
    st.markdown("**Made of**")
    made_by = "the command line" if version.created_by is None else plain(version.created_by)
    st.markdown(f"{plain(version.name)}: made {version.created_at:%Y-%m-%d %H:%M} UTC by {made_by}")
    if run is not None:
        _link(
            "pages/train/runs.py", f"Run {str(run.id)[:8]} ({run.kind.value.replace('_', ' ')})",
            ":material/monitoring:", run=run.id,
        )  # fmt: skip
    elif version.details.get("imported_from"):
        st.markdown(f"Imported from the folder {plain(str(version.details['imported_from']))}")
    if dataset is None:
        st.caption("No frozen dataset is recorded for it.")
        return
    _link("pages/train/datasets.py", f"Dataset {plain(dataset.name)}", ":material/dataset:",
          version=dataset.id)  # fmt: skip
    gone = f"; {dataset.num_gone:,} have lost their interaction since" if dataset.num_gone else ""
    st.caption(
        f"{dataset.num_rows:,} rows of {dataset.purpose.value}, frozen "
        f"{dataset.frozen_at:%Y-%m-%d %H:%M} UTC{gone}. SHA-256 `{dataset.content_hash[:16]}…`"
    )


def _show_relatives(lineage: Lineage) -> None:
    st.markdown("**Versions around it**")
    if not lineage.parents and not lineage.children:
        st.caption("It was made of no other version, and none was made of it.")
    for one in lineage.parents:
        _link_relative(f"{ROLES[one.role].capitalize()} {plain(one.name)}", one)
    for one in lineage.children:
        _link_relative(f"{plain(one.name)} {ROLES[one.role]} it", one)


def _link_relative(label: str, one: Relative) -> None:
    if one.version is None or one.version.deleted_at is not None:
        st.markdown(f"{label} {'(deleted)' if one.version else ''}")
    else:
        _link(REGISTRY, label, ":material/deployed_code:", version=one.version.id)


def _show_raters(version: ModelVersionView, actor: Actor) -> None:
    found = _read_raters(version.id, actor)
    st.markdown("**Raters of these rows**")
    if found.num_end_users:
        st.caption(
            f"{found.num_end_users:,} end users gave {found.num_by_end_users:,} judgements; they "
            "are not listed."
        )
    if not found.raters:
        st.caption("No expert's judgement is among them." if found.num_end_users else "None.")
        return
    with st.container(horizontal=True, key="lineage_raters"):
        for rater in found.raters[:12]:
            _link_rater(rater)
    hidden = len(found.raters) - 12 + found.num_more
    if hidden > 0:
        st.caption(f"{hidden:,} more raters")


@st.cache_data(ttl=READ_AGAIN_S, max_entries=50, show_spinner=False)
def _read_raters(version_id: uuid.UUID, actor: Actor) -> LineageRaters:
    """All rows are looked at; every tab is drawn each time."""
    with get_store().reading() as db:
        return list_lineage_raters(db, version_id, actor=actor)


def _link_rater(rater: LineageRater) -> None:
    label = f"{plain(rater.name)} · {rater.num_judgements:,}"
    link_to_rows(label, Filters(), icon=":material/person:", rater_id=rater.rater_id)


def _show_rows(version: ModelVersionView, actor: Actor) -> None:
    page_key = f"lineage_page_{version.id}"
    number = int(st.session_state.get(page_key) or 1) - 1
    with get_store().reading() as db:
        page = list_lineage_rows(db, version.id, actor=actor, limit=A_PAGE, offset=number * A_PAGE)
    st.markdown(f"**Rows that it learned from** · {page.num_all:,}")
    rows = page.rows
    chosen = st.dataframe(
        pd.DataFrame(
            {
                "Row": [row.row_number for row in rows],
                "Part": [row.split.value for row in rows],
                "Prompt": [_shorten(row.prompt) for row in rows],
                "Completion": [_shorten(row.completion) for row in rows],
                "When": [row.occurred_at for row in rows],
            }
        ),
        hide_index=True,
        height=320,
        column_config={
            "Row": st.column_config.NumberColumn(width=60),
            "Part": st.column_config.TextColumn(width=85),
            "Prompt": st.column_config.TextColumn(width="large"),
            "Completion": st.column_config.TextColumn(width="large"),
            "When": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC"),
        },
        placeholder=NONE_THERE,
        on_select="rerun",
        selection_mode="single-row",
        key=f"lineage_rows_{version.id}_{number}",
        alt=f"Rows that {version.name} learned from",
    )
    if page.num_all > A_PAGE:
        st.pagination(-(-page.num_all // A_PAGE), key=page_key)
    places = [place for place in chosen.selection.rows if place < len(rows)]
    if places:
        _show_row(rows[places[0]], actor)


def _show_row(row: LineageRow, actor: Actor) -> None:
    """The row whole, with the ways to who rated it and to what else learned from it."""
    if row.interaction_id is None:
        st.caption("Its interaction was deleted or erased: only the frozen row is left.")
        return
    with get_store().reading() as db:
        item = get_interaction(db, row.interaction_id, actor=actor)
    with st.container(border=True, key="lineage_row"):
        st.markdown(f"**Row {row.row_number}** · interaction `{item.id}`")
        st.caption("Prompt")
        draw_text(item.prompt, key=f"lineage_prompt_{item.id.hex}")
        st.caption("Completion")
        draw_text(item.completion or "(empty)", key=f"lineage_completion_{item.id.hex}")
        with st.container(horizontal=True, key="lineage_row_links"):
            if actor.may(Permission.RATE):
                _link("pages/collect/rate.py", "Open in Rate", ":material/open_in_new:",
                      item=item.id)  # fmt: skip
            link_to_models(item.id)


def link_to_models(interaction_id: uuid.UUID) -> None:
    """The way from a row to the versions that learned from it."""
    _link(REGISTRY, "Which models learned from it", ":material/account_tree:", row=interaction_id)


def _link(page: str, label: str, icon: str, **params: object) -> None:
    query = {name: str(value) for name, value in params.items()}
    with suppress(StreamlitAPIException):  # raised where this role has no such page
        st.page_link(page, label=label, icon=icon, width="content", query_params=query)
        return
    st.markdown(label)


def _shorten(text: str | None) -> str:
    return "" if text is None else shorten(text, TEXT_CHARS)
