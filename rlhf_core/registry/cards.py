"""The model card: Markdown written from the facts that the registry holds, nothing made up."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhf_core.registry.evaluations import EvaluationView
from rlhf_core.registry.files import describe_size
from rlhf_core.registry.lineage import ROLES, Lineage
from rlhf_core.registry.views import AliasChangeView, ModelVersionView
from rlhf_core.vocabulary import ModelKind

_MARKS = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&-])")
KINDS = {
    ModelKind.REWARD_SBERT: "reward model on sentence embeddings: P(a completion is good)",
    ModelKind.REWARD_TRANSFORMER: "reward model, a fine-tuned transformer",
    ModelKind.REWARD_STEPS: "reward model of reasoning steps",
    ModelKind.REWARD_ENSEMBLE: "ensemble of reward models",
    ModelKind.POLICY: "policy: a language model that answers",
    ModelKind.POLICY_REMOTE: "policy that another server holds",
}
JUDGES = "It ranks and scores answers to prompts like those that it learned from."
ANSWERS = "It answers prompts like those that it learned from."
SMALL_SLICE = 30
SHOWN_SLICES = 30
SLICE_METRICS = ("auc", "first_error_f1", "pair_accuracy", "accuracy", "ece")


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from.

    `licences` counts training rows by the licence that came with them (None: none was named);
    `dataset_card` is the frozen rows' own; `cautions` are sentences about the data, such as rows
    whose people withdrew their consent since.
    """

    lineage: Lineage
    evaluations: Sequence[EvaluationView] = ()
    history: Sequence[AliasChangeView] = ()
    dataset_card: Mapping[str, Any] = field(default_factory=dict)
    licences: Mapping[str | None, int] = field(default_factory=dict)
    cautions: Sequence[str] = ()

    @property
    def version(self) -> ModelVersionView:
        """The version that it is about."""
        return self.lineage.version


