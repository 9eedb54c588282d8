"""Kahneman-Tversky optimisation: a policy from thumbs, without pairs and without a reward model.

Ethayarajh et al. 2024 (arXiv 2402.01306), by TRL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_core.errors import NotEnoughData
from rlhf_core.examples import UnpairedPreference
from rlhf_core.policies.conversations import split_groups
from rlhf_core.policies.processes import open_processes
from rlhf_core.policies.trl_best import evaluation_settings
from rlhf_core.policies.trl_glue import find_settings, open_kit, run_trainer
from rlhf_core.policies.trl_params import LearnerParams
from rlhf_core.policies.trl_rows import MOST_HELD_OUT, Encoder, count_steps, table
from rlhf_core.training import Tracker, TrainReport, require, require_between


@dataclass(frozen=True)
class KtoParams(LearnerParams):
    """How to train on thumbs; see LearnerParams for the rest.

    `beta`: how much a departure from the base counts: lower departs further. `good_weight` and
    `bad_weight` weigh the losses of good and of bad answers; None as `good_weight` makes the two
    kinds count alike over all rows. The KL to the base is estimated within each micro-batch from
    prompts with another row's answer: `micro_batch_size` must be 2 or more, and more is steadier.
    `held_out_percent` of the prompts are learned nothing from and judged after each epoch,
    four times at least (0: none): `keep_best` keeps the policy with the lowest loss on them, else
    the last one.
    """

    epochs: int = 1
    beta: float = 0.1
    good_weight: float | None = None
    bad_weight: float = 1.0
    held_out_percent: float = 10.0
    keep_best: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, "epochs", 1, 1_000)
        require_between(self, "beta", 0.0, 100.0, above=True)
        require_between(self, "bad_weight", 0.0, 1_000.0, above=True)
        if self.good_weight is not None:
            require_between(self, "good_weight", 0.0, 1_000.0, above=True)
        require_between(self, "held_out_percent", 0.0, 50.0)
        require(
            min(self.micro_batch_size, self.batch_size) > 1,
            "micro_batch_size",
            min(self.micro_batch_size, self.batch_size),
            "2 or more (and as much of batch_size)",
        )


def train_kto(
    rows: Sequence[UnpairedPreference],
    *,
    params: KtoParams,
    out_dir: Path,
    work_dir: Path,
    tracker: Tracker,
) -> TrainReport:
    """Train the policy on the thumbs and write it into `out_dir` (which exists).

    Checkpoints, resuming and processes are as for `train_dpo`. Raises NotEnoughData where there
    are no good or no bad answers; TrainingFailed where the base, the memory or the disk do not
    allow it, the loss is no number, or `tracker` asked to stop.
    """
    from trl import KTOConfig, KTOTrainer

    given = [row for row in rows if row.prompt.strip() and row.completion.strip()]
    for label, what in ((True, "answers with a thumb up"), (False, "answers with a thumb down")):
        if not any(row.label is label for row in given):
            raise NotEnoughData(have=0, need=1, what=what)
    with open_processes() as processes:
        kit = open_kit(params, processes=processes, tracker=tracker)
        encoder = Encoder(kit)
        learned, held_out = split_groups(
            given, percent=params.held_out_percent, at_most=MOST_HELD_OUT, seed=params.seed
        )
        answers = _deal(encoder.unpaired(learned), kit.micro_batch, params.seed)
        judged = _deal(encoder.unpaired(held_out), kit.micro_batch, params.seed)
        encoder.require(answers)
        num_good = sum(row["label"] for row in answers)
        good_weight = params.good_weight
        if good_weight is None:
            good_weight = params.bad_weight * (len(answers) - num_good) / max(1, num_good) or 1.0
        steps = count_steps(len(answers), kit, params.epochs)
        settings = find_settings(kit, work_dir, steps=steps)
        if judged:
            settings |= evaluation_settings(steps, params.epochs)
        kit.tracker.log(
            f"{num_good} good and {len(answers) - num_good} bad answers, good ones weighed "
            f"{good_weight:.2f} and bad ones {params.bad_weight:.2f}."
        )
        return run_trainer(
            kit,
            KTOTrainer,
            KTOConfig(
                **settings,
                beta=params.beta,
                desirable_weight=good_weight,
                undesirable_weight=params.bad_weight,
                max_length=None,
                precompute_ref_log_probs=True,
            ),
            {"train_dataset": table(answers), "eval_dataset": table(judged)},
            rows=[answers, judged],
            num_rows=len(rows),
            shown=[row.prompt for row in given],
            out_dir=out_dir,
            work_dir=work_dir,
            metrics=encoder.counts()
            | {"num_held_out": float(len(judged)), "good_weight": float(good_weight)},
            best_by="eval_loss" if judged and params.keep_best else None,
        )


def _deal(rows: list[dict[str, Any]], size: int, seed: int) -> list[dict[str, Any]]:
    """The rows in an order by `seed`, good and bad ones spread evenly over micro-batches of `size`.

    Each gets `KL_completion_ids`: the answer of the row before it in its micro-batch. A single
    last row, which would have no other, is left out.
    """
    rng = np.random.default_rng([seed, 2])
    placed: list[tuple[float, int]] = []
    for label in (True, False):
        own = rng.permutation([place for place, row in enumerate(rows) if row["label"] is label])
        placed += [((at + rng.random()) / len(own), int(place)) for at, place in enumerate(own)]
    order = [place for _, place in sorted(placed)]
    if len(order) > 1 and len(order) % size == 1:
        order.pop()
    dealt: list[dict[str, Any]] = []
    for start in range(0, len(order), size):
        part = [rows[place] for place in order[start : start + size]]
        dealt += [
            row | {"KL_completion_ids": part[at - 1]["completion_ids"]}
            for at, row in enumerate(part)
        ]
    return dealt
