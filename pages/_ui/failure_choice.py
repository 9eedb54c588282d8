"""Choosing a group of failures where a queue or a dataset is made of one."""

import uuid
from contextlib import suppress

import streamlit as st

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.analytics.failure_clusters import ClusterView, get_cluster, list_clusterings
from rlhf_core.errors import NotFound
from rlhf_core.store.engine import get_store

CLUSTER_PARAM = "cluster"
"""In the address of the page that it is made on."""


def name_cluster(cluster: ClusterView) -> str:
    """A group in a line: its number, its typical words, its size. No Markdown."""
    words = ", ".join(cluster.words[:4]) or "no typical words"
    return f"{cluster.number + 1}: {words} ({cluster.size:,})"


def find_wanted() -> uuid.UUID | None:
    """The group that the address names."""
    try:
        return uuid.UUID(st.query_params.get(CLUSTER_PARAM, ""))
    except ValueError:
        return None


def ask_cluster(actor: Actor, key: str) -> uuid.UUID | None:
    """A group of the newest search, or the one that the address names; nothing where none is."""
    if not actor.may(Permission.READ_ANALYTICS):
        return None
    wanted = find_wanted()
    with get_store().reading() as db:
        searches = list_clusterings(db, actor=actor, limit=1)
        names = {one.id: name_cluster(one) for search in searches for one in search.clusters}
        if wanted is not None and wanted not in names:  # of an older search
            with suppress(NotFound):
                names[wanted] = name_cluster(get_cluster(db, wanted, actor=actor))
    if not names:
        return None
    options = [None, *names]
    chosen: uuid.UUID | None = st.selectbox(
        "Group of failures",
        options,
        index=options.index(wanted) if wanted in names else 0,
        format_func=lambda one: "Any" if one is None else names.get(one, "Any"),
        key=f"{key}_cluster_{wanted}",
    )
    return chosen
