"""What ran before, who decided what on which evidence, and what was live at a moment."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

import pandas as pd
import streamlit as st

from pages._ui.messages import plain, reporting
from pages._ui.rollout_live import show_arms, show_verdict
from pages._ui.rollout_words import (
    KIND_NAMES,
    STATE_BADGES,
    VERDICT_NAMES,
    name_deployment,
    say_who,
)
from rlhf_core.accounts.permissions import Actor
from rlhf_core.clock import utcnow
from rlhf_core.release.live import read_live_at
from rlhf_core.release.service import read_live
from rlhf_core.release.views import DeploymentView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DeploymentState


def show_history(ended: Sequence[DeploymentView], actor: Actor) -> None:
    """The deployments that ended, the latest first; a chosen one whole."""
    frame = pd.DataFrame(
        {
            "Version": [name_deployment(each) for each in ended],
            "Kind": [KIND_NAMES[each.kind] for each in ended],
            "Ended as": [STATE_BADGES[each.state][0] for each in ended],
            "Share": [f"{each.traffic_percent:g} %" for each in ended],
            "From": [each.started_at for each in ended],
            "To": [each.ended_at for each in ended],
            "Verdict": [
                "" if each.verdict is None else VERDICT_NAMES[each.verdict.kind] for each in ended
            ],
            "Decided by": [say_who(each) for each in ended],
            "Why": [each.end_reason or "" for each in ended],
        }
    )
    moment = st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC")
    chosen = st.dataframe(
        frame,
        hide_index=True,
        height="auto" if len(ended) < 7 else 248,
        column_config={"From": moment, "To": moment},
        on_select="rerun",
        selection_mode="single-row",
        key="rollout_history",
        alt="Deployments that ended, the latest first",
    )
    places = [place for place in chosen.selection.rows if place < len(ended)]
    if not places:
        st.caption("Choose a row to see its figures and every decision on it.")
        return
    one = ended[places[0]]
    with st.container(border=True, key="rollout_ended"), reporting():
        st.markdown(f"**{plain(name_deployment(one))}**")
        with get_store().reading() as db:
            live = read_live(db, one.id, actor=actor)
        show_verdict(live.verdict)
        show_decisions(one)
        show_arms(live)


def show_last(deployment: DeploymentView) -> None:
    """How the last one ended, where it was taken back: nobody may have been looking."""
    is_harm = deployment.state is DeploymentState.ROLLED_BACK or deployment.ended_by_itself
    if not is_harm or deployment.ended_at is None:
        return
    how = STATE_BADGES[deployment.state][0].lower()
    st.error(
        f"{plain(deployment.name)} was {how} ({plain(say_who(deployment))}) "
        f"{deployment.ended_at:%Y-%m-%d %H:%M} UTC. {plain(deployment.end_reason or '')}",
        icon=":material/undo:",
    )


def show_decisions(deployment: DeploymentView) -> None:
    """Every decision on it: who, when, why."""
    rows = [
        (step.since, f"{step.traffic_percent:g} %", step.by, step.reason)
        for step in deployment.steps
    ]
    if deployment.ended_at is not None:
        rows.append(
            (
                deployment.ended_at,
                STATE_BADGES[deployment.state][0],
                say_who(deployment),
                deployment.end_reason or "",
            )
        )
    frame = pd.DataFrame(rows, columns=["When", "Decision", "Who", "Why"])
    moment = st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", timezone="UTC")
    st.dataframe(
        frame,
        hide_index=True,
        height="content",
        column_config={"When": moment},
        key=f"rollout_decisions_{deployment.id}",
        alt="Decisions on the deployment, the first one first",
    )


def show_live_at(model_name: str, actor: Actor) -> None:
    """What answered at a moment: which version served, and which had part of the traffic."""
    now = utcnow()
    st.session_state.setdefault("live_at_day", now.date())
    st.session_state.setdefault("live_at_time", time(now.hour, now.minute))
    with st.container(horizontal=True, vertical_alignment="bottom", key="rollout_live_at"):
        day = st.date_input("Day (UTC)", max_value=now.date(), key="live_at_day", width=180)
        clock = st.time_input("Time (UTC)", key="live_at_time", step=60, width=140)
    # the end of the minute, so that "now" is now
    moment = min(now, datetime.combine(day, clock, UTC) + timedelta(seconds=59))
    with reporting():
        with get_store().reading() as db:
            found = read_live_at(db, model_name, moment, actor=actor)
        if found.production is None:
            st.markdown(f"At {moment:%Y-%m-%d %H:%M} UTC no version of {plain(model_name)} served.")
            return
        said = f"At {moment:%Y-%m-%d %H:%M} UTC **{plain(found.production)}** served"
        running = found.deployment
        if running is None:
            st.markdown(f"{said} all requests.")
            return
        st.markdown(
            f"{said}, and {plain(name_deployment(running))} ran on "
            f"{found.traffic_percent or 0:g} % of the traffic "
            f"({KIND_NAMES[running.kind]}, {STATE_BADGES[running.state][0].lower()} in the end)."
            if not running.is_running
            else f"{said}, and {plain(name_deployment(running))} runs on "
            f"{found.traffic_percent or 0:g} % of the traffic ({KIND_NAMES[running.kind]})."
        )
