"""What a training run of a reward model is asked for, as it is stored with the job."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from json import dumps
from typing import Any, TypeVar

from rlhf_core.dataset.params import DATASET_NAMES, DatasetParams
from rlhf_core.dataset.params import parse_params as parse_dataset_params
from rlhf_core.dataset.service import is_name
from rlhf_core.errors import InvalidInput
from rlhf_core.registry.service import MAX_NAME_CHARS, REWARD_MODEL
from rlhf_core.vocabulary import DatasetPurpose, JobKind, ModelKind

T = TypeVar("T")
Readers = Mapping[str, Callable[[Any], Any]]
MAX_SEEDS = 16  # `rewards.ensemble.MAX_MEMBERS`
JUDGE_SUFFIX = "-judge"
LEARNERS: dict[JobKind, tuple[DatasetPurpose, ...]] = {
    JobKind.TRAIN_SBERT: (
        DatasetPurpose.SCORES,
        DatasetPurpose.PREFERENCES,
        DatasetPurpose.UNPAIRED,
    ),
    JobKind.TRAIN_TRANSFORMER: (
        DatasetPurpose.SCORES,
        DatasetPurpose.PREFERENCES,
        DatasetPurpose.UNPAIRED,
    ),
    JobKind.TRAIN_STEPS: (DatasetPurpose.STEPS,),
}
"""What each learner learns from; the first is what it learns from unless told otherwise."""
LEARNER_KINDS: dict[JobKind, ModelKind] = {
    JobKind.TRAIN_SBERT: ModelKind.REWARD_SBERT,
    JobKind.TRAIN_TRANSFORMER: ModelKind.REWARD_TRANSFORMER,
    JobKind.TRAIN_STEPS: ModelKind.REWARD_STEPS,
}


@dataclass(frozen=True)
class TrainRewardParams:
    """A training run of a reward model.

    `learner`: one of the `TRAIN_` kinds. `number`: learn from this frozen version of `dataset`;
    None freezes what there is now as `rows` says, with `test_percent` of the prompts kept for the
    examination (none while there are few rows: see `MIN_ROWS_TO_SPLIT`). An empty `dataset` is the
    purpose's own name. `options` are fields of the learner's parameters (`SbertParams`,
    `TransformerParams`, `StepParams`), `seed` among them. `seeds` > 1 trains an ensemble with the
    seeds `seed`, `seed` + 1, ... `with_judge` trains on half of the prompts and registers
    `<model>-judge`, trained on the other half.
    """

    learner: JobKind = JobKind.TRAIN_SBERT
    model: str = REWARD_MODEL
    dataset: str = ""
    number: int | None = None
    rows: DatasetParams = field(default_factory=DatasetParams)
    options: dict[str, Any] = field(default_factory=dict)
    seeds: int = 1
    with_judge: bool = False
    test_percent: float = 20.0

    def __post_init__(self) -> None:
        if self.learner not in LEARNERS:
            raise InvalidInput(
                f"{self.learner.value} trains no reward model: choose from "
                f"{', '.join(kind.value for kind in LEARNERS)}.",
                field="learner",
            )
        self._check_names()
        if self.number is None and self.rows.purpose not in LEARNERS[self.learner]:
            raise InvalidInput(describe_misfit(self.learner, self.rows.purpose), field="purpose")
        if not isinstance(self.seeds, int) or not 1 <= self.seeds <= MAX_SEEDS:
            raise InvalidInput(f"seeds {self.seeds}: choose 1 to {MAX_SEEDS}.", field="seeds")
        if self.seeds > 1 and self.learner is JobKind.TRAIN_STEPS:
            raise InvalidInput(
                "Step models make no ensemble: their scores are of steps. Choose 1 seed.",
                field="seeds",
            )
        if not 0 <= self.test_percent <= 50:
            raise InvalidInput(
                f"test_percent {self.test_percent:g}: choose 0 to 50.", field="test_percent"
            )
        self.learner_params()

    def _check_names(self) -> None:
        is_missing = self.number is not None and not self.dataset
        if is_missing or not is_name(self.dataset_name):
            raise InvalidInput(
                f"dataset: give a name of 1 to {MAX_NAME_CHARS} printable characters without /.",
                field="dataset",
            )
        longest = MAX_NAME_CHARS - len(JUDGE_SUFFIX)
        if not self.model.strip() or len(self.model) > longest or not self.model.isprintable():
            raise InvalidInput(
                f"model: give a name of 1 to {longest} printable characters.", field="model"
            )

    @property
    def dataset_name(self) -> str:
        """The dataset that is read, or that the rows are frozen to."""
        return self.dataset.strip() or DATASET_NAMES[self.rows.purpose]

    @property
    def seed(self) -> int:
        """The first seed."""
        return int(self.options.get("seed", 0))

    @property
    def threshold(self) -> float:
        """A score at or above it is good, also of rows that were frozen with another one."""
        return float(self.options.get("threshold", self.rows.threshold))

    @property
    def model_kind(self) -> ModelKind:
        """What is registered."""
        return ModelKind.REWARD_ENSEMBLE if self.seeds > 1 else LEARNER_KINDS[self.learner]

    def learner_params(self, *, seed: int | None = None) -> Any:
        """The part that the learner knows: its own parameters. InvalidInput for what it refuses."""
        options = dict(self.options)
        if seed is not None:
            options["seed"] = seed
        if any(known.name == "threshold" for known in fields(_params_class(self.learner))):
            options.setdefault("threshold", self.rows.threshold)
        if self.learner is JobKind.TRAIN_SBERT and self.seeds > 1:
            options.setdefault("bootstrap", True)  # members of all rows alike would not differ
        return build_options(_params_class(self.learner), options)

    def dedup_key(self) -> str:
        """Equal requests share it: one is under way at a time."""
        wanted = dumps(self.to_json(), sort_keys=True)
        return f"{self.learner.value}:{uuid.uuid5(uuid.NAMESPACE_OID, wanted)}"

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are stored with the job."""
        plain = {known.name: getattr(self, known.name) for known in fields(self)}
        return {**plain, "learner": self.learner.value, "rows": self.rows.to_json()}


