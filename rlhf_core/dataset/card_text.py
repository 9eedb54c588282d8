"""The data card as Markdown, to be kept beside an exported file."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from rlhf_core.dataset.service import DatasetVersionView
from rlhf_core.vocabulary import DatasetPurpose

_MARKS = re.compile(r"([\\`*_{}\[\]<>()#+!|~-])")
LONGER_RATE = 0.6
SHOWN_BIASES = 6
RATER_KINDS = {"sme": "experts", "end_user": "end users", "model": "models"}
AGREEMENT = (
    ("alpha", "alpha"),
    ("ac1", "AC1"),
    ("raw", "the same answer"),
    ("good_or_bad", "both good or both bad"),
)
TITLES = {
    "source": "Sources",
    "action_type": "Action types",
    "model_name": "Models",
    "language": "Languages",
}


def card_markdown(version: DatasetVersionView) -> str:
    """The whole card. Names from outside are escaped: they format nothing and load nothing."""
    card = version.card
    parts = [
        f"# {_plain(version.name)}",
        _list(_head(version)),
        "## Rows",
        _table("Part", "Rows", card.get("parts", {})),
        *_near_duplicates(card),
        *_left_out(version),
        *_labels(card),
        *(
            section
            for name, title in TITLES.items()
            if card.get(name)
            for section in (f"## {title}", _table("Value", "Rows", card[name]))
        ),
        "## Raters",
        _list(describe_facts(card)),
        "## Length in characters",
        _lengths(card.get("length", {})),
        "## Be careful with",
        _list(find_cautions(version) or ["nothing that was looked for was found"]),
        *_bias(card),
        "## How it was made",
        f"```json\n{json.dumps(version.params, indent=2, sort_keys=True)}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def find_cautions(version: DatasetVersionView) -> list[str]:
    """What a reader should know before training on it, a sentence each (Markdown, escaped)."""
    card = version.card
    outliers, raters = card.get("outliers", {}), card.get("raters", {})
    found = []
    if count := outliers.get("num_unusual_lengths"):
        found.append(f"{_many(count, 'row has', 'rows have')} a text of unusual length")
    if count := outliers.get("num_repeated_rows"):
        found.append(f"{_many(count, 'row repeats', 'rows repeat')} another one")
    if count := outliers.get("num_contradictions"):
        found.append(f"{_many(count, 'pair says', 'pairs say')} the opposite of another one")
    if (share := raters.get("busiest_share") or 0) > 0.5 and raters.get("num_raters", 0) > 1:
        found.append(f"one rater gave {share:.0%} of all ratings")
    if count := raters.get("num_unusual"):
        found.append(f"{_many(count, 'rater rates', 'raters rate')} a point or more off the others")
    alpha = card.get("agreement", {}).get("alpha")
    if alpha is not None and alpha < 0.4:
        found.append(f"raters agree little (alpha {alpha:.2f})")
    labels = card.get("labels", {})
    outcome, rate = str(labels.get("outcome")), labels.get("rate")
    if version.purpose is DatasetPurpose.PREFERENCES and rate is not None and rate > LONGER_RATE:
        found.append(f"{_plain(outcome)} in {rate:.0%}: a judge may learn length alone")
    notable = [row for row in card.get("bias", []) if row["is_notable"]]
    notable.sort(key=lambda row: -abs(row["rate"] - row["rate_of_others"]))
    told: set[tuple[str, frozenset[float]]] = set()
    for row in notable:
        mirror = (row["segment"], frozenset([row["rate"], row["rate_of_others"]]))
        if mirror not in told and len(told) < SHOWN_BIASES:
            told.add(mirror)
            found.append(
                f"{_plain(outcome)}: {row['rate']:.0%} where {row['segment'].replace('_', ' ')} is "
                f"{_plain(row['value'])}, {row['rate_of_others']:.0%} elsewhere"
            )
    return found


def _head(version: DatasetVersionView) -> list[str]:
    period = version.card.get("period", {})
    lines = [
        f"Purpose: {version.purpose.value}",
        f"{version.num_rows:,} rows of {version.num_groups:,} prompts",
        f"Frozen {version.created_at:%Y-%m-%d %H:%M} UTC"
        + (f" by {_plain(version.created_by)}" if version.created_by else ""),
        f"SHA-256 of the rows: `{version.content_hash}`",
    ]
    if period.get("first"):
        lines.append(f"Interactions from {period['first']} to {period['last']}")
    return lines


def _near_duplicates(card: Mapping[str, Any]) -> list[str]:
    found = card.get("near_duplicates")
    if not found or not found["num_prompts"]:
        return []
    return [
        f"{found['num_prompts']:,} prompts are nearly the same as another "
        f"({found['num_clusters']:,} groups, the largest of {found['largest']:,}); each group lies "
        "in one part."
    ]


def _left_out(version: DatasetVersionView) -> list[str]:
    if not version.left_out:
        return []
    return ["## Left out", _table("Why", "Number", version.left_out)]


def _labels(card: Mapping[str, Any]) -> list[str]:
    labels = card.get("labels", {})
    if not labels.get("counts"):
        return []
    said = []
    if labels.get("rate") is not None:
        said.append(f"{_plain(labels['outcome'])}: {labels['rate']:.1%}.")
    if labels.get("mean") is not None:
        said.append(f"Mean: {labels['mean']:.2f}.")
    return ["## Labels", _table("Label", "Number", labels["counts"]), " ".join(said)]


def describe_facts(card: Mapping[str, Any]) -> list[str]:
    """Raters, how far they agree, and consent, a sentence each (Markdown)."""
    raters, consent = card.get("raters", {}), card.get("consent", {})
    agreement = card.get("agreement", {})
    kinds = ", ".join(
        f"{count:,} {RATER_KINDS.get(kind, kind)}"
        for kind, count in raters.get("by_kind", {}).items()
    )
    count = raters.get("num_raters", 0)
    lines = [_many(count, "rater", "raters") + (f" ({kinds})" if kinds else "")]
    if raters.get("busiest_share") is not None:
        lines.append(f"The busiest gave {raters['busiest_share']:.0%} of the ratings")
    if agreement.get("num_items"):
        figures = [
            f"{title} {agreement[name]:.2f}"
            for name, title in AGREEMENT
            if agreement.get(name) is not None
        ]
        shown = ", ".join(figures) or "not defined"
        lines.append(f"Agreement on {agreement['num_items']:,} items with two or more: {shown}")
    else:
        lines.append("Agreement: nothing was judged by two raters")
    lines.append(
        f"Consent to training: {consent.get('num_granted', 0):,} granted it, "
        f"{consent.get('num_not_asked', 0):,} were not asked; who withdrew it is not among them"
    )
    return lines


def _lengths(lengths: Mapping[str, Mapping[str, float]]) -> str:
    names = ("mean", "p5", "median", "p95", "max")
    rows = [[name, *(f"{found[key]:,.0f}" for key in names)] for name, found in lengths.items()]
    return _rows(["Text", *names], rows)


def _bias(card: Mapping[str, Any]) -> list[str]:
    if not card.get("bias"):
        return []
    outcome = _plain(card["labels"]["outcome"])
    rows = [
        [
            row["segment"].replace("_", " "),
            row["value"],
            f"{row['rows']:,}",
            f"{row['rate']:.1%}",
            f"{row['rate_of_others']:.1%}",
        ]
        for row in card["bias"]
    ]
    head = ["By", "Value", "Rows", "Here", "Elsewhere"]
    return [f"## By segment: {outcome}", _rows(head, rows)]


def _table(first: str, second: str, counts: Mapping[str, int]) -> str:
    return _rows([first, second], [[name, f"{count:,}"] for name, count in counts.items()])


def _rows(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    body = [[_plain(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *body])


def _many(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKS.sub(r"\\\1", " ".join(text.split()))