def write_card(facts: CardFacts) -> str:
    """The whole card. Names from outside are escaped: they format nothing and load nothing."""
    version = facts.version
    parts = [
        f"# {_plain(version.name)}",
        _list(_head(version)),
        *_notes(version),
        "## What it is for",
        _purpose(version),
        "## Made of",
        _list(_origin(facts)),
        "## Training data",
        _data(facts),
        "## Figures",
        *_examinations(facts),
        "## Limits",
        _list(_limits(facts)),
        "## How it was trained",
        f"```json\n{_json({'seed': version.seed, 'parameters': version.params})}\n```",
        *_libraries(version),
        "## History",
        _history(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(version: ModelVersionView) -> list[str]:
    who = f" by {_plain(version.created_by)}" if version.created_by else ""
    lines = [
        f"Kind: {KINDS[version.kind]}",
        f"Made {version.created_at:%Y-%m-%d %H:%M} UTC{who}",
        f"Files: {describe_size(version.num_bytes)}, manifest SHA-256 `{version.manifest_sha256}`",
    ]
    if version.aliases:
        lines.append(f"Now: {', '.join(alias.value for alias in version.aliases)}")
    if version.deleted_at is not None:
        lines.append(f"Deleted {version.deleted_at:%Y-%m-%d %H:%M} UTC; its files are gone")
    if version.tags:
        lines.append(f"Tags: {', '.join(_plain(tag) for tag in version.tags)}")
    return lines


def _notes(version: ModelVersionView) -> list[str]:
    return ["## Notes", _plain(version.notes)] if version.notes else []


def _purpose(version: ModelVersionView) -> str:
    is_policy = version.kind in (ModelKind.POLICY, ModelKind.POLICY_REMOTE)
    said = ANSWERS if is_policy else JUDGES
    return f"{said} Of anything else its figures say nothing."


def _origin(facts: CardFacts) -> list[str]:
    lineage, version = facts.lineage, facts.version
    lines = []
    if lineage.run is not None:
        run = lineage.run
        lines.append(
            f"Run `{run.id}` ({run.kind.value}), {run.state.value}, started by "
            f"{_plain(run.created_by or 'the command line')}"
        )
    elif version.details.get("imported_from"):
        lines.append(f"Imported from {_plain(str(version.details['imported_from']))}")
    else:
        lines.append("No run is recorded")
    lines += [f"{ROLES[one.role].capitalize()}: {_plain(one.name)}" for one in lineage.parents]
    if lineage.children:
        names = ", ".join(dict.fromkeys(_plain(one.name) for one in lineage.children))
        lines.append(f"Part of: {names}")
    return lines


def _data(facts: CardFacts) -> str:
    dataset, version = facts.lineage.dataset, facts.version
    if dataset is None:
        said = "No frozen dataset is recorded."
        if version.dataset_hash:
            said += f" SHA-256 of the texts: `{version.dataset_hash}`."
        return said
    lines = [
        f"{_plain(dataset.name)} ({dataset.purpose.value}): {dataset.num_rows:,} rows, frozen "
        f"{dataset.frozen_at:%Y-%m-%d %H:%M} UTC",
        f"SHA-256 of the rows: `{dataset.content_hash}`",
    ]
    if dataset.parts:
        parts = ", ".join(f"{name} {count:,}" for name, count in dataset.parts.items())
        lines.append(f"Parts: {_plain(parts)}")
    raters = facts.dataset_card.get("raters") or {}
    if raters.get("num_raters"):
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in (raters.get("by_kind") or {}).items())
        lines.append(f"Raters: {raters['num_raters']:,}" + (f" ({_plain(kinds)})" if kinds else ""))
    alpha = (facts.dataset_card.get("agreement") or {}).get("alpha")
    if alpha is not None:
        lines.append(f"Raters' agreement (Krippendorff's alpha): {alpha:.2f}")
    lines.append(f"Licences: {_licences(facts.licences)}")
    return _list(lines)


def _licences(counts: Mapping[str | None, int]) -> str:
    named = [f"{_plain(name)} ({count:,} rows)" for name, count in counts.items() if name]
    unnamed = counts.get(None, 0)
    if not named:
        return "none was named with the rows"
    return ", ".join(named) + (f"; none was named for {unnamed:,} rows" if unnamed else "")


def _examinations(facts: CardFacts) -> list[str]:
    version = facts.version
    if not facts.evaluations:
        return [
            "It was not examined on frozen rows: these are the figures of its training run.",
            _figures(version.metrics, version.details.get("intervals") or {}, {}),
        ]
    found: list[str] = []
    for evaluation in facts.evaluations[:3]:
        examination = evaluation.examination
        found.append(
            f"### On {_plain(evaluation.dataset or 'rows that are gone')}, "
            f"{_plain(evaluation.split)}: {evaluation.num_rows:,} rows"
        )
        found.append(
            _figures(
                evaluation.metrics,
                examination.get("intervals") or {},
                examination.get("baselines") or {},
            )
        )
        found += _policies(examination)
        found += _slices(examination.get("slices") or [])
        leakage = examination.get("leakage")
        if isinstance(leakage, dict):
            said = {name: value for name, value in leakage.items() if isinstance(value, int)}
            if said:
                shown = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in said.items())
                found.append(f"Check for leakage: {_plain(shown)}.")
    if len(facts.evaluations) > 3:
        found.append(f"{len(facts.evaluations) - 3} earlier examinations are in the registry.")
    return found


def _figures(
    metrics: Mapping[str, float], intervals: Mapping[str, Any], baselines: Mapping[str, Any]
) -> str:
    if not metrics:
        return "None is recorded."
    rows = []
    for name, value in metrics.items():
        beside = baselines.get(name)
        compared = (
            ", ".join(f"{what.replace('_', ' ')} {_number(one)}" for what, one in beside.items())
            if isinstance(beside, dict)
            else ""
        )
        rows.append(
            [name.replace("_", " "), _number(value), _interval(intervals.get(name)), compared]
        )
    return _table(["Measure", "Value", "95 % interval", "Baselines"], rows)


