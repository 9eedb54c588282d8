"""The options that say what a dataset is made of; shared by all commands that take them."""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import wraps
from typing import Any

import click

from rlhf_core.dataset.params import DatasetParams, Filters
from rlhf_core.vocabulary import (
    DatasetPurpose,
    DisputeRule,
    MergeRule,
    PairOrigin,
    RaterKind,
    TieRule,
)

DEFAULTS = DatasetParams()
FILTERS = ("source", "action_type", "model_name", "rater_kind", "since", "until", "include_demo",
           "min_raters", "cluster_id")  # fmt: skip
MOMENT = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


def dataset_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command the options, and `params: DatasetParams` made of them."""

    @wraps(command)
    def run(*args: Any, **given: Any) -> Any:
        filters = {name: given.pop(name) for name in FILTERS}
        for name in ("since", "until"):
            filters[name] = _in_utc(filters[name])
        rater_kind = filters.pop("rater_kind")
        params = DatasetParams(
            purpose=DatasetPurpose(given.pop("purpose")),
            filters=Filters(**filters, rater_kind=rater_kind and RaterKind(rater_kind)),
            threshold=given.pop("threshold"),
            merge=MergeRule(given.pop("merge")),
            adjudicated_first=given.pop("adjudicated_first"),
            ties=TieRule(given.pop("ties")),
            disputes=DisputeRule(given.pop("disputes")),
            min_gap=given.pop("min_gap"),
            pair_origins=tuple(map(PairOrigin, given.pop("pair_origins"))) or tuple(PairOrigin),
            max_pairs_a_prompt=given.pop("max_pairs_a_prompt"),
        )
        return command(*args, params=params, **given)

    options: Callable[..., Any] = run
    for option in reversed(_OPTIONS):
        options = option(options)
    return options


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=UTC)


def _choice(members: type[StrEnum]) -> click.Choice[str]:
    return click.Choice([member.value for member in members])


_OPTIONS = [
    click.option(
        "--purpose", type=_choice(DatasetPurpose), default=DEFAULTS.purpose.value,
        show_default=True, help="What the rows train.",
    ),
    click.option("--source", help="Only interactions of this source."),
    click.option("--action-type", help="Only this kind of action."),
    click.option("--model-name", help="Only completions of this model."),
    click.option("--rater-kind", type=_choice(RaterKind), help="Only feedback of such raters."),
    click.option("--since", type=MOMENT, help="Only interactions from this day (UTC) on."),
    click.option("--until", type=MOMENT, help="Only interactions before this day (UTC)."),
    click.option("--min-raters", type=click.IntRange(1), default=1, show_default=True,
                 help="Only items that so many raters judged."),
    click.option("--cluster-id", type=click.UUID,
                 help="Only the answers in this group of failures."),
    click.option("--include-demo", is_flag=True, help="Also the demo's interactions."),
    click.option(
        "--threshold", type=float, default=DEFAULTS.threshold, show_default=True,
        help="A score at or above it is good.",
    ),
    click.option(
        "--merge", type=_choice(MergeRule), default=DEFAULTS.merge.value, show_default=True,
        help="How several raters become one score.",
    ),
    click.option(
        "--adjudicated-first/--no-adjudicated-first", default=DEFAULTS.adjudicated_first,
        show_default=True, help="An adjudicator's answer replaces the raters'.",
    ),
    click.option(
        "--ties", type=_choice(TieRule), default=DEFAULTS.ties.value, show_default=True,
        help="What becomes of ties.",
    ),
    click.option(
        "--disputes", type=_choice(DisputeRule), default=DEFAULTS.disputes.value,
        show_default=True, help="What becomes of items whose raters disagree.",
    ),
    click.option(
        "--min-gap", type=float, default=DEFAULTS.min_gap, show_default=True,
        help="Rating points between two answers that make a pair.",
    ),
    click.option(
        "--pair-origin", "pair_origins", type=_choice(PairOrigin), multiple=True,
        help="What pairs are made of; may be given several times.  [default: all]",
    ),
    click.option(
        "--max-pairs", "max_pairs_a_prompt", type=click.IntRange(1),
        default=DEFAULTS.max_pairs_a_prompt, show_default=True, help="Of one prompt.",
    ),
]  # fmt: skip
