"""Reads that many reruns share. What a person just changed is never read from here."""

import streamlit as st

from rlhf_core.accounts.permissions import Actor
from rlhf_core.feedback.assignment import count_interactions
from rlhf_core.store.engine import get_store


@st.cache_data(ttl=15, show_spinner=False)
def read_num_interactions(_actor: Actor) -> int:
    """How many interactions there are, at most 15 s old: counting a million takes a while."""
    with get_store().reading() as db:
        return count_interactions(db, actor=_actor)
