"""The files of a version: what they weigh, whether they are whole, out of the house, and away."""

from urllib.parse import quote

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.messages import plain, reporting, show_error
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.artifacts import read_manifest
from rlhf_core.config import get_settings
from rlhf_core.errors import RlhfError
from rlhf_core.jobs.model_exchange import push_version
from rlhf_core.registry.deletion import delete_version, find_obstacles, remove_deleted_files
from rlhf_core.registry.files import check_files, describe_size, get_storage
from rlhf_core.registry.push import hub_repository
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import get_store

SHOWN_FILES = 30


def show_files(version: ModelVersionView, actor: Actor) -> None:
    """Each file with its size, and what may be done with them."""
    with st.container(border=True, key="version_files"), reporting():
        st.markdown(f"**Files** · {describe_size(version.num_bytes)}")
        files = read_manifest(version.folder, version.manifest_sha256)
        for file in files[:SHOWN_FILES]:
            st.markdown(
                f"{plain(file.name)} · {describe_size(file.num_bytes)} · `{file.sha256[:12]}…`"
            )
        if len(files) > SHOWN_FILES:
            st.caption(f"{len(files) - SHOWN_FILES} more files")
        st.caption(f"Manifest SHA-256 `{version.manifest_sha256}`")
    with reporting():
        _show_actions(version, actor)
    with get_store().reading() as db:
        storage = get_storage(db, actor=actor)
    mine = next((one for one in storage.models if one.model_name == version.model_name), None)
    free = "" if storage.free_bytes is None else f"; {describe_size(storage.free_bytes)} are free"
    if mine is not None:
        st.caption(
            f"{plain(version.model_name)}: {mine.num_versions} "
            f"{'version' if mine.num_versions == 1 else 'versions'}, "
            f"{describe_size(mine.num_bytes)}. All models: {describe_size(storage.num_bytes)}"
            f"{free}."
        )


def _show_actions(version: ModelVersionView, actor: Actor) -> None:
    with st.container(horizontal=True, key="file_actions"):
        is_checked = st.button("Check every byte", icon=":material/fact_check:", key="check_files")
        if actor.may(Permission.EXPORT_DATA):
            st.link_button(
                "Download as a zip",
                f"/api/v1/models/{quote(version.model_name, safe='')}/{version.number}/files",
                icon=":material/download:",
                help="The files as they are, with their manifest and the model card.",
            )
            if actor.may(Permission.PROMOTE_MODELS):
                with st.popover("Push", icon=":material/cloud_upload:", key="push"):
                    _ask_push(version)
        if actor.may(Permission.PROMOTE_MODELS):
            with st.popover("Delete", icon=":material/delete:", key="delete"):
                _ask_delete(version)
    if is_checked:
        count = check_files(version)
        st.success(f"All {count} files are as they were registered.", icon=":material/check:")


def _ask_push(version: ModelVersionView) -> None:
    """To the other registries that are configured; each needs a click that names it."""
    settings = get_settings()
    if not settings.hub_owner and not settings.mlflow_uri:
        st.caption(
            "No other registry is configured: set RLHF_HUB_OWNER (Hugging Face hub) or "
            "RLHF_MLFLOW_URI (MLflow)."
        )
        return
    if settings.hub_owner:
        repository = hub_repository(version)
        st.markdown(f"A private repository at the Hugging Face hub: **{plain(repository)}**")
        if st.button("Push to the hub", key="push_hub"):
            _push(version, "hub")
    if settings.mlflow_uri:
        st.markdown("MLflow's model registry")
        if st.button("Log to MLflow", key="push_mlflow"):
            _push(version, "mlflow")


def _push(version: ModelVersionView, target: str) -> None:
    actor = require_page(Permission.PROMOTE_MODELS)
    with reporting(), st.spinner(f"Sending {describe_size(version.num_bytes)} ..."):
        pushed = push_version(get_store(), version.id, actor=actor, target=target)
        st.success(f"It is at {plain(pushed.url)}", icon=":material/check:")


def _ask_delete(version: ModelVersionView) -> None:
    with get_store().reading() as db:
        obstacles = find_obstacles(db, version)
    if obstacles:
        st.markdown(f"**{plain(version.name)}** cannot be deleted:")
        st.markdown("\n".join(f"- {plain(obstacle)}" for obstacle in obstacles))
        return
    st.markdown(
        f"The files of **{plain(version.name)}** go, {describe_size(version.num_bytes)}, for good. "
        "Its history and its figures stay."
    )
    reason = st.text_input("Why? Kept in the audit", key="delete_reason")
    typed = st.text_input(f"Type {plain(version.name)} to confirm", key="delete_typed", live=True)
    is_sure = typed.strip() == version.name
    if st.button("Delete for good", type="primary", key="delete_confirm", disabled=not is_sure):
        _delete(version, reason)


def _delete(version: ModelVersionView, reason: str) -> None:
    actor = require_page(Permission.PROMOTE_MODELS)
    try:
        with get_store().writing() as db:
            delete_version(db, version.id, actor=actor, reason=reason)
        with get_store().reading() as db:
            remove_deleted_files(db)
    except RlhfError as error:
        show_error(error)
        return
    st.query_params.pop("version", None)
    notify(f"{plain(version.name)} is deleted.")
    st.rerun()
