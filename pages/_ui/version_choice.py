"""Which model, and which of its versions, the page of models shows."""

import streamlit as st

from rlhf_core.registry.service import REWARD_MODEL
from rlhf_core.registry.views import ModelVersionView


def choose_model(versions: list[ModelVersionView]) -> str:
    """The model's name: that of the version in the address, else the one that reranks."""
    names = sorted({version.model_name for version in versions})
    wanted = st.query_params.get("version")
    linked = [version.model_name for version in versions if str(version.id) == wanted]
    usual = REWARD_MODEL if REWARD_MODEL in names else names[0]
    if len(names) == 1:
        return usual
    first = (linked or [usual])[0]
    return st.selectbox("Model", names, names.index(first), key="model", on_change=_forget_version)


def _forget_version() -> None:
    """Of another model, show the version that it starts with; a callback."""
    st.query_params.pop("version", None)


def choose_version(versions: list[ModelVersionView]) -> ModelVersionView:
    """The version of `?version=`; else the one in production, else the newest."""
    wanted = st.query_params.get("version")
    found = [version for version in versions if str(version.id) == wanted]
    return (found or [version for version in versions if version.aliases] or versions)[0]
