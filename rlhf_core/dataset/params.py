"""What a dataset is made of: its purpose, which interactions, and how raters become one answer."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

from rlhf_core.errors import InvalidInput
from rlhf_core.store.queries.verdicts import GOOD_FROM
from rlhf_core.vocabulary import (
    DatasetPurpose,
    DisputeRule,
    MergeRule,
    PairOrigin,
    RaterKind,
    TieRule,
)

DATASET_NAMES: dict[DatasetPurpose, str] = {
    DatasetPurpose.SCORES: "ratings",
    DatasetPurpose.PREFERENCES: "pairs",
    DatasetPurpose.UNPAIRED: "thumbs",
    DatasetPurpose.PROMPTS: "prompts",
    DatasetPurpose.STEPS: "steps",
    DatasetPurpose.SFT: "demonstrations",
}
"""The dataset that rows of each purpose go to where no other name is told."""


@dataclass(frozen=True)
class Filters:
    """Which interactions, and whose feedback. None is no limit; `until` is not included.

    Demo data is left out wherever there is any other interaction, unless `include_demo` mixes it
    in or `source` asks for it alone. `cluster_id` is a group of failures: only the answers in it.
    """

    source: str | None = None
    action_type: str | None = None
    model_name: str | None = None
    rater_kind: RaterKind | None = None
    since: datetime | None = None
    until: datetime | None = None
    include_demo: bool = False
    min_raters: int = 1
    cluster_id: uuid.UUID | None = None


@dataclass(frozen=True)
class DatasetParams:
    """How the rows are made.

    `threshold`: a score at or above it is good (SFT, unpaired from ratings). `merge`: how raters of
    one completion become one score. `adjudicated_first`: an adjudicator's answer replaces the
    raters', and an item that they excluded is left out. `disputes` are items whose raters lie on
    both sides of the threshold without a majority. `min_gap`: rating points between two answers to
    one prompt that make a pair; smaller gaps are ties. `pair_origins`: what pairs are made of;
    `max_pairs_a_prompt` keeps one prompt with many answers from filling the dataset.
    """

    purpose: DatasetPurpose = DatasetPurpose.SCORES
    filters: Filters = field(default_factory=Filters)
    threshold: float = GOOD_FROM
    merge: MergeRule = MergeRule.MEAN
    adjudicated_first: bool = True
    ties: TieRule = TieRule.DROP
    disputes: DisputeRule = DisputeRule.KEEP
    min_gap: float = 1.0
    pair_origins: tuple[PairOrigin, ...] = tuple(PairOrigin)
    max_pairs_a_prompt: int = 20

    def __post_init__(self) -> None:
        if not 1.0 < self.threshold <= 5.0:
            raise InvalidInput(
                f"threshold {self.threshold:g}: choose above 1 and at most 5.", field="threshold"
            )
        if not 0.0 < self.min_gap <= 4.0:
            raise InvalidInput(
                f"min_gap {self.min_gap:g}: choose above 0 and at most 4.", field="min_gap"
            )
        if self.max_pairs_a_prompt < 1:
            raise InvalidInput("max_pairs_a_prompt: choose 1 or more.", field="max_pairs_a_prompt")
        if not self.pair_origins:
            raise InvalidInput("pair_origins: choose at least one.", field="pair_origins")

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are stored with a version or a job."""
        plain = asdict(self)
        for name in ("since", "until"):
            moment = plain["filters"][name]
            plain["filters"][name] = None if moment is None else moment.isoformat()
        if self.filters.cluster_id is not None:
            plain["filters"]["cluster_id"] = str(self.filters.cluster_id)
        plain["pair_origins"] = list(self.pair_origins)
        return plain


def parse_params(plain: Mapping[str, Any]) -> DatasetParams:
    """The parameters that `to_json` wrote, or that a request sent; absent ones are the defaults.

    Raises:
        InvalidInput: a name is unknown, or a value is not of its field.
    """
    given = dict(plain)
    filters = given.pop("filters", {})
    _refuse_unknown(given, DatasetParams)
    _refuse_unknown(filters, Filters)
    closed: dict[str, Any] = {
        "purpose": DatasetPurpose, "merge": MergeRule, "ties": TieRule, "disputes": DisputeRule,
    }  # fmt: skip
    try:
        for name, members in closed.items():
            if name in given:
                given[name] = members(given[name])
        if "pair_origins" in given:
            given["pair_origins"] = tuple(PairOrigin(origin) for origin in given["pair_origins"])
        if filters.get("rater_kind") is not None:
            filters = {**filters, "rater_kind": RaterKind(filters["rater_kind"])}
        for name in ("since", "until"):
            if isinstance(filters.get(name), str):
                filters = {**filters, name: datetime.fromisoformat(filters[name])}
        if isinstance(filters.get("cluster_id"), str):
            filters = {**filters, "cluster_id": uuid.UUID(filters["cluster_id"])}
        return DatasetParams(filters=Filters(**filters), **given)
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"The dataset's parameters cannot be read: {error}.") from error


def _refuse_unknown(given: Mapping[str, Any], known: type[Any]) -> None:
    names = [known_field.name for known_field in fields(known)]
    for name in given:
        if name not in names:
            raise InvalidInput(
                f"Unknown parameter {name!r}: choose from {', '.join(names)}.", field=name
            )
