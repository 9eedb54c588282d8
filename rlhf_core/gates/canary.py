"""What a version's share of the traffic said of it."""

from collections.abc import Mapping
from typing import Any

from rlhf_core.gates.evidence import Examined
from rlhf_core.gates.views import Finding, failed, not_measured, passed
from rlhf_core.release.judging import VerdictKind
from rlhf_core.release.views import DeploymentView, load_deployments
from rlhf_core.store.tables import Deployment

BAD = frozenset({
    VerdictKind.WORSE, VerdictKind.ROLL_BACK_HARM, VerdictKind.ROLL_BACK_ERRORS,
    VerdictKind.BLOCKED_SAMPLE_RATIO,
})  # fmt: skip
GOOD = frozenset({VerdictKind.BETTER, VerdictKind.NO_WORSE, VerdictKind.NO_DIFFERENCE})


def check_canary(examined: Examined, params: Mapping[str, Any]) -> Finding:
    """The verdict on what runs, or ran last, with the version as the new side."""
    del params
    found = load_deployments(
        examined.db,
        Deployment.version_id == examined.version.id,
        Deployment.baseline_version_id != Deployment.version_id,  # not a test of system prompts
        limit=1,
    )
    if not found:
        return not_measured("It was never on part of the traffic. Start a canary (page Rollout).")
    (last,) = found
    said, numbers = _describe(last), {"percent": last.traffic_percent}
    if last.verdict is None or last.verdict.kind not in BAD | GOOD:
        return not_measured(f"{said}: nothing was decided.", **numbers)
    sentence = f"{said}: {last.verdict.sentence}"
    find = failed if last.verdict.kind in BAD else passed
    return find(sentence, **{**last.verdict.numbers, **numbers})


def _describe(last: DeploymentView) -> str:
    against = "" if last.baseline_number is None else f", against v{last.baseline_number}"
    since = "now" if last.is_running else f"until {last.ended_at:%Y-%m-%d %H:%M} UTC"
    return f"On {last.traffic_percent:g} % of the traffic {since}{against}"