def parse_train_params(plain: Mapping[str, Any]) -> TrainRewardParams:
    """The parameters that `to_json` wrote; InvalidInput names one that is unknown or wrong."""
    readers: Readers = {"learner": JobKind, "rows": parse_dataset_params}
    return parse_fields(TrainRewardParams, plain, readers)


def parse_fields(wanted: type[T], plain: Mapping[str, Any], readers: Readers) -> T:
    """The dataclass of plain values; `readers` make a field's value of what JSON can hold.

    Raises InvalidInput for a field that is unknown or of the wrong type.
    """
    known = [known.name for known in fields(wanted)]  # type: ignore[arg-type]
    unknown = sorted(set(plain) - set(known))
    if unknown:
        raise InvalidInput(
            f"Unknown parameter {unknown[0]!r}: choose from {', '.join(known)}.", field=unknown[0]
        )
    try:
        given = {
            name: readers[name](value) if name in readers else value
            for name, value in plain.items()
        }
        return wanted(**given)
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"A parameter is of the wrong type: {error}.") from error


def describe_misfit(learner: JobKind, purpose: DatasetPurpose) -> str:
    """Why this learner cannot learn from such rows."""
    wanted = " or ".join(purpose.value for purpose in LEARNERS[learner])
    return (
        f"The learner {learner.value} learns from {wanted}, these rows are {purpose.value}: choose "
        "other rows, or another learner."
    )


def _params_class(learner: JobKind) -> Any:
    match learner:
        case JobKind.TRAIN_SBERT:
            from rlhf_core.rewards.sbert import SbertParams

            return SbertParams
        case JobKind.TRAIN_TRANSFORMER:
            from rlhf_core.rewards.transformer_params import TransformerParams

            return TransformerParams
        case _:
            from rlhf_core.rewards.steps_params import StepParams

            return StepParams


def build_options(wanted: Any, options: dict[str, Any]) -> Any:
    """An instance of the dataclass `wanted`. InvalidInput names what it does not take."""
    known = [known.name for known in fields(wanted)]
    for name in options:
        if name not in known:
            raise InvalidInput(
                f"Unknown option {name!r}: choose from {', '.join(known)}.", field=name
            )
    # JSON has no tuples, and the learners' parameters no lists.
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    try:
        return wanted(**values)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"An option is of the wrong type: {error}.") from error
