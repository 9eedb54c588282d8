"""Each learner that trains through TRL, called alike on a few rows of the tiny policy's words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_core.examples import PreferencePair, SftExample, UnpairedPreference
from rlhf_core.policies.distil import DistilParams, train_distilled
from rlhf_core.policies.dpo import DpoParams, train_dpo
from rlhf_core.policies.grpo import GrpoParams, train_grpo
from rlhf_core.policies.kto import KtoParams, train_kto
from rlhf_core.policies.rloo import RlooParams, train_rloo
from rlhf_core.policies.sft import SftParams, train_sft
from rlhf_core.training import NoOpTracker, TrainReport
from tests.core.policies.tiny_policies import count_of, make_policy, make_prompts

GOOD, BAD = "good yes d", "bad no e"
SHOWN = [SftExample(one.prompt, GOOD, one.group) for one in make_prompts(20)]
PAIRS = [PreferencePair(one.prompt, GOOD, BAD, 1.0, one.group) for one in make_prompts(20)]
THUMBS = [
    UnpairedPreference(one.prompt, GOOD if place % 3 else BAD, place % 3 > 0, one.group)
    for place, one in enumerate(make_prompts(30))
]
COMMON: dict[str, Any] = {
    "response_tokens": 6, "lr": 3e-3, "precision": "fp32", "batch_size": 8, "micro_batch_size": 4,
    "checkpoint_every": 2, "sample_every": 2,
}  # fmt: skip
EPOCHS: dict[str, Any] = {**COMMON, "epochs": 2}
UPDATES: dict[str, Any] = {**COMMON, "updates": 5}

Learn = Callable[..., TrainReport]


def dpo(base: Path, rows: Any = None, **options: Any) -> Learn:
    params = DpoParams(base=str(base), **EPOCHS | options)
    return lambda **places: train_dpo(PAIRS if rows is None else rows, params=params, **places)


def sft(base: Path, rows: Any = None, **options: Any) -> Learn:
    params = SftParams(base=str(base), **EPOCHS | options)
    return lambda **places: train_sft(SHOWN if rows is None else rows, params=params, **places)


def kto(base: Path, rows: Any = None, **options: Any) -> Learn:
    params = KtoParams(base=str(base), **EPOCHS | options)
    return lambda **places: train_kto(THUMBS if rows is None else rows, params=params, **places)


def rloo(base: Path, rows: Any = None, reward: Any = None, held: Any = None, **more: Any) -> Learn:
    params = RlooParams(base=str(base), **UPDATES | more)
    prompts = make_prompts() if rows is None else rows
    return lambda **places: train_rloo(
        prompts, params=params, reward=reward or count_of("d"), held_out=held, **places
    )


def grpo(base: Path, rows: Any = None, reward: Any = None, held: Any = None, **more: Any) -> Learn:
    params = GrpoParams(base=str(base), **UPDATES | more)
    prompts = make_prompts() if rows is None else rows
    return lambda **places: train_grpo(
        prompts, params=params, reward=reward or count_of("d"), held_out=held, **places
    )


def distil(base: Path, rows: Any = None, teacher: Path | None = None, **more: Any) -> Learn:
    teacher = teacher or make_policy(base.parent / "teacher", seed=4, layers=3)
    params = DistilParams(base=str(base), teacher=str(teacher), **UPDATES | more)
    prompts = make_prompts() if rows is None else rows
    return lambda **places: train_distilled(prompts, params=params, **places)


RELATIVES = [dpo, kto, rloo, grpo, distil]


def run(learn: Learn, folder: Path, tracker: NoOpTracker | None = None) -> TrainReport:
    """A run; the policy lies in `folder/model`, its checkpoints in `folder/work`."""
    (folder / "model").mkdir(parents=True, exist_ok=True)
    return learn(
        out_dir=folder / "model", work_dir=folder / "work", tracker=tracker or NoOpTracker()
    )
