"""What there is to train on, and what is missing."""

import streamlit as st

from pages._ui.messages import plain
from rlhf_core.dataset.readiness import Readiness


def show_data(ready: Readiness) -> None:
    """The ratings that a run would learn from, and what it would not."""
    counts = ready.counts
    with st.container(horizontal=True):
        st.metric("Rated interactions", f"{counts.num_rows:,}", border=True)
        st.metric("Prompts", f"{counts.num_prompts:,}", border=True)
        st.metric("Raters", f"{counts.num_raters:,}", border=True)
        share = f"{counts.num_good / counts.num_rows:.0%}" if counts.num_rows else "none yet"
        st.metric("Good", share, border=True)
    if counts.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.left_out.items())
        st.caption(f"Left out: {reasons}.")


def show_obstacle(ready: Readiness) -> None:
    """Why a run cannot start yet, and the way to change that."""
    if ready.missing:
        st.progress(ready.have / ready.need, text=f"{ready.have} of {ready.need}")
        st.info(
            f"**{ready.missing} more needed.** A reward model learns from at least {ready.need} "
            "rated interactions.",
            icon=":material/info:",
        )
    else:
        st.warning(plain(str(ready.obstacle)), icon=":material/info:")
    with st.container(horizontal=True):
        st.page_link("pages/collect/rate.py", label="Rate some", icon=":material/thumbs_up_down:")
        st.page_link("pages/admin/transfer.py", label="Import", icon=":material/upload:")
