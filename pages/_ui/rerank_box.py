"""A box to try the served model: a prompt, candidates one a line, their order and scores."""

import pandas as pd
import streamlit as st

from pages._ui.messages import plain, reporting
from rlhf_core.serving.client import InferenceClient, InferenceHealth

MAX_CANDIDATES = 100


@st.cache_resource(show_spinner=False)
def get_client() -> InferenceClient:
    """One client for all sessions: it keeps its connections open."""
    return InferenceClient()


def show_serving_state(production: str | None) -> None:
    """Whether the inference process serves the promoted version; looks again until it does."""
    health = get_client().health()
    if health.is_running and (production is None or health.version == production):
        _say_state(production, health)
    else:
        st.fragment(_watch_state, run_every=3.0, key="serving")(production, health)


def _watch_state(production: str | None, seen: InferenceHealth) -> None:
    health = get_client().health()
    if health != seen:
        st.rerun()
    _say_state(production, health)


def _say_state(production: str | None, health: InferenceHealth) -> None:
    if not health.is_running:
        st.warning(plain(health.problem or ""), icon=":material/cloud_off:")
    elif production is None:
        st.caption("No version is promoted: the API answers with the original order.")
    elif health.version == production:
        st.caption(f":material/check: {plain(production)} serves.")
    elif health.problem and health.problem.startswith(f"{production} cannot"):
        st.warning(plain(health.problem), icon=":material/error:")
    else:
        st.info(f"The inference process loads {plain(production)}.",
                icon=":material/hourglass_top:")  # fmt: skip


def show_rerank_box() -> None:
    """Ask the inference process, as the API does: also its fallback is shown."""
    with st.form("try_rerank", border=True):
        prompt = st.text_area("Prompt", key="try_prompt", height=80)
        text = st.text_area("Candidates, one a line", key="try_candidates", height=140)
        is_asked = st.form_submit_button("Rerank", type="primary", key="try_go")
    if not is_asked:
        return
    candidates = [line.strip() for line in text.splitlines() if line.strip()]
    if not prompt.strip() or not candidates:
        st.info("Write a prompt, and one candidate a line.", icon=":material/info:")
        return
    if len(candidates) > MAX_CANDIDATES:
        st.info(f"Try at most {MAX_CANDIDATES} candidates here.", icon=":material/info:")
        return
    with reporting():
        found = get_client().rerank(prompt, candidates)
        if found.is_fallback:
            st.warning(f"Original order: {plain(found.reason or '')}", icon=":material/cloud_off:")
        else:
            st.caption(f"Ranked by {plain(found.version or '')}; the score is the chance that "
                       "people find the candidate good.")  # fmt: skip
        frame = pd.DataFrame(
            {
                "Rank": range(1, len(found.ranking) + 1),
                "Score": [found.scores[index] for index in found.ranking],
                "Candidate": [candidates[index] for index in found.ranking],
                "Was": [index + 1 for index in found.ranking],
            }
        )
        score = st.column_config.ProgressColumn(format="%.3f", min_value=0, max_value=1)
        st.dataframe(
            frame,
            hide_index=True,
            column_config={"Score": score, "Candidate": st.column_config.TextColumn(width="large")},
            key="try_result",
            alt="Candidates, best first",
        )
