"""The model card, shown and handed out."""

import re
import uuid

import streamlit as st

from pages._ui.insight_data import READ_AGAIN_S
from pages._ui.messages import JOINER, reporting
from rlhf_core.accounts.permissions import Actor
from rlhf_core.jobs.model_exchange import read_card
from rlhf_core.registry.files import file_stem
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import get_store

WIDE_TABLES = "<style>.st-key-model_card table {display: block; overflow-x: auto}</style>"
_LINK = re.compile(r"(www)(\.)|([:@])(?=[^\s`|])", re.IGNORECASE)


def show_card(version: ModelVersionView, actor: Actor) -> None:
    """As Markdown. Names in it are escaped by its writer; addresses and codes stay text here."""
    with reporting():
        card = _read(version.id, repr((version.notes, version.tags, version.aliases)), actor)
        st.download_button(
            "Download the card",
            card,
            file_name=f"{file_stem(version)}.md",
            mime="text/markdown",
            icon=":material/description:",
            on_click="ignore",
            key="card_download",
        )
        st.html(WIDE_TABLES)
        with st.container(border=True, key="model_card"):
            st.markdown(_calm(card))


@st.cache_data(ttl=READ_AGAIN_S, max_entries=50, show_spinner=False)
def _read(version_id: uuid.UUID, shown: str, actor: Actor) -> str:
    """Of many rows it takes seconds to look at what became of them; every tab is drawn each time.

    `shown` is what a person may just have changed.
    """
    with get_store().reading() as db:
        return read_card(db, version_id, actor=actor)


def _calm(card: str) -> str:
    """No address becomes a link and no code an icon, but in blocks of code, which are text."""
    parts = card.split("```")
    parts[::2] = [_LINK.sub(lambda m: f"{m[1] or m[3]}{JOINER}{m[2] or ''}", p) for p in parts[::2]]
    return "```".join(parts)