def _policies(examination: Mapping[str, Any]) -> list[str]:
    """Of a policy: its figures beside those of the base and of production, each with interval."""
    policies = examination.get("policies")
    if not isinstance(policies, dict) or not policies:
        return []
    names = list(dict.fromkeys(name for figures in policies.values() for name in figures))
    rows = [
        [
            name.replace("_", " "),
            *(_figure(figures.get(name)) for figures in policies.values()),
        ]
        for name in names
    ]
    return [_table(["Measure", *policies], rows)]


def _figure(figure: Any) -> str:
    if not isinstance(figure, dict):
        return ""
    low, high = figure.get("low"), figure.get("high")
    span = "" if low is None or high is None else f" ({_number(low)} to {_number(high)})"
    return _number(figure.get("value")) + span


def _slices(slices: Sequence[Mapping[str, Any]]) -> list[str]:
    """The largest slices, by the first measure that they have."""
    shown = sorted(slices, key=lambda one: -int(one.get("num_rows") or 0))[:SHOWN_SLICES]
    rows = []
    for one in shown:
        figures = {**one, **(one.get("metrics") or {})}
        cells = [_number(figures[name]) if name in figures else "" for name in SLICE_METRICS]
        segment = f"{one.get('segment', '')}: {one.get('value', '')}".replace("_", " ")
        rows.append([segment, f"{int(one.get('num_rows') or 0):,}", *cells])
    kept = [place for place in range(2, 2 + len(SLICE_METRICS)) if any(row[place] for row in rows)]
    head = ["Slice", "Rows", *(name.replace("_", " ") for name in SLICE_METRICS)]
    keep = [0, 1, *kept]
    return [_table([head[i] for i in keep], [[row[i] for i in keep] for row in rows])] * bool(rows)


def _limits(facts: CardFacts) -> list[str]:
    found = [_plain(caution) for caution in facts.cautions]
    if not facts.evaluations:
        found.append("Nobody examined it on frozen rows yet")
    dataset = facts.lineage.dataset
    if dataset is None:
        found.append("The rows that it learned from cannot be looked up here")
    elif dataset.num_gone:
        found.append(
            f"{dataset.num_gone:,} of its rows have lost their interaction since: it was deleted"
        )
    for evaluation in facts.evaluations[:1]:
        small = [
            f"{one.get('segment')} {one.get('value')}".replace("_", " ")
            for one in evaluation.examination.get("slices") or []
            if int(one.get("num_rows") or 0) < SMALL_SLICE
        ]
        if small:
            named = _plain(", ".join(small[:8]))
            found.append(f"Fewer than {SMALL_SLICE} rows, so that little is known: {named}")
        found += [_plain(str(note)) for note in evaluation.examination.get("notes") or ()]
    return found or ["Nothing that was looked for was found"]


def _libraries(version: ModelVersionView) -> list[str]:
    if not version.library_versions:
        return []
    rows = [[name, str(number)] for name, number in sorted(version.library_versions.items())]
    return [_table(["Library", "Version"], rows)]


def _history(facts: CardFacts) -> str:
    mine = [
        change
        for change in facts.history
        if facts.version.id in (change.from_version_id, change.to_version_id)
    ]
    if not mine:
        return "It was never promoted."
    rows = []
    for change in mine:
        before = "nothing" if change.from_number is None else f"v{change.from_number}"
        rows.append(
            [
                f"{change.changed_at:%Y-%m-%d %H:%M}",
                "rolled back" if change.is_roll_back else "promoted",
                f"{before} -> v{change.to_number} ({change.alias.value})",
                change.changed_by or "command line",
                change.reason or "",
            ]
        )
    return _table(["When (UTC)", "What", "From, to", "Who", "Why"], rows)


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if not math.isfinite(value):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def _interval(bounds: Any) -> str:
    if not isinstance(bounds, list | tuple) or len(bounds) != 2 or None in bounds:
        return ""
    return f"{_number(bounds[0])} to {_number(bounds[1])}"


def _json(value: Any) -> str:
    """Inside of a code block nothing is read but its end."""
    return json.dumps(value, indent=2, sort_keys=True, default=str).replace("`", "\\u0060")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *([_plain(cell) for cell in row] for row in rows)]
    lines[0] = [_plain(cell) for cell in head]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKS.sub(r"\\\1", " ".join(text.split()))
