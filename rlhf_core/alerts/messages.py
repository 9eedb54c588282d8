"""What a message says: as JSON for webhooks, as text for people."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rlhf_core.alerts.findings import Finding
from rlhf_core.vocabulary import AlertKind

OPENED = "alert.opened"
RESOLVED = "alert.resolved"
TEST = "alert.test"
DIGEST = "digest"
MAX_LISTED = 20
"""Slices that one message names; of more it says how many."""

KIND_NAMES: dict[AlertKind, str] = {
    AlertKind.APPROVAL_BELOW: "Approval too low",
    AlertKind.NEW_ACTION_TYPE: "New action type with many downs",
    AlertKind.NEGATIVES_SPIKE: "Spike of negatives",
    AlertKind.NO_FEEDBACK: "No feedback",
    AlertKind.AGREEMENT_BELOW: "Agreement too low",
    AlertKind.DRIFT: "Reward drifts from ratings",
    AlertKind.RUN_FAILED: "Failed run",
    AlertKind.CANARY_DUE: "Canary decision due",
}
_EVENT_NAMES = {OPENED: "Alert", RESOLVED: "Resolved", TEST: "Test"}


def make_content(
    event: str, *, rule: str, kind: AlertKind, findings: Sequence[Finding], at: datetime
) -> dict[str, Any]:
    """A message about one or several slices of a rule."""
    return {
        "event": event,
        "rule": rule,
        "kind": kind.value,
        "at": at.isoformat(timespec="seconds"),
        "num_slices": len(findings),
        "slices": [
            {"slice": one.slice_key, "value": one.value, "text": one.said}
            for one in findings[:MAX_LISTED]
        ],
    }


def make_test_content(*, rule: str, kind: AlertKind, at: datetime) -> dict[str, Any]:
    """A message that a person asked for, to see that it arrives."""
    said = "This is a test: no rule fired."
    return make_content(TEST, rule=rule, kind=kind, findings=[Finding("", False, None, said)],
                        at=at)  # fmt: skip


def write_mail(content: dict[str, Any]) -> tuple[str, str]:
    """(subject, text) of a message."""
    if content["event"] == DIGEST:
        return str(content["subject"]), str(content["text"])
    kind = KIND_NAMES[AlertKind(content["kind"])]
    subject = f"{_EVENT_NAMES[content['event']]}: {content['rule']}"
    slices = content["slices"]
    if len(slices) == 1 and slices[0]["slice"]:
        subject += f" ({slices[0]['slice']})"
    lines = [f"{kind}. Rule: {content['rule']}. {content['at']}", ""]
    for one in slices:
        lines.append(f"{one['slice']}: {one['text']}." if one["slice"] else f"{one['text']}.")
    more = content["num_slices"] - len(slices)
    if more > 0:
        lines.append(f"And {more} more.")
    return subject, "\n".join([*lines, "", "See Alerts in the dashboard.", ""])
