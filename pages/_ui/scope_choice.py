"""Whose judgements a page of analysis is about: all, one queue's, or one source's."""

import uuid

import streamlit as st

from pages._ui.data import read_filter_values
from rlhf_core.accounts.permissions import Actor
from rlhf_core.analytics.scope import EVERYTHING, Scope
from rlhf_core.queues.service import list_queues
from rlhf_core.store.engine import get_store


def ask_scope(actor: Actor, *, key: str) -> Scope:
    """The choice among everything, the queues and the sources, where there is one."""
    with get_store().reading() as db:
        queues = list_queues(db, actor=actor, with_closed=True)
    sources = read_filter_values(actor).sources
    names: dict[tuple[str, str], str] = {("all", ""): "All judgements"}
    names |= {("queue", str(queue.id)): f"Queue: {queue.name}" for queue in queues}
    if len(sources) > 1:
        names |= {("source", source): f"Source: {source}" for source in sources}
    if len(names) == 1:
        return EVERYTHING
    kind, value = st.selectbox(
        "About", list(names), format_func=names.__getitem__, key=key, width=320
    )
    if kind == "queue":
        return Scope(queue_id=uuid.UUID(value))
    return Scope(source=value) if kind == "source" else EVERYTHING
