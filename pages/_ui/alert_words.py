"""Rules of alerts in words. No Streamlit here."""

from dataclasses import dataclass
from typing import assert_never

from rlhf_core.alerts.channels import Channels, describe_target
from rlhf_core.alerts.params import (
    AgreementBelow,
    ApprovalBelow,
    CanaryDue,
    Drift,
    NegativesSpike,
    NewActionType,
    NoFeedback,
    Params,
    RunFailed,
    Watched,
)

SPLIT_NAMES = {"": "All together", "action_type": "Each action type", "model_name": "Each model"}
COEFFICIENT_NAMES = {"ac1": "Gwet's AC1", "alpha": "Krippendorff's alpha", "raw": "Raw agreement"}
CHOICE_NAMES = SPLIT_NAMES | COEFFICIENT_NAMES


@dataclass(frozen=True)
class NumberWords:
    """How a number of a rule is asked for. A share is asked for in percent."""

    label: str
    help: str = ""
    is_share: bool = False


NUMBERS: dict[str, NumberWords] = {
    "level": NumberWords("Fires below"),
    "days": NumberWords("Days looked at", "Today is the last of them. Days are UTC days."),
    "min_n": NumberWords("Judgements needed", "With fewer, the rule says nothing."),
    "min_bad": NumberWords("Bad ones needed"),
    "share": NumberWords("Fires from a share of bad (%)", is_share=True),
    "limit": NumberWords(
        "Limit (sigmas)",
        "3.2 raises a false alarm in a few percent of quiet periods of 46 days; a lower limit "
        "finds a drop sooner, and is wrong more often.",
    ),
    "weight": NumberWords(
        "Weight of the newest day", "Of the moving average. The smaller, the calmer and the later."
    ),
    "baseline_days": NumberWords("Days before, to compare with"),
    "hours": NumberWords("Hours without feedback"),
    "drop": NumberWords("Fires from a fall of the AUC by more than"),
}
OWN_NUMBERS: dict[tuple[type[Params], str], NumberWords] = {
    (ApprovalBelow, "level"): NumberWords(
        "Fires below (%)",
        "Where chance does not explain it. Well again from 2 points above.",
        is_share=True,
    ),
    (AgreementBelow, "min_n"): NumberWords(
        "Things needed", "Judged by two or more raters. With fewer, the rule says nothing."
    ),
    (CanaryDue, "days"): NumberWords("Days until a decision is due"),
    (RunFailed, "days"): NumberWords("Days looked at", "An older failure opens no alert."),
}
CHOICES = {"split": "Looked at", "coefficient": "Measure"}


def number_words(kind: type[Params], name: str) -> NumberWords:
    """How this number is asked for."""
    return OWN_NUMBERS.get((kind, name), NUMBERS[name])


def describe_rule(params: Params) -> str:
    """What a rule waits for, in a sentence without a full stop."""
    match params:
        case ApprovalBelow():
            said = f"Approval under {params.level:.0%} over {_days(params.days)}"
            said += f", of {params.min_n:,} or more{_split(params.split)}"
        case NegativesSpike():
            said = (
                f"The share of bad rises {params.limit:g} sigmas over the "
                f"{params.baseline_days} days before, of {params.min_n:,} or more"
                f"{_split(params.split)}"
            )
        case NewActionType():
            said = (
                f"An action type of the last {_days(params.days)} has {params.min_bad:,} or more "
                f"bad, {params.share:.0%} or more of its feedback"
            )
        case NoFeedback():
            said = f"No feedback for {params.hours:,} hours"
        case AgreementBelow():
            said = (
                f"{COEFFICIENT_NAMES[params.coefficient]} under {params.level:g} on a question, "
                f"over {_days(params.days)}, of {params.min_n:,} things or more"
            )
        case Drift():
            said = (
                f"The reward's AUC of {_days(params.days)} falls by more than {params.drop:g} "
                f"under that of the {params.baseline_days} days before"
            )
        case RunFailed():
            said = f"The newest run of a kind failed, within {_days(params.days)}"
        case CanaryDue():
            said = f"A version is on part of the traffic for {_days(params.days)}"
        case _:
            assert_never(params)
    if isinstance(params, Watched):
        chosen = [*params.sources, *params.action_types, *params.model_names]
        if chosen:
            said += f"; only {', '.join(name or '(none)' for name in chosen)}"
    return said


def describe_channels(channels: Channels) -> str:
    """Who is told, without what a webhook's address may keep secret."""
    told = [describe_target(channel, target) for channel, target in channels.targets()]
    return f"Tells {', '.join(told)}" if told else "Tells this page only"


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"


def _split(split: str) -> str:
    return f", {SPLIT_NAMES[split].lower()} by itself" if split else ""
