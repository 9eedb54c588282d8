"""Whether the inference process gives a running deployment its share of the traffic."""

import uuid

import streamlit as st

from pages._ui.messages import plain
from pages._ui.rerank_box import get_client


def say_canary_state(deployment_id: uuid.UUID, *, model_name: str, version: str) -> None:
    """Say why it gets none, where it gets none; nothing otherwise."""
    health = get_client().health()
    seen = health.deployments.get(model_name)
    if not health.is_running:
        st.warning(
            f"{plain(health.problem or '')} Nobody gets either version.",
            icon=":material/cloud_off:",
        )
    elif seen is None:  # it is slow at this moment
        st.caption(plain(health.problem or ""))
    elif seen.problem is not None:
        st.warning(plain(seen.problem), icon=":material/error:")
    elif seen.deployment_id != deployment_id:
        st.info(
            f"The inference process loads {plain(version)}: until then all goes to what serves.",
            icon=":material/hourglass_top:",
        )
