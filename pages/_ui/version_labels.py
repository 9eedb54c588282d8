"""Notes and tags of a version, and the filter by tag."""

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.messages import plain, reporting
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.registry.labels import set_notes, set_tags
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import get_store


def filter_by_tag(versions: list[ModelVersionView]) -> list[ModelVersionView]:
    """Only those with the chosen tag; all where none is chosen. Nothing is asked without tags."""
    tags = sorted({tag for version in versions for tag in version.tags})
    if not tags:
        return versions
    chosen = st.pills("Tag", tags, format_func=plain, key="tag", label_visibility="collapsed")
    wanted = st.query_params.get("version")
    return [
        version
        for version in versions
        if chosen is None or chosen in version.tags or str(version.id) == wanted
    ]


def show_labels(version: ModelVersionView, actor: Actor) -> None:
    """Tags and notes for others; those who may promote may write them."""
    if not actor.may(Permission.PROMOTE_MODELS):
        for tag in version.tags:
            st.badge(plain(tag), color="gray")
        if version.notes:
            st.text(version.notes)
        return
    with st.form(f"notes_{version.id}", border=False):
        tags = st.multiselect(
            "Tags", version.tags, version.tags, format_func=plain, accept_new_options=True,
            key=f"tags_{version.id}", help="Short words to find it by: type one, then Enter.",
        )  # fmt: skip
        notes = st.text_area("Notes", version.notes or "", height=80)
        if st.form_submit_button("Save notes and tags", key="save_notes"):
            actor = require_page(Permission.PROMOTE_MODELS)
            with reporting():
                with get_store().writing() as db:
                    set_notes(db, version.id, actor=actor, notes=notes)
                    set_tags(db, version.id, actor=actor, tags=tags)
                notify("Saved.")
                st.rerun()
