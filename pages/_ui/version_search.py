"""Two questions to the registry: which models learned from this row, and what was live then."""

import uuid
from datetime import UTC, datetime, time

import streamlit as st

from pages._ui.messages import plain, reporting
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.clock import utcnow
from rlhf_core.errors import InvalidInput
from rlhf_core.registry.lineage import find_trained_on
from rlhf_core.release.live import read_live_at
from rlhf_core.store.engine import get_store


def ask_trained_on(actor: Actor) -> None:
    """By an interaction's id; `?row=` asks at once."""
    if not actor.may(Permission.READ_INTERACTIONS):
        return
    asked = st.query_params.get("row", "")
    with st.expander("Which models learned from a row?", icon=":material/account_tree:",
                     expanded=bool(asked), key="trained_on_box"):  # fmt: skip
        text = st.text_input(
            "Id of an interaction", asked, key=f"trained_on_{asked}",
            help="Pages that show a row link to this; the API gives the id when a row is stored.",
        )  # fmt: skip
        if text.strip():
            with reporting():
                _show_trained_on(text.strip(), actor)


def _show_trained_on(text: str, actor: Actor) -> None:
    try:
        wanted = uuid.UUID(text)
    except ValueError as error:
        raise InvalidInput(f"{text[:80]!r} is no id of an interaction.") from error
    with get_store().reading() as db:
        found = find_trained_on(db, wanted, actor=actor)
    if not found:
        st.caption("No version learned from it.")
        return
    for one in found:
        rows = ", ".join(f"{number:,}" for number in one.row_numbers[:5])
        more = " ..." if len(one.row_numbers) > 5 else ""
        parts = " and ".join(split.value for split in one.splits)
        how = f"{plain(one.dataset)}, row {rows}{more} ({parts})"
        if one.through:
            how = f"{plain(one.through)}; {how}"
        with st.container(horizontal=True, vertical_alignment="center"):
            if one.version.deleted_at is None:
                st.page_link(
                    "pages/models/registry.py", label=plain(one.version.name), width="content",
                    icon=":material/deployed_code:", query_params={"version": str(one.version.id)},
                )  # fmt: skip
            else:
                st.markdown(f"{plain(one.version.name)} (deleted)", width="content")
            st.caption(how, width="content")


def ask_live_at(model_name: str, actor: Actor) -> None:
    """What answered at a moment: production, and who had part of the traffic."""
    with st.container(border=True, key="live_at"):
        st.markdown("**What was live?**")
        now = utcnow()
        # set once: a default that moves with the clock would undo what was chosen
        st.session_state.setdefault("live_time", time(now.hour, now.minute))
        with st.container(horizontal=True, vertical_alignment="bottom"):
            day = st.date_input("Day (UTC)", now.date(), max_value=now.date(), key="live_day")
            hour = st.time_input("Time (UTC)", key="live_time", step=60)
        if day is None or hour is None:
            return
        moment = datetime.combine(day, hour, UTC)
        with reporting():
            with get_store().reading() as db:
                found = read_live_at(db, model_name, moment, actor=actor)
            said = (
                "Nothing was promoted yet."
                if found.production is None
                else (f"**{plain(found.production)}** served.")
            )
            if found.deployment is not None:
                said += (
                    f" {plain(found.deployment.name)} had {found.traffic_percent or 0:g} % of the "
                    "traffic."
                )
            st.markdown(f"{moment:%Y-%m-%d %H:%M} UTC: {said}")
