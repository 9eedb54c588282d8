"""What runs now: both sides beside each other with intervals, and the verdict in words."""

from datetime import timedelta

import pandas as pd
import streamlit as st

from pages._ui.canary_state import say_canary_state
from pages._ui.chart_table import show_chart
from pages._ui.guard import admit
from pages._ui.insight_charts import draw_bars
from pages._ui.insight_rows import link_to_rows
from pages._ui.insight_words import UNKNOWN, say_share
from pages._ui.messages import plain, reporting
from pages._ui.rollout_words import name_sides, say_days, say_ends
from rlhf_core.accounts.permissions import Permission
from rlhf_core.analytics.filters import Filters
from rlhf_core.clock import utcnow
from rlhf_core.registry.service import POLICY_MODEL
from rlhf_core.release.judging import Verdict, VerdictKind
from rlhf_core.release.sample_ratio import MISMATCH_BELOW
from rlhf_core.release.service import read_live
from rlhf_core.release.views import ArmView, DeploymentView, LiveTable
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DeploymentKind, RaterKind

EACH_LOOK = timedelta(seconds=3)
STALE = timedelta(seconds=30)  # so long without a look of a worker is said


def show_live(deployment: DeploymentView) -> None:
    """The figures, read anew every few seconds while it runs."""
    interval = EACH_LOOK if deployment.is_running else None
    st.fragment(_show, run_every=interval, key="rollout_live")(deployment)


def _show(seen: DeploymentView) -> None:
    actor = admit(Permission.READ_MODELS)
    if actor is None:
        return
    with reporting():
        with get_store().reading() as db:
            live = read_live(db, seen.id, actor=actor)
        now = live.deployment
        if seen.is_running and (now.revision, now.state) != (seen.revision, seen.state):
            st.rerun()  # somebody, or the watch, decided: the whole page is another
        if now.is_damaged:
            st.error(
                "It is not judged: its plan or its last verdict is damaged. Stop it and start it "
                "anew.",
                icon=":material/broken_image:",
            )
        else:
            show_verdict(live.verdict)
        if now.is_running:
            _show_plan(live)
            _say_watched(live)
            say_canary_state(now.id, model_name=now.model_name, version=now.name)
        show_arms(live)


def show_verdict(verdict: Verdict | None) -> None:
    """The verdict in words."""
    if verdict is None:
        st.caption("No plan was made for it, so no verdict is given.")
        return
    said = plain(verdict.sentence)
    match verdict.kind:
        case VerdictKind.ROLL_BACK_HARM | VerdictKind.ROLL_BACK_ERRORS | VerdictKind.WORSE:
            st.error(said, icon=":material/undo:")
        case VerdictKind.BLOCKED_SAMPLE_RATIO:
            st.warning(said, icon=":material/block:")
        case VerdictKind.BETTER | VerdictKind.NO_WORSE:
            st.success(said, icon=":material/check_circle:")
        case VerdictKind.KEEP_WAITING | VerdictKind.NO_DIFFERENCE:
            st.info(said, icon=":material/hourglass_top:")


def _show_plan(live: LiveTable) -> None:
    """How far the plan is, and how long it takes yet at the speed until now."""
    deployment, verdict = live.deployment, live.verdict
    plan = deployment.plan
    if plan is None or verdict is None or deployment.kind is DeploymentKind.INTERLEAVING:
        return
    evidence = float(verdict.numbers.get("evidence") or 0.0)
    if not plan.is_planned:
        st.caption(
            "Open-ended: the interval holds at any time, so you may decide whenever it says enough."
        )
        return
    looks = f"look {verdict.look} of {plan.looks}"
    left = ""
    if 0 < evidence < 1:
        passed = (live.read_at - deployment.started_at) / timedelta(days=1)
        left = f", about {say_days(passed * (1 - evidence) / evidence)} to go at this speed"
    st.progress(min(1.0, evidence), f"{min(1.0, evidence):.0%} of the planned evidence, {looks}"
                f"{left}")  # fmt: skip


def _say_watched(live: LiveTable) -> None:
    """Whether a worker looks: without one nothing is rolled back by itself."""
    checked, now = live.deployment.checked_at, utcnow()
    since = checked or live.deployment.started_at
    if now - since > STALE:
        st.warning(
            "No worker has looked at it "
            + (f"since {checked:%Y-%m-%d %H:%M:%S} UTC" if checked else "yet")
            + ": it is not rolled back by itself until one runs "
            "(`make run`, or `python -m rlhf_core worker`).",
            icon=":material/cloud_off:",
        )
    p = (live.verdict.numbers if live.verdict else {}).get("p_sample_ratio")
    if p is None:
        said = "too few users yet to check the sample ratio"
    elif p < MISMATCH_BELOW:
        said = f"the sample ratio is wrong (p {p:.1g}): if it stays so, it is stopped by itself"
    else:
        said = f"the sample ratio is as it should be (p {p:.2f})"
    st.caption(f"Read {live.read_at:%H:%M:%S} UTC; {said}.")


