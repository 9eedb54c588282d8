"""What there is to train on, and what is missing."""

import streamlit as st

from pages._ui.messages import plain
from rlhf_core.dataset.readiness import Readiness
from rlhf_core.vocabulary import DatasetPurpose

ROW_NAMES = {
    DatasetPurpose.SCORES: "Rated completions",
    DatasetPurpose.PREFERENCES: "Pairs",
    DatasetPurpose.UNPAIRED: "Thumbs",
    DatasetPurpose.PROMPTS: "Prompts",
    DatasetPurpose.STEPS: "Completions with step labels",
    DatasetPurpose.SFT: "Demonstrations",
}
PAIR_ORIGINS = {
    "comparison": "From comparisons",
    "ratings": "From ratings",
    "correction": "From corrections",
}


def show_data(ready: Readiness) -> None:
    """The rows that a run would learn from, and what it would not."""
    counts = ready.counts
    with st.container(horizontal=True, key="readiness"):
        _show_count(ROW_NAMES[ready.purpose], ready.have)
        if ready.purpose is not DatasetPurpose.PROMPTS:
            _show_count("Prompts", counts.get("prompts", 0))
            _show_count("Raters", counts.get("raters", 0))
        match ready.purpose:
            case DatasetPurpose.SCORES | DatasetPurpose.UNPAIRED:
                share = f"{counts.get('good', 0) / ready.have:.0%}" if ready.have else "none yet"
                st.metric("Good", share, border=True)
            case DatasetPurpose.PREFERENCES:
                for name, label in PAIR_ORIGINS.items():
                    _show_count(label, counts.get(name, 0))
            case DatasetPurpose.STEPS:
                _show_count("Right steps", counts.get("right", 0))
                _show_count("Wrong steps", counts.get("wrong", 0))
            case DatasetPurpose.SFT:
                _show_count("Corrections", counts.get("corrections", 0))
            case DatasetPurpose.PROMPTS:
                pass
    if ready.left_out:
        reasons = ", ".join(f"{count:,} ({plain(why)})" for why, count in ready.left_out.items())
        st.caption(f"Left out: {reasons}.")


def show_obstacle(ready: Readiness) -> None:
    """Why a run cannot start yet, and the way to change that."""
    if ready.missing:
        st.progress(ready.have / ready.need, text=f"{ready.have} of {ready.need}")
    st.warning(plain(ready.advice if ready.missing else str(ready.obstacle)),
               icon=":material/info:")  # fmt: skip
    with st.container(horizontal=True):
        if ready.short_interaction_ids:
            st.page_link(
                "pages/train/datasets.py",
                label="Make a queue of those that help most",
                icon=":material/playlist_add:",
            )
        st.page_link("pages/collect/rate.py", label="Rate some", icon=":material/thumbs_up_down:")
        st.page_link("pages/admin/transfer.py", label="Import", icon=":material/upload:")


def _show_count(label: str, count: float) -> None:
    st.metric(label, f"{int(count):,}", border=True)
