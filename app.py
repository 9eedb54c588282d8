"""The dashboard's frame: who is signed in, the pages of their role, and the page they chose."""

import streamlit as st

from pages._ui.guard import require_actor, sign_out
from pages._ui.messages import plain
from rlhf_core.accounts.permissions import Permission
from rlhf_core.api.html import LOGO

st.set_page_config(page_title="RLHF Loop", page_icon=LOGO, layout="wide")
st.logo(LOGO, size="large")
actor = require_actor()

# (section, file in pages/, title, icon, who sees it): the file's own guard asks for the same
PAGES = [
    ("Collect", "collect/rate", "Rate", "thumbs_up_down", Permission.RATE),
    ("Collect", "collect/compare", "Compare", "compare", Permission.RATE),
    ("Collect", "collect/my_ratings", "My ratings", "history", Permission.RATE),
    ("Collect", "collect/queues", "Queues", "checklist", Permission.RATE),
    ("Analyse", "analyse/raters", "Raters", "groups", Permission.READ_ANALYTICS),
    ("Analyse", "analyse/disputes", "Disputes", "gavel", Permission.ADJUDICATE),
    ("Train", "train/datasets", "Datasets", "dataset", Permission.MANAGE_DATASETS),
    ("Train", "train/launch", "Launch training", "rocket_launch", Permission.RUN_JOBS),
    ("Train", "train/runs", "Runs", "monitoring", Permission.RUN_JOBS),
    ("Train", "train/schedules", "Retraining", "event_repeat", Permission.RUN_JOBS),
    ("Models", "models/registry", "Models", "deployed_code", Permission.READ_MODELS),
    ("Admin", "admin/transfer", "Import and export", "swap_vert", Permission.EXPORT_DATA),
    ("Admin", "admin/workers", "Workers", "memory", Permission.RUN_JOBS),
]

sections: dict[str, list[st.Page]] = {}
for section, file, title, icon, permission in PAGES:
    if actor.may(permission):
        page = st.Page(
            f"pages/{file}.py",
            title=title,
            icon=f":material/{icon}:",
            url_path=file.rsplit("/", 1)[-1],
        )
        sections.setdefault(section, []).append(page)


def open_first_page() -> None:
    """Lead from `/` to the first page of the role, so that every page keeps an address of its own.

    The default page itself has none but `/`: its own name would be "not found".
    """
    first = next(iter(sections.values()))[0]
    st.switch_page(first, query_params=st.query_params.to_dict())


home = st.Page(open_first_page, title="RLHF Loop", default=True, visibility="hidden")
chosen = st.navigation({"": [home], **sections}, expanded=True)
with st.sidebar, st.container(key="account", horizontal=True, vertical_alignment="center"):
    st.caption(f"{plain(actor.name)} · {actor.role.value}")
    st.button("Sign out", key="sign_out", on_click=sign_out, type="tertiary")
    if actor.may(Permission.SCORE):
        st.link_button("API", "/api/docs", icon=":material/api:", type="tertiary")
chosen.run()
