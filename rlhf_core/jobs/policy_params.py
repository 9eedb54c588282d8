"""What a training run of a policy is asked for, as it is stored with the job."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from json import dumps
from typing import Any

from rlhf_core.dataset.params import DATASET_NAMES, DatasetParams
from rlhf_core.dataset.params import parse_params as parse_dataset_params
from rlhf_core.dataset.service import is_name
from rlhf_core.errors import InvalidInput
from rlhf_core.jobs.train_params import Readers, build_options, parse_fields
from rlhf_core.registry.service import MAX_NAME_CHARS, POLICY_MODEL
from rlhf_core.vocabulary import DatasetPurpose, JobKind

STARTER = "starter"
"""The base that means: the newest starter of the model, made first where there is none."""
AUTO = "auto"
NO_JUDGE = "none"
RULE = "rule:"
MAX_PROCESSES = 64
MAX_MACHINES = 64
MAX_REWARDS = 8

POLICY_LEARNERS: dict[JobKind, DatasetPurpose] = {
    JobKind.TRAIN_STARTER: DatasetPurpose.SFT,
    JobKind.TRAIN_SFT: DatasetPurpose.SFT,
    JobKind.TRAIN_DPO: DatasetPurpose.PREFERENCES,
    JobKind.TRAIN_KTO: DatasetPurpose.UNPAIRED,
    JobKind.TRAIN_RLOO: DatasetPurpose.PROMPTS,
    JobKind.TRAIN_GRPO: DatasetPurpose.PROMPTS,
    JobKind.TRAIN_PPO: DatasetPurpose.PROMPTS,
    JobKind.DISTIL: DatasetPurpose.PROMPTS,
}
"""What each learner learns from. The starter takes every interaction, rated or not."""
REWARDED = (JobKind.TRAIN_RLOO, JobKind.TRAIN_GRPO, JobKind.TRAIN_PPO)
"""The learners that need a reward."""
ALONE = (JobKind.TRAIN_STARTER,)
"""The learners that one process runs."""
_PARAMS: dict[JobKind, str] = {
    JobKind.TRAIN_STARTER: "starter_params:StarterParams",
    JobKind.TRAIN_SFT: "sft:SftParams",
    JobKind.TRAIN_DPO: "dpo:DpoParams",
    JobKind.TRAIN_KTO: "kto:KtoParams",
    JobKind.TRAIN_RLOO: "rloo:RlooParams",
    JobKind.TRAIN_GRPO: "grpo:GrpoParams",
    JobKind.TRAIN_PPO: "ppo_params:PpoParams",
    JobKind.DISTIL: "distil:DistilParams",
}


@dataclass(frozen=True)
class RewardPart:
    """One objective of a reward.

    `model`: a reward model by name (what serves under it, else its newest version), `name@number`,
    or `rule:NAME`, a Python function that the setting `RLHF_REWARD_RULES` names. `aspects` weighs
    the heads of a model with aspects. `aggregate` of an ensemble: `mean` or `min` of its members;
    None as it was trained.
    """

    model: str
    weight: float = 1.0
    aspects: dict[str, float] | None = None
    aggregate: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise InvalidInput("A reward needs the name of a model or a rule.", field="rewards")
        is_number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if not is_number or not math.isfinite(self.weight) or self.weight == 0:
            raise InvalidInput(
                f"The weight {self.weight!r} of the reward {self.model!r}: choose a number that is "
                "not 0.",
                field="rewards",
            )
        if self.aggregate not in (None, "mean", "min"):
            raise InvalidInput(
                f"aggregate {self.aggregate!r}: choose mean or min.", field="rewards"
            )

    @property
    def rule(self) -> str | None:
        """The name of the rule; None of a model."""
        return self.model.removeprefix(RULE) if self.model.startswith(RULE) else None


@dataclass(frozen=True)
class TrainPolicyParams:
    """A training run of a policy.

    `learner`: one of `POLICY_LEARNERS`; it decides the purpose of `rows`. `model` is the name under
    which the policy is registered. `base`: `starter` (the newest starter of the model, made first
    where there is none), `name` or `name@number` of a registered policy, a folder, or a hub id;
    the starter itself has none. `number`: learn from this frozen version of `dataset`; None
    freezes what there is now as `rows` says, with `test_percent` of the prompts kept for the
    examination. `options` are fields of the learner's parameters but `base`, `seed` among them.

    `rewards` of PPO, RLOO and GRPO, mixed by weight. `held_out`: who judges without being learned
    from: `auto` (the judge that was trained beside a reward model, if there is one), `none`, or a
    name as in `RewardPart`. `num_processes` > 1 trains with one process a device, `num_machines`
    > 1 on as many workers at once with so many processes each: they share one `RLHF_DATA_DIR`.
    """

    learner: JobKind = JobKind.TRAIN_PPO
    model: str = POLICY_MODEL
    base: str = STARTER
    dataset: str = ""
    number: int | None = None
    rows: DatasetParams = field(default_factory=DatasetParams)
    options: dict[str, Any] = field(default_factory=dict)
    rewards: tuple[RewardPart, ...] = ()
    held_out: str = AUTO
    num_processes: int = 1
    num_machines: int = 1
    test_percent: float = 20.0

    def __post_init__(self) -> None:
        if self.learner not in POLICY_LEARNERS:
            raise InvalidInput(
                f"{self.learner.value} trains no policy: choose from "
                f"{', '.join(kind.value for kind in POLICY_LEARNERS)}.",
                field="learner",
            )
        rows = replace(self.rows, purpose=POLICY_LEARNERS[self.learner])
        object.__setattr__(self, "rows", rows)
        self._check_names()
        self._check_rewards()
        self._check_number("num_processes", MAX_PROCESSES)
        self._check_number("num_machines", MAX_MACHINES)
        if not 0 <= self.test_percent <= 50:
            raise InvalidInput(
                f"test_percent {self.test_percent:g}: choose 0 to 50.", field="test_percent"
            )
        if "base" in self.options:
            raise InvalidInput("Give the base beside the options, not among them.", field="base")
        self.learner_params()

    def _check_number(self, name: str, largest: int) -> None:
        number = getattr(self, name)
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= largest:
            raise InvalidInput(f"{name} {number}: choose 1 to {largest}.", field=name)
        if number > 1 and self.learner in ALONE:
            raise InvalidInput(
                f"{self.learner.value} runs in one process: choose {name} 1.", field=name
            )

    def _check_names(self) -> None:
        is_missing = self.number is not None and not self.dataset
        if is_missing or not is_name(self.dataset_name):
            raise InvalidInput(
                f"dataset: give a name of 1 to {MAX_NAME_CHARS} printable characters without /.",
                field="dataset",
            )
        if self.learner is JobKind.TRAIN_STARTER and self.number is not None:
            raise InvalidInput(
                "A starter learns from all interactions, not from frozen rows: leave number out.",
                field="number",
            )
        is_fit = self.model.strip() and self.model.isprintable() and "@" not in self.model
        if not is_fit or len(self.model) > MAX_NAME_CHARS:
            raise InvalidInput(
                f"model: give a name of 1 to {MAX_NAME_CHARS} printable characters without @.",
                field="model",
            )
        if not self.base.strip() and self.learner is not JobKind.TRAIN_STARTER:
            raise InvalidInput(
                f"base: give {STARTER}, a registered policy, a folder or a hub id.", field="base"
            )

    def _check_rewards(self) -> None:
        object.__setattr__(self, "rewards", tuple(self.rewards))
        if self.learner in REWARDED and not self.rewards:
            raise InvalidInput(
                f"{self.learner.value} learns from a reward: name a reward model or a rule.",
                field="rewards",
            )
        if self.learner not in REWARDED and self.rewards:
            raise InvalidInput(
                f"{self.learner.value} learns from no reward: leave rewards out.", field="rewards"
            )
        if len(self.rewards) > MAX_REWARDS:
            raise InvalidInput(
                f"{len(self.rewards)} rewards: {MAX_REWARDS} at most.", field="rewards"
            )
        if not isinstance(self.held_out, str) or not self.held_out.strip():
            raise InvalidInput(
                f"held_out: give {AUTO}, {NO_JUDGE}, a reward model or a rule.", field="held_out"
            )

    @property
    def dataset_name(self) -> str:
        """The dataset that is read, or that the rows are frozen to."""
        return self.dataset.strip() or DATASET_NAMES[self.rows.purpose]

    @property
    def num_ranks(self) -> int:
        """The processes of the run, on all its machines."""
        return self.num_processes * self.num_machines

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.options.get("seed", 0))

    def learner_params(self, **known: Any) -> Any:
        """The part that the learner knows. `known` (`base`, `teacher`) replaces names by folders.

        Raises InvalidInput for what the learner refuses.
        """
        wanted = params_class(self.learner)
        names = {each.name for each in fields(wanted)}
        options: dict[str, Any] = {**self.options, "base": self.base, **known}
        if "base" not in names:
            options.pop("base")
        return build_options(wanted, options)

    def dedup_key(self) -> str:
        """Equal requests share it: one is under way at a time."""
        wanted = dumps(self.to_json(), sort_keys=True)
        return f"{self.learner.value}:{uuid.uuid5(uuid.NAMESPACE_OID, wanted)}"

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are stored with the job."""
        plain = {known.name: getattr(self, known.name) for known in fields(self)}
        rewards = [{known.name: getattr(part, known.name) for known in fields(part)}
                   for part in self.rewards]  # fmt: skip
        named = {"learner": self.learner.value, "rows": self.rows.to_json(), "rewards": rewards}
        return {**plain, **named}


def params_class(learner: JobKind) -> Any:
    """The dataclass of the learner's own parameters."""
    module, name = _PARAMS[learner].split(":")
    return getattr(import_module(f"rlhf_core.policies.{module}"), name)


def parse_policy_params(plain: Mapping[str, Any]) -> TrainPolicyParams:
    """The parameters that `to_json` wrote; InvalidInput names one that is unknown or wrong."""

    def read_rewards(parts: Any) -> tuple[RewardPart, ...]:
        return tuple(RewardPart(**part) for part in parts)

    readers: Readers = {"learner": JobKind, "rows": parse_dataset_params, "rewards": read_rewards}
    return parse_fields(TrainPolicyParams, plain, readers)
