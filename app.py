"""The dashboard's frame: who is signed in, the pages of their role, and the page they chose."""

import streamlit as st

from pages._ui.guard import known, require_actor, sign_out
from pages._ui.messages import plain
from pages._ui.state import enter_page
from pages._ui.turns import turn
from rlhf_core.accounts.permissions import Permission
from rlhf_core.api.html import LOGO

# Streamlit writes the chosen option in the primary colour, too dark to read on the dark theme.
SELECTED_STYLE = """<style>
[data-testid="stButtonGroup"] [aria-checked="true"] p { color: light-dark(#2457D6, #8FB3FF); }
</style>"""

st.set_page_config(page_title="RLHF Loop", page_icon=LOGO, layout="wide")
st.logo(LOGO, size="large")
st.html(SELECTED_STYLE)
actor = require_actor()

# (section, file in pages/, title, icon, who sees it): the file's own guard asks for the same
PAGES = [
    ("Collect", "collect/rate", "Rate", "thumbs_up_down", Permission.RATE),
    ("Collect", "collect/compare", "Compare", "compare", Permission.RATE),
    ("Collect", "collect/chat", "Chat", "forum", Permission.RATE),
    ("Collect", "collect/my_ratings", "My ratings", "history", Permission.RATE),
    ("Collect", "collect/queues", "Queues", "checklist", Permission.RATE),
    ("Analyse", "analyse/overview", "Overview", "dashboard", Permission.READ_ANALYTICS),
    ("Analyse", "analyse/trends", "Trends", "trending_up", Permission.READ_ANALYTICS),
    ("Analyse", "analyse/failures", "Failures", "bug_report", Permission.READ_ANALYTICS),
    ("Analyse", "analyse/steps", "Steps", "footprint", Permission.READ_ANALYTICS),
    ("Analyse", "analyse/engagement", "Engagement", "web_traffic", Permission.READ_ANALYTICS),
    ("Analyse", "analyse/model_trends", "Model trends", "insights", Permission.READ_ANALYTICS),
    ("Analyse", "analyse/raters", "Raters", "groups", Permission.READ_ANALYTICS),
    ("Analyse", "analyse/disputes", "Disputes", "gavel", Permission.ADJUDICATE),
    ("Analyse", "analyse/alerts", "Alerts", "notifications", Permission.READ_ANALYTICS),
    ("Analyse", "analyse/digest", "Digest", "summarize", Permission.READ_ANALYTICS),
    ("Analyse", "analyse/rows", "Rows", "list", Permission.READ_ANALYTICS),
    ("Train", "train/datasets", "Datasets", "dataset", Permission.MANAGE_DATASETS),
    ("Train", "train/launch", "Launch training", "rocket_launch", Permission.RUN_JOBS),
    ("Train", "train/runs", "Runs", "monitoring", Permission.RUN_JOBS),
    ("Train", "train/schedules", "Retraining", "event_repeat", Permission.RUN_JOBS),
    ("Models", "models/registry", "Models", "deployed_code", Permission.READ_MODELS),
    ("Models", "models/compare_versions", "Compare versions", "difference", Permission.READ_MODELS),
    ("Models", "models/rollout", "Rollout", "science", Permission.READ_MODELS),
    ("Models", "models/gates", "Gates", "rule", Permission.READ_MODELS),
    ("Admin", "admin/transfer", "Import and export", "swap_vert", Permission.EXPORT_DATA),
    ("Admin", "admin/workers", "Workers", "memory", Permission.RUN_JOBS),
]
HIDDEN = {"analyse/rows"}  # reached by links only
HOME = "analyse/overview"  # for those who may see it; for others their first page

sections: dict[str, list[st.Page]] = {}
homes: list[st.Page] = []
for section, file, title, icon, permission in PAGES:
    if actor.may(permission):
        page = st.Page(
            f"pages/{file}.py",
            title=title,
            icon=f":material/{icon}:",
            url_path=file.rsplit("/", 1)[-1],
            visibility="hidden" if file in HIDDEN else "visible",
        )
        sections.setdefault(section, []).append(page)
        homes.insert(0 if file == HOME else len(homes), page)


def open_home() -> None:
    """Lead from `/` to the home of the role, so that every page keeps an address of its own.

    The default page itself has none but `/`: its own name would be "not found".
    """
    params = {name: st.query_params.get_all(name) for name in st.query_params}
    st.switch_page(homes[0], query_params=params)


home = st.Page(open_home, title="RLHF Loop", default=True, visibility="hidden")
chosen = st.navigation({"": [home], **sections}, expanded=True)
with st.sidebar, st.container(key="account", horizontal=True, vertical_alignment="center"):
    st.caption(f"{plain(actor.name)} · {actor.role.value}")
    st.button("Sign out", key="sign_out", on_click=sign_out, type="tertiary")
    if actor.may(Permission.SCORE):
        st.link_button("API", "/api/docs", icon=":material/api:", type="tertiary")
enter_page(chosen.url_path)
with known(actor), turn(chosen.url_path):
    chosen.run()
