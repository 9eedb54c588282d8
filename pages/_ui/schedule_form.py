"""The form of a schedule (when it starts, what it trains), and what came of its last time."""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitAPIException

from pages._ui.job_panel import STATE_NAMES
from pages._ui.measures import JOB_KIND_NAMES
from pages._ui.messages import plain
from rlhf_core.clock import utcnow
from rlhf_core.errors import InvalidInput
from rlhf_core.jobs.cron import DEFAULT_CRON, describe_cron, find_next_tick, parse_cron
from rlhf_core.jobs.retrain_params import BOTH, POLICY, REWARD, RetrainParams
from rlhf_core.jobs.schedules import ScheduleView
from rlhf_core.vocabulary import JobKind, ScheduleTrigger

TRIGGER_NAMES = {
    ScheduleTrigger.CRON: "At a time",
    ScheduleTrigger.RATINGS: "After new ratings",
    ScheduleTrigger.DRIFT: "When a drift alert opens",
}
WHAT_NAMES = {REWARD: "Reward model", BOTH: "Reward model, then policy", POLICY: "Policy"}
OWN = "own"
CRONS = {
    DEFAULT_CRON: "Weekly, Sunday 01:00",
    "0 1 * * *": "Daily, 01:00",
    "0 1 1 * *": "Monthly, on the 1st, 01:00",
    OWN: "Cron",
}
LEARNERS = (JobKind.TRAIN_PPO, JobKind.TRAIN_DPO, JobKind.TRAIN_KTO, JobKind.TRAIN_SFT)


@dataclass(frozen=True)
class Wanted:
    """What the form says. `problem`: why it cannot be stored."""

    trigger: ScheduleTrigger
    cron: str
    params: RetrainParams
    problem: str | None = None

    def fields(self) -> dict[str, Any]:
        """What the service is told."""
        told: dict[str, Any] = {"trigger": self.trigger, "params": self.params}
        return {**told, "cron": self.cron} if self.cron else told


def ask_schedule(key: str, old: ScheduleView | None = None) -> Wanted:
    """The widgets, with what the schedule says now; not in a form, since they depend on another."""
    params = RetrainParams(**old.params) if old else RetrainParams()
    trigger = st.segmented_control(
        "When",
        list(TRIGGER_NAMES),
        format_func=TRIGGER_NAMES.__getitem__,
        default=old.trigger if old else ScheduleTrigger.CRON,
        required=True,
        key=f"{key}_trigger",
    )
    cron, problem = "", None
    if trigger is ScheduleTrigger.CRON:
        cron, problem = _ask_cron(key, old.cron if old and old.cron else DEFAULT_CRON)
    what = st.segmented_control(
        "What is trained",
        list(WHAT_NAMES),
        format_func=WHAT_NAMES.__getitem__,
        default=params.what,
        required=True,
        key=f"{key}_what",
    )
    policy = _ask_policy(key, params) if what != REWARD else params.policy
    min_new = st.number_input(
        "New ratings and comparisons needed",
        min_value=1,
        max_value=1_000_000,
        value=max(1, params.min_new),
        help="With fewer since the newest version, nothing is trained, and the run says so.",
        key=f"{key}_min_new",
    )
    wanted = replace(params, what=what, policy=policy, min_new=int(min_new))
    return Wanted(trigger, cron, wanted, problem)


def _ask_cron(key: str, cron: str) -> tuple[str, str | None]:
    chosen = st.selectbox(
        "Time (UTC)",
        list(CRONS),
        format_func=CRONS.__getitem__,
        index=list(CRONS).index(cron if cron in CRONS else OWN),
        key=f"{key}_time",
    )
    if chosen != OWN:
        return chosen, None
    text = st.text_input(
        "Cron",
        value=cron,
        max_chars=100,
        help="Minute, hour, day of month, month, day of week; in UTC.",
        key=f"{key}_cron",
    )
    try:
        cron = parse_cron(text)
        tick = find_next_tick(cron, utcnow())
    except InvalidInput as error:
        st.caption(f":material/error: {plain(str(error))}")
        return text, str(error)
    st.caption(plain(f"{describe_cron(cron)}; next {tick:%A %Y-%m-%d %H:%M} UTC."))
    return cron, None


def _ask_policy(key: str, params: RetrainParams) -> dict[str, object] | None:
    """How the policy is trained; what the command line set beside the learner is kept."""
    known = (params.policy or {}).get("learner")
    choices = [None, *dict.fromkeys([*([JobKind(known)] if known else []), *LEARNERS])]
    learner = st.selectbox(
        "How the policy is trained",
        choices,
        format_func=lambda kind: (
            "As the data recommend then" if kind is None else JOB_KIND_NAMES[kind]
        ),
        index=1 if known else 0,
        key=f"{key}_learner",
    )
    if learner is None:
        return None
    if known == learner.value:
        return params.policy
    return {"learner": learner.value}


def show_last(schedule: ScheduleView) -> None:
    """What came of the last time."""
    if schedule.last_started_at is None and not schedule.last_outcome:
        st.caption("It has not started yet.")
        return
    at = f"{schedule.last_started_at:%Y-%m-%d %H:%M} UTC" if schedule.last_started_at else ""
    st.caption(plain(f"Last time {at}: {schedule.last_outcome or ''}"))
    if schedule.last_job_id is None or schedule.last_job_state is None:
        return
    label, icon, color = STATE_NAMES[schedule.last_job_state]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(label, icon=icon, color=color)
        if schedule.last_job_message:
            st.markdown(plain(schedule.last_job_message), width="content")
        with suppress(StreamlitAPIException):  # raised where this role has no such page
            st.page_link(
                "pages/train/runs.py", label="See the run", icon=":material/monitoring:",
                query_params={"run": str(schedule.last_job_id)},
            )  # fmt: skip
