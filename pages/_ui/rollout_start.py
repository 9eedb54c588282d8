"""Starting a canary, an A/B test of system prompts or an interleaving test."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from pages._ui.gate_results import forget_results, read_results, show_results
from pages._ui.guard import require_page
from pages._ui.insight_words import UNKNOWN
from pages._ui.messages import plain, show_error
from pages._ui.rollout_words import KIND_NAMES, say_count, say_days
from pages._ui.state import notify
from pages._ui.version_moves import ask_to_override
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import InvalidInput, RlhfError
from rlhf_core.gates.deployments import start_by_gates
from rlhf_core.gates.service import MAX_SMALL_SHARE, verify_files
from rlhf_core.gates.views import list_blocking
from rlhf_core.registry.service import POLICY_MODEL, REWARD_MODEL
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.release.live import TRAFFIC_DAYS, read_traffic
from rlhf_core.release.plans import SHARES, CanaryPlan, Traffic, plan_canary
from rlhf_core.release.starting import MAX_PROMPT_CHARS
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DeploymentKind

_QUESTION = "rollout_start_question"  # what is about to be started, while its dialog is open
PLANNED, OPEN_ENDED = "Planned", "Open-ended"
COMPARED_SHARES = (*SHARES[:-1], 50.0)
KINDS = {
    REWARD_MODEL: (DeploymentKind.CANARY, DeploymentKind.INTERLEAVING),
    POLICY_MODEL: (DeploymentKind.CANARY, DeploymentKind.AB_TEST),
}
HELP = {
    DeploymentKind.CANARY: "A share of the users gets the new version; all others what serves.",
    DeploymentKind.AB_TEST: "A share of the users gets another system prompt; the version is the "
    "one that serves, so that only the prompt makes the difference.",
    DeploymentKind.INTERLEAVING: "Both versions order the candidates of a request, and their "
    "orders are merged by turns: whose picks people use more is better. It needs far fewer users "
    "than a canary, and the API's callers have to say which candidate was used.",
}


@dataclass(frozen=True)
class Wanted:
    """What the form says."""

    kind: DeploymentKind
    version: ModelVersionView
    percent: float
    plan: CanaryPlan
    control_prompt: str | None = None
    treatment_prompt: str | None = None


def show_start(
    model_name: str,
    versions: Sequence[ModelVersionView],
    production: ModelVersionView,
    actor: Actor,
) -> None:
    """The form: what, how much of the traffic, how it is judged, and what that takes."""
    kind = st.segmented_control(
        "What", KINDS[model_name], format_func=KIND_NAMES.__getitem__,
        default=DeploymentKind.CANARY, required=True, key=f"rollout_kind_{model_name}",
    )  # fmt: skip
    st.caption(HELP[kind])
    others = [version for version in versions if version.id != production.id]
    prompts: tuple[str | None, str | None] = (None, None)
    if kind is DeploymentKind.AB_TEST:
        version, prompts = production, _ask_prompts()
    elif others:
        version = st.selectbox(
            "Version", others, format_func=lambda each: each.name, key=f"rollout_new_{model_name}"
        )
    else:
        st.caption(f"{plain(production.name)} serves and is the only version: train another one.")
        return
    percent = _ask_percent(kind)
    with get_store().reading() as db:
        traffic = read_traffic(db, model_name, actor=actor)
    plan = _ask_plan(kind, percent, traffic)
    if plan is None:
        return
    wanted = Wanted(kind, version, percent, plan, *prompts)
    is_same = kind is DeploymentKind.AB_TEST and prompts[0] == prompts[1]
    st.button(
        "Start", type="primary", icon=":material/science:", key="rollout_start",
        disabled=is_same, on_click=_ask, args=(wanted,),
        help="Both system prompts are the same: change one." if is_same else None,
    )  # fmt: skip


def _ask_prompts() -> tuple[str | None, str | None]:
    left, right = st.columns(2)
    texts = [
        column.text_area(label, key=key, height=120, max_chars=MAX_PROMPT_CHARS,
                         placeholder="None")
        for column, label, key in (
            (left, "System prompt of the control", "rollout_control_prompt"),
            (right, "System prompt of the treatment", "rollout_treatment_prompt"),
        )
    ]  # fmt: skip
    st.caption("It is put before the messages of callers who send no system message themselves.")
    control, treatment = (text.strip() or None for text in texts)
    return control, treatment


def _ask_percent(kind: DeploymentKind) -> float:
    is_merged = kind is DeploymentKind.INTERLEAVING
    return st.number_input(
        "Share of the users, in percent", min_value=0.1, max_value=99.0,
        value=50.0 if is_merged else SHARES[0], step=5.0, format="%.1f",
        key=f"rollout_share_{kind.value}", width=260,
        help="Sticky: who gets the treatment keeps it, also when the share grows.",
    )  # fmt: skip


def _ask_plan(kind: DeploymentKind, percent: float, traffic: Traffic) -> CanaryPlan | None:
    """How sure it has to be, and the users and days that this takes; None with a sentence."""
    if kind is DeploymentKind.INTERLEAVING:
        st.caption("Judged after every choice, once a user; errors are watched as in a canary.")
        return plan_canary(traffic, is_planned=False)
    judged = st.segmented_control(
        "Judged", [PLANNED, OPEN_ENDED], default=PLANNED, required=True, key="rollout_judged",
        help="Planned: fewest users, decided at a few looks. Open-ended: more users, decided "
        "at any time. Harm and errors are watched all the time in both.",
    )  # fmt: skip
    drop = st.number_input(
        "Smallest drop in approval to find, in points", min_value=0.5, max_value=50.0, value=5.0,
        step=0.5, format="%.1f", key="rollout_drop", width=260,
    )  # fmt: skip
    with st.expander("How sure", icon=":material/tune:", key="rollout_sure"):
        power = st.number_input("Chance to find such a drop, in percent", 50.0, 99.0, 90.0, 5.0,
                                key="rollout_power")  # fmt: skip
        alpha = st.number_input("False verdicts on equal versions, in percent", 0.1, 20.0, 5.0,
                                1.0, key="rollout_alpha")  # fmt: skip
        harm = st.number_input("False roll backs, in percent", 0.1, 20.0, 5.0, 1.0,
                               key="rollout_harm",
                               help="Half of it for ratings, half for errors.")  # fmt: skip
        rise = st.number_input("More users may meet an error, in points", 0.0, 20.0, 1.0, 0.5,
                               key="rollout_rise")  # fmt: skip
        looks = st.number_input("Looks of a planned test", 1, 20, 5, 1, key="rollout_looks")
    try:
        plans = [
            plan_canary(
                traffic, is_planned=judged == PLANNED, traffic_percent=min(share, 99.0),
                detectable_drop=drop / 100, power=power / 100, alpha=alpha / 100,
                harm_alpha=harm / 100, max_error_rise=rise / 100, looks=looks,
            )
            for share in (percent, *COMPARED_SHARES)
        ]  # fmt: skip
    except InvalidInput as error:
        show_error(error)
        return None
    _show_need(plans, traffic)
    return plans[0]


def _show_need(plans: Sequence[CanaryPlan], traffic: Traffic) -> None:
    """Users and days, at this share and at others."""
    plan = plans[0]
    st.markdown(
        f"To find a drop of {100 * plan.detectable_drop:g} points, **{plan.num_users:,} users** "
        f"have to rate answers, {plan.num_treated:,} of them those of the treatment"
        + (
            f": about **{say_days(plan.days_expected)}** at {plan.traffic_percent:g} %."
            if plan.days_expected is not None
            else "."
        )
    )
    if traffic.raters_per_day:
        st.caption(
            f"Reckoned from the last {TRAFFIC_DAYS} days: {say_count(traffic.users_per_day)} users "
            f"a day, {say_count(traffic.raters_per_day)} of them rate, approval "
            f"{plan.approval:.1%}. Harm and errors are found sooner."
        )
    else:
        st.caption(
            f"No answer of this model was rated in the last {TRAFFIC_DAYS} days, so the days are "
            f"unknown; approval is taken as {100 * plan.approval:.0f} %."
        )
    by_share = {each.traffic_percent: each for each in plans}
    rows = [
        {
            "Share": f"{share:g} %",
            "Users who rate": f"{each.num_users:,}",
            "Of the treatment": f"{each.num_treated:,}",
            "Time": UNKNOWN if each.days_expected is None else say_days(each.days_expected),
        }
        for share, each in sorted(by_share.items())
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content", key="rollout_need",
                 alt="Users and days that the plan takes, by share of the traffic")  # fmt: skip


def _ask(wanted: Wanted) -> None:
    """Open the dialog at the next run."""
    st.session_state[_QUESTION] = wanted
    forget_results()


def _forget_question() -> None:
    st.session_state.pop(_QUESTION, None)


def ask_to_start() -> None:
    """Open the dialog that the button asked for; at the end of the page."""
    wanted: Wanted | None = st.session_state.get(_QUESTION)
    if wanted is not None:
        _ask_to_start(wanted)


@st.dialog("Start", width="medium", on_dismiss=_forget_question)
def _ask_to_start(wanted: Wanted) -> None:
    actor = require_page(Permission.PROMOTE_MODELS)
    name = wanted.version.name
    st.markdown(
        f"{KIND_NAMES[wanted.kind]}: **{plain(name)}** with **{wanted.percent:g} %** of the users. "
        "It is rolled back by itself when ratings fall or errors rise."
    )
    override, may_start = None, True
    is_prompts = wanted.kind is DeploymentKind.AB_TEST
    if not is_prompts:
        is_small = wanted.percent <= MAX_SMALL_SHARE
        results = read_results(wanted.version.id, actor, for_share=is_small)
        show_results(results, key="start_gates")
        override, may_start = ask_to_override(list_blocking(results), actor)
    reason = st.text_area("Why? Kept in the history", key="rollout_reason", height=80)
    typed = st.text_input(f"Type {plain(name)} to confirm", key="rollout_typed", live=True)
    is_sure = may_start and typed.strip() == name
    if st.button("Start", type="primary", key="rollout_start_confirm", disabled=not is_sure):
        _start(wanted, actor, reason, override)


def _start(wanted: Wanted, actor: Actor, reason: str, override: str | None) -> None:
    version = wanted.version
    try:
        with get_store().reading() as db:
            verify_files(db, version.id, actor=actor)
        with get_store().writing() as db:
            start_by_gates(
                db,
                actor=actor,
                model_name=version.model_name,
                version_id=version.id,
                kind=wanted.kind,
                plan=wanted.plan,
                traffic_percent=wanted.percent,
                control_prompt=wanted.control_prompt,
                treatment_prompt=wanted.treatment_prompt,
                reason=reason,
                override_reason=override,
            )
    except RlhfError as error:
        show_error(error)
        return
    _forget_question()
    notify(f"{plain(version.name)} has {wanted.percent:g} % of the users.")
    st.rerun()
