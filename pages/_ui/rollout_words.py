"""Deployments as people read them: kinds, states, verdicts, shares."""

from typing import Literal

from pages._ui.insight_words import UNKNOWN
from rlhf_core.agreement import Interval
from rlhf_core.release.judging import VerdictKind
from rlhf_core.release.plans import SHARES
from rlhf_core.release.views import DeploymentView
from rlhf_core.vocabulary import DeploymentKind, DeploymentState

Color = Literal["green", "red", "orange", "gray", "blue"]

KIND_NAMES = {
    DeploymentKind.CANARY: "Canary",
    DeploymentKind.AB_TEST: "A/B test of system prompts",
    DeploymentKind.INTERLEAVING: "Interleaving test",
}
STATE_BADGES: dict[DeploymentState, tuple[str, str, Color]] = {
    DeploymentState.RUNNING: ("Running", ":material/science:", "orange"),
    DeploymentState.PROMOTED: ("Promoted", ":material/verified:", "green"),
    DeploymentState.ROLLED_BACK: ("Rolled back", ":material/undo:", "red"),
    DeploymentState.STOPPED: ("Stopped", ":material/stop_circle:", "gray"),
}
VERDICT_NAMES = {
    VerdictKind.KEEP_WAITING: "Keep waiting",
    VerdictKind.BLOCKED_SAMPLE_RATIO: "No verdict",
    VerdictKind.ROLL_BACK_HARM: "Harm",
    VerdictKind.ROLL_BACK_ERRORS: "Errors",
    VerdictKind.BETTER: "Better",
    VerdictKind.NO_WORSE: "No worse",
    VerdictKind.NO_DIFFERENCE: "No difference shown",
    VerdictKind.WORSE: "Worse",
}


def name_sides(deployment: DeploymentView) -> tuple[str, str]:
    """What control and treatment are called: version and side; plain text."""
    if deployment.kind is DeploymentKind.INTERLEAVING:
        return f"v{deployment.baseline_number} alone", f"v{deployment.number} merged in"
    if deployment.version_id == deployment.baseline_version_id:
        return "Control prompt", "Treatment prompt"
    return f"Control, v{deployment.baseline_number}", f"Treatment, v{deployment.number}"


def name_deployment(deployment: DeploymentView) -> str:
    """`reward v3 against v2`; plain text."""
    if deployment.version_id == deployment.baseline_version_id:
        return f"{deployment.name}, two system prompts"
    return f"{deployment.name} against v{deployment.baseline_number}"


def find_next_step(percent: float) -> float | None:
    """The next step of the share below all of it; None: the next one is the promotion."""
    return next((step for step in SHARES if percent < step < SHARES[-1]), None)


def say_ends(share: Interval | None) -> str:
    """`78.0 to 84.6%`."""
    return UNKNOWN if share is None else f"{100 * share.low:.1f} to {share.high:.1%}"


def say_count(number: float) -> str:
    """`846`, of few `2.5`."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}".removesuffix(".0")


def say_who(deployment: DeploymentView) -> str:
    """Who ended it; plain text."""
    if deployment.ended_by_itself:
        return "by itself"
    return deployment.ended_by or "command line"


def say_days(days: float | None) -> str:
    """`12 days`, `7 hours`; of no known length that of words."""
    if days is None:
        return "unknown"
    if days < 2:
        hours = max(1, round(days * 24))
        return f"{hours} hours" if hours > 1 else "an hour"
    return f"{round(days):,} days"
