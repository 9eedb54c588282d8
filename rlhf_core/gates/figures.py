"""Checks of figures: enough rows, good enough, calibrated, and not worse than what serves."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from rlhf_core.gates.evidence import Evidence, Examined, list_sound
from rlhf_core.gates.views import Finding, failed, not_measured, passed
from rlhf_core.registry.comparisons import find_comparison, list_differences
from rlhf_core.registry.evaluations import EvaluationView
from rlhf_core.registry.views import ModelVersionView

Params = Mapping[str, Any]

EXAMINE = "Evaluate it on a frozen dataset (page Models)."
COMPARE = "Compare the two on the same rows (page Compare versions)."
NAMES = {
    "auc": "AUC",
    "pair_accuracy": "pair accuracy",
    "first_error_f1": "first-error F1",
    "win_rate": "win rate",
    "win_rate_production": "win rate",
    "accuracy": "accuracy",
    "reward": "reward",
}
DECIDING = ("first_error_f1", "auc", "pair_accuracy", "win_rate_production", "win_rate")
MAX_LEARNED = 0.1
"""Of a comparison: the share of its prompts that one of the versions may know."""
Z_95 = NormalDist().inv_cdf(0.975)


def check_num_rows(examined: Examined, params: Params) -> Finding:
    """Enough rows that it did not learn from."""
    evidence, least = examined.evidence, int(params["min_rows"])
    if evidence is None:
        return not_measured(f"It was not examined yet. {EXAMINE}", need=least)
    said = f"{evidence.num_rows:,} rows, by {evidence.source}; at least {least:,} are asked for."
    numbers = {"rows": evidence.num_rows, "need": least}
    return passed(said, **numbers) if evidence.num_rows >= least else failed(said, **numbers)


def check_quality(examined: Examined, params: Params) -> Finding:
    """The figures of its kind: one is surely high enough, and none is surely too low.

    A ranking has two, AUC across all rows and pair accuracy within a prompt; few rows often settle
    only one of them.
    """
    evidence, wanted = examined.evidence, _quality_limits(examined, params)
    known: dict[str, tuple[float, float, float]] = {}
    if evidence is not None:
        known = {
            metric: (evidence.metrics[metric], *evidence.intervals[metric])
            for metric in wanted
            if metric in evidence.metrics and metric in evidence.intervals
        }
    if evidence is None or not known:
        names = " or ".join(NAMES[metric] for metric in wanted)
        return not_measured(f"No {names} with an interval is known. {EXAMINE}")
    said = ", ".join(
        f"{NAMES[metric]} {value:.3f} ({low:.3f} to {high:.3f}; asked for {wanted[metric]:.3f})"
        for metric, (value, low, high) in known.items()
    )
    sentence = f"{said}, by {evidence.source}."
    numbers = {
        f"{metric}_{name}": number
        for metric, figures in known.items()
        for name, number in zip(("value", "low", "high"), figures, strict=True)
    }
    is_shown = any(low >= wanted[metric] for metric, (_, low, _) in known.items())
    is_refuted = any(high < wanted[metric] for metric, (_, _, high) in known.items())
    return (passed if is_shown and not is_refuted else failed)(sentence, **numbers)


def check_calibration(examined: Examined, params: Params) -> Finding:
    """Few rows raise the calibration error by themselves: only what is surely too high fails."""
    evidence, most = examined.evidence, float(params["max_ece"])
    value = None if evidence is None else evidence.metrics.get("ece")
    if evidence is None or value is None:
        return not_measured(f"No calibration error is known. {EXAMINE}", limit=most)
    low = evidence.low_of("ece")
    low = value if low is None else low
    said = f"Calibration error {value:.3f}, lower end {low:.3f}; at most {most:.3f} is asked for."
    return (failed if low > most else passed)(said, value=value, low=low, limit=most)


@dataclass(frozen=True)
class _Difference:
    """How much higher its figure is on some rows; `low` and `high` are the 95 % interval."""

    where: str
    num_rows: int
    value: float
    low: float
    high: float

    def is_worse(self, limit: float, num_slices: int) -> bool:
        """Lower by more than the limit, and beyond chance though many slices were looked at.

        Of 20 equal slices one is "worse" at 95 % by chance: the interval is widened (Bonferroni).
        """
        wide = NormalDist().inv_cdf(1.0 - 0.025 / max(1, num_slices)) / Z_95
        return self.value < -limit and self.value + wide * (self.high - self.value) < 0.0


def check_not_worse(examined: Examined, params: Params) -> Finding:
    """Against what serves, on the same rows: on all of them, and on every slice."""
    production = examined.production
    if production is None:
        return passed("Nothing else serves: there is nothing that it could be worse than.")
    for find in (_from_comparison, _from_examinations, _from_win_rate):
        found = find(examined, production)
        if found is not None:
            source, metric, differences = found
            return _judge(differences, NAMES.get(metric, metric), production.name, source, params)
    return not_measured(
        f"It and {production.name}, which serves, were not measured on the same rows. {COMPARE}",
        limit=float(params["max_drop"]),
    )


def _judge(
    differences: list[_Difference], figure: str, other: str, source: str, params: Params
) -> Finding:
    """Worse where a fall is beyond chance; not worse only where one beyond the limit is ruled out.

    In between the rows are too few to say so, which is no pass.
    """
    limit, least = float(params["max_drop"]), int(params["min_rows"])
    whole, *slices = differences
    kept = [one for one in slices if one.num_rows >= int(params["min_slice_rows"])]
    worse = [whole] if whole.is_worse(limit, 1) else []
    worse += [one for one in kept if one.is_worse(limit, len(kept))]
    said = f"Against {other} its {figure} is {_tell(whole)} on all rows"
    if kept:
        lowest = min(kept, key=lambda one: one.value)
        said += f"; of {len(kept)} slices it is lowest on {lowest.where}: {_tell(lowest)}"
    said += f". By {source}; lower by {limit:.3f} at most is asked for."
    numbers = {"difference": whole.value, "low": whole.low, "high": whole.high, "limit": limit,
               "rows": whole.num_rows, "need": least, "slices": len(kept),
               "worse": len(worse)}  # fmt: skip
    if whole.num_rows < least:
        few = f"{whole.num_rows:,} rows are too few to say so: at least {least:,} are asked for."
        return not_measured(f"{said} {few}", **numbers)
    if not worse and whole.low < -limit:
        open_ = "A greater fall is neither shown nor ruled out: compare them on more rows."
        return not_measured(f"{said} {open_}", **numbers)
    if not worse:
        return passed(said, **numbers)
    names = "; ".join(f"{one.where} {_tell(one)} ({one.num_rows:,} rows)" for one in worse[:5])
    return failed(f"Worse than {other} beyond chance: {names}. {said}", **numbers)


def _tell(one: _Difference) -> str:
    return f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})"


def _from_comparison(
    examined: Examined, production: ModelVersionView
) -> tuple[str, str, list[_Difference]] | None:
    """A comparison draws the same prompts for both: its intervals are the narrowest there are."""
    version = examined.version
    found = find_comparison(examined.db, version.id, production.id, actor=examined.actor)
    if found is None:
        return None
    learned = found.result.get("leakage") or {}
    if any(float(learned.get(str(one.id)) or 0.0) > MAX_LEARNED for one in (version, production)):
        return None
    parts = list_differences(found, version.id, production.id)
    metric = str(found.result.get("deciding") or "")
    differences = [
        _Difference(
            f"{part.segment} {part.value}".strip() or "all rows",
            part.num_rows,
            *(part.differences[metric][name] for name in ("value", "low", "high")),
        )
        for part in parts
        if {"value", "low", "high"} <= part.differences.get(metric, {}).keys()
    ]
    if not differences or differences[0].where != "all rows":
        return None
    where = f"{found.dataset} ({found.split})" if found.dataset else found.split
    return f"the comparison of {found.created_at:%Y-%m-%d} on {where}", metric, differences


def _from_examinations(
    examined: Examined, production: ModelVersionView
) -> tuple[str, str, list[_Difference]] | None:
    """Two examinations on the same frozen rows, taken as independent: wider than they need be."""
    if examined.is_policy:
        return None  # its figures are against a baseline of their own
    theirs = {
        (one.dataset_version_id, one.split): one
        for one in reversed(list_sound(examined.db, production, examined.actor))
        if one.dataset_version_id is not None
    }
    for own in examined.evaluations:
        if own.dataset_version_id is None:
            continue
        other = theirs.get((own.dataset_version_id, own.split))
        found = None if other is None else _subtract(own, other)
        if found is not None:
            return found
    return None


def _subtract(
    own: EvaluationView, other: EvaluationView
) -> tuple[str, str, list[_Difference]] | None:
    def list_parts(one: EvaluationView) -> dict[tuple[str, str], dict[str, Any]]:
        whole = {**one.examination, "num_rows": one.num_rows}
        slices = one.examination["slices"]
        return {("", ""): whole} | {(part["segment"], part["value"]): part for part in slices}

    own_parts, other_parts = list_parts(own), list_parts(other)
    metric = next((one for one in DECIDING if one in own.metrics and one in other.metrics), None)
    if metric is None:
        return None
    differences = []
    for key in own_parts:
        difference = _difference_of(key, own_parts[key], other_parts.get(key), metric)
        if difference is not None:
            differences.append(difference)
    if not differences or differences[0].where != "all rows":
        return None
    return f"an examination of each on {own.dataset} ({own.split})", metric, differences


def _difference_of(
    key: tuple[str, str], own: Mapping[str, Any], other: Mapping[str, Any] | None, metric: str
) -> _Difference | None:
    if other is None or any(
        metric not in part["metrics"] or not (part.get("intervals") or {}).get(metric)
        for part in (own, other)
    ):
        return None
    value = own["metrics"][metric] - other["metrics"][metric]
    halves = [(part["intervals"][metric][1] - part["intervals"][metric][0]) / 2
              for part in (own, other)]  # fmt: skip
    half = (halves[0] ** 2 + halves[1] ** 2) ** 0.5
    return _Difference(
        " ".join(key).strip() or "all rows", int(own["num_rows"]), value, value - half, value + half
    )


def _from_win_rate(
    examined: Examined, production: ModelVersionView
) -> tuple[str, str, list[_Difference]] | None:
    """A policy's examination asks what served then, too: how often is its answer the better one?"""
    metric = "win_rate_production"
    for one in examined.evaluations:
        names = one.examination.get("names") or {}
        bounds = (one.examination.get("intervals") or {}).get(metric)
        if metric in one.metrics and bounds and names.get("production") == production.name:
            value, (low, high) = one.metrics[metric] - 0.5, (bound - 0.5 for bound in bounds)
            return (
                f"its examination on {one.dataset} ({one.split}), above or below one half",
                metric,
                [_Difference("all rows", one.num_rows, value, low, high)],
            )
    return None


def _quality_limits(examined: Examined, params: Params) -> dict[str, float]:
    if examined.is_policy:
        evidence: Evidence | None = examined.evidence
        is_beside = evidence is not None and "win_rate_production" in evidence.metrics
        return {"win_rate_production" if is_beside else "win_rate": float(params["min_win_rate"])}
    names = ("first_error_f1", "auc", "pair_accuracy")
    return {name: float(params[f"min_{name}"]) for name in names}
