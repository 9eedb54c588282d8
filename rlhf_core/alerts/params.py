"""The numbers of a rule, by what it watches. Stored as JSON with the rule."""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from rlhf_core.analytics.filters import Filters
from rlhf_core.errors import InvalidInput
from rlhf_core.vocabulary import AlertKind

SPLITS = ("", "action_type", "model_name")
"""What a rule is checked apart for: nothing (one figure), each action type, each model version."""
COEFFICIENTS = ("ac1", "alpha", "raw")


def number(default: float, low: float, high: float) -> Any:
    """A field that lies between two numbers, both included; its type is that of the default."""
    return field(default=default, metadata={"low": low, "high": high})


def choice(default: str, choices: tuple[str, ...]) -> Any:
    """A field that takes one of these words."""
    return field(default=default, metadata={"choices": choices})


@dataclass(frozen=True)
class Watched:
    """Which feedback a rule looks at. Nothing chosen is all, but demo data beside other."""

    sources: tuple[str, ...] = ()
    action_types: tuple[str, ...] = ()
    model_names: tuple[str, ...] = ()

    def filters(self, **period: Any) -> Filters:
        """As the counts are filtered."""
        return Filters(
            sources=self.sources,
            action_types=self.action_types,
            model_names=self.model_names,
            **period,
        )


@dataclass(frozen=True)
class ApprovalBelow(Watched):
    """Approval of the last `days`, today included, is under `level`.

    Split by action type or model, only what chance does not explain is told.
    """

    level: float = number(0.80, 0.01, 0.99)
    days: int = number(7, 1, 90)
    min_n: int = number(30, 1, 100_000)
    split: str = choice("", SPLITS)


@dataclass(frozen=True)
class NewActionType(Watched):
    """An action type first seen in the last `days` is often bad."""

    days: int = number(7, 1, 60)
    min_bad: int = number(5, 1, 100_000)
    share: float = number(0.5, 0.01, 1.0)


@dataclass(frozen=True)
class NegativesSpike(Watched):
    """The share of bad rises over what the weeks before let expect (EWMA, whole days)."""

    limit: float = number(3.2, 1.0, 10.0)
    weight: float = number(0.2, 0.05, 1.0)
    baseline_days: int = number(42, 14, 180)
    min_n: int = number(30, 1, 100_000)
    split: str = choice("", SPLITS)


@dataclass(frozen=True)
class NoFeedback(Watched):
    """Nobody left feedback for `hours`."""

    hours: int = number(24, 1, 24 * 60)


@dataclass(frozen=True)
class AgreementBelow:
    """Raters agree less than `level` on what was said in the last `days`."""

    level: float = number(0.4, -1.0, 1.0)
    days: int = number(28, 1, 365)
    min_n: int = number(20, 2, 100_000)
    coefficient: str = choice("ac1", COEFFICIENTS)


@dataclass(frozen=True)
class Drift:
    """The reward tells good from bad worse than before: its AUC fell by more than `drop`."""

    drop: float = number(0.05, 0.0, 0.5)
    days: int = number(14, 1, 90)
    baseline_days: int = number(56, 7, 365)
    min_n: int = number(50, 10, 100_000)


@dataclass(frozen=True)
class RunFailed:
    """The newest run of a kind failed, within `days`."""

    days: int = number(7, 1, 90)


@dataclass(frozen=True)
class CanaryDue:
    """A version has been on part of the traffic for `days` and nobody decided."""

    days: int = number(14, 1, 365)


Params = (
    ApprovalBelow | NewActionType | NegativesSpike | NoFeedback | AgreementBelow | Drift
    | RunFailed | CanaryDue
)  # fmt: skip

PARAMS: dict[AlertKind, type[Params]] = {
    AlertKind.APPROVAL_BELOW: ApprovalBelow,
    AlertKind.NEW_ACTION_TYPE: NewActionType,
    AlertKind.NEGATIVES_SPIKE: NegativesSpike,
    AlertKind.NO_FEEDBACK: NoFeedback,
    AlertKind.AGREEMENT_BELOW: AgreementBelow,
    AlertKind.DRIFT: Drift,
    AlertKind.RUN_FAILED: RunFailed,
    AlertKind.CANARY_DUE: CanaryDue,
}


def kind_of(params: Params) -> AlertKind:
    """What these numbers are of."""
    return next(kind for kind, known in PARAMS.items() if known is type(params))


def parse_params(kind: AlertKind, plain: Mapping[str, Any]) -> Params:
    """The numbers of a rule; InvalidInput names one that is unknown or out of its range."""
    known = {one.name: one for one in fields(PARAMS[kind])}
    values: dict[str, Any] = {}
    for name, value in plain.items():
        if name not in known:
            raise InvalidInput(
                f"Unknown parameter {name!r} of {kind.value}: choose from {', '.join(known)}.",
                field=name,
            )
        values[name] = _check(known[name], value)
    return PARAMS[kind](**values)


def params_to_json(params: Params) -> dict[str, Any]:
    """As `parse_params` reads it."""
    values = {one.name: getattr(params, one.name) for one in fields(params)}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def _check(known: Field[Any], value: Any) -> Any:
    name, rule = known.name, known.metadata
    if "choices" in rule:
        if value not in rule["choices"]:
            choices = ", ".join(repr(one) for one in rule["choices"])
            raise InvalidInput(f"{name} is {value!r}: choose from {choices}.", field=name)
        return value
    if not rule:
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise InvalidInput(f"{name} is {value!r}: give a list of names.", field=name)
        return tuple(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_whole = isinstance(known.default, int)
    fits = is_number and rule["low"] <= value <= rule["high"]  # never true of NaN
    if not fits or (is_whole and value != int(value)):
        what = "a whole number" if is_whole else "a number"
        raise InvalidInput(
            f"{name} is {value!r}: give {what} from {rule['low']:g} to {rule['high']:g}.",
            field=name,
        )
    return int(value) if is_whole else float(value)
