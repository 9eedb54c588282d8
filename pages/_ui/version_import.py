"""Importing a model's folder that lies on the server, below the configured import folder."""

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.measures import MODEL_KIND_NAMES
from pages._ui.messages import plain, reporting
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.jobs.model_exchange import IMPORTABLE, import_model
from rlhf_core.registry.imports import import_root, list_importable
from rlhf_core.registry.service import POLICY_MODEL, REWARD_MODEL
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import ModelKind


def ask_import(actor: Actor) -> None:
    """A popover with the folders that there are; nothing for those who may not."""
    if actor.may(Permission.RUN_JOBS):
        with st.popover("Import a model", icon=":material/drive_folder_upload:", key="import"):
            _ask()


@st.cache_data(ttl=10, show_spinner=False)
def _list_folders(root: str) -> list[str]:
    """The tree is not walked at each click; of another `root` there is another list."""
    return list_importable()


def _ask() -> None:
    root = import_root()
    if root is None:
        st.caption(
            "Set RLHF_MODEL_IMPORT_DIR to a folder on the server and put models below it, or use "
            "`python -m rlhf_core models import FOLDER --kind KIND`."
        )
        return
    folders = _list_folders(str(root))
    if not folders:
        st.caption(
            "The import folder holds no model: put a folder with safetensors or skops there."
        )
        return
    folder = st.selectbox("Folder", folders, format_func=plain, key="import_folder")
    kind = st.selectbox("What is in it", list(IMPORTABLE), format_func=MODEL_KIND_NAMES.__getitem__,
                        key="import_kind")  # fmt: skip
    usual = POLICY_MODEL if kind is ModelKind.POLICY else REWARD_MODEL
    name = st.text_input("Model", usual, key=f"import_name_{kind.value}")
    notes = st.text_input("Notes", key="import_notes", placeholder="Where it is from")
    if st.button("Check and import", type="primary", key="import_go"):
        actor = require_page(Permission.RUN_JOBS)
        with reporting():
            with st.spinner("Copying, checking and opening it ..."):
                version = import_model(
                    get_store(), root / folder, actor=actor, kind=kind, model_name=name,
                    notes=notes, inside=root,
                )  # fmt: skip
            st.query_params["version"] = str(version.id)
            notify(f"Registered as {plain(version.name)}.")
            st.rerun()
    st.caption("It is copied, compared with its manifest, and opened once. Code is refused.")