def show_arms(live: LiveTable) -> None:
    """Both sides: the approval drawn, all figures as a table, and each step of the share."""
    names = name_sides(live.deployment)
    arms = (live.control, live.treatment)
    rows = pd.DataFrame(
        [
            {
                "name": name, "value": arm.approval.value, "low": arm.approval.low,
                "high": arm.approval.high, "n": arm.num_feedback,
            }
            for name, arm in zip(names, arms, strict=True)
            if arm.approval is not None
        ]
    )  # fmt: skip
    if not rows.empty:
        show_chart(
            draw_bars(rows, title="Approval", as_percent=True),
            rows.rename(
                columns={"name": "Side", "value": "Approval", "low": "From", "high": "To",
                         "n": "Ratings"}
            ),
            key="rollout_approval",
            alt="Approval of control and treatment with 95 % intervals",
            name="rollout_approval",
        )  # fmt: skip
    table = pd.DataFrame(_figures(live.control, live.treatment, names))
    st.dataframe(
        table, hide_index=True, height="content", key="rollout_arms",
        alt="Figures of control and treatment side by side",
    )  # fmt: skip
    _link_to_ratings(live.deployment)
    if len(live.strata) > 1:
        _show_steps(live)


def _link_to_ratings(deployment: DeploymentView) -> None:
    """To what users said of either version's answers; candidates bear no version's name."""
    numbers = (deployment.baseline_number, deployment.number)
    if deployment.model_name != POLICY_MODEL or len({*numbers}) == 1:
        return
    with st.container(horizontal=True):
        for number in numbers:
            name = f"{deployment.model_name} v{number}"
            filters = Filters(
                since=deployment.started_at.date(),
                model_names=(name,),
                rater_kinds=(RaterKind.END_USER,),
            )
            link_to_rows(f"What users said of {plain(name)}", filters)


def _figures(control: ArmView, treatment: ArmView, names: tuple[str, str]) -> list[dict[str, str]]:
    arms = (control, treatment)
    rows = [
        ("Users", *(f"{arm.num_users:,}" for arm in arms)),
        ("Requests", *(f"{arm.num_requests:,}" for arm in arms)),
        ("Approval", *(say_share(arm.approval) for arm in arms)),
        ("Approval, 95 %", *(say_ends(arm.approval) for arm in arms)),
        ("Ratings, thumbs", *(f"{arm.num_feedback:,}" for arm in arms)),
        ("Thumbs up / down", *(_thumbs(arm) for arm in arms)),
        ("Mean rating", *(_mean(arm) for arm in arms)),
        ("By experts, not judged", *(f"{arm.num_by_experts:,}" for arm in arms)),
        ("Errors", *(say_share(arm.error_rate) for arm in arms)),
        ("Errors, 95 %", *(say_ends(arm.error_rate) for arm in arms)),
        ("Fallbacks", *(f"{arm.num_fallbacks:,}" for arm in arms)),
        ("Latency p50", *(_ms(arm.latency_p50_ms) for arm in arms)),
        ("Latency p95", *(_ms(arm.latency_p95_ms) for arm in arms)),
        ("Candidates used", *(f"{arm.num_choices:,}" for arm in arms)),
    ]
    return [dict(zip(("Figure", *names), row, strict=True)) for row in rows]


def _thumbs(arm: ArmView) -> str:
    return f"{arm.num_thumbs_up:,} / {arm.num_thumbs_down:,}"


def _mean(arm: ArmView) -> str:
    if arm.mean_rating is None:
        return UNKNOWN
    return f"{arm.mean_rating:.2f} of {arm.num_ratings:,}"


def _ms(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f} ms"


def _show_steps(live: LiveTable) -> None:
    """Each step of the share: the verdict compares within them."""
    with st.expander("By step of the share", icon=":material/stairs:", key="rollout_steps"):
        st.caption(
            "The sides are compared within each step, so that a trend in time does no harm "
            "although the share grew."
        )
        rows = [
            {
                "Share": f"{100 * stratum.share:g} %",
                "Since (UTC)": f"{stratum.since:%Y-%m-%d %H:%M}",
                "Control": _share(stratum.control.approval, stratum.control.num_feedback),
                "Treatment": _share(stratum.treatment.approval, stratum.treatment.num_feedback),
            }
            for stratum in live.strata
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, height="content", key="rollout_strata",
                     alt="Approval of both sides in each step of the share")  # fmt: skip


def _share(approval: float | None, num: int) -> str:
    return UNKNOWN if approval is None else f"{approval:.1%} of {num:,}"
