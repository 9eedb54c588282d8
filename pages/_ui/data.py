"""Reads that several reruns may share. What a person just changed is never read from here."""

import streamlit as st

from rlhf_core.accounts.permissions import Actor
from rlhf_core.feedback.assignment import rating_progress
from rlhf_core.store.engine import get_store


@st.cache_data(ttl=15, max_entries=1_000, show_spinner=False)
def read_rating_progress(_actor: Actor, account: str, num_changes: int) -> tuple[int, int]:
    """(rated by this account, all interactions), at most 15 s old.

    `num_changes` counts what this browser tab changed, so that one's own rating shows at once.
    """
    with get_store().reading() as db:
        return rating_progress(db, actor=_actor)
