"""Supervised fine-tuning: a policy that imitates good answers and experts' corrections.

By TRL. The loss is that of the completions' tokens and of the end after them; the prompt is only
read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.examples import SftExample
from rlhf_core.policies.conversations import (
    Conversations,
    encode_conversations,
    keep_texts,
    split_groups,
)
from rlhf_core.policies.processes import open_processes
from rlhf_core.policies.trl_best import evaluation_settings
from rlhf_core.policies.trl_glue import Kit, find_settings, open_kit, run_trainer
from rlhf_core.policies.trl_params import LearnerParams
from rlhf_core.policies.trl_rows import MOST_HELD_OUT, count_steps, table
from rlhf_core.training import Tracker, TrainReport, require_between

NOT_LEARNED = -100
"""The label of a token that TRL takes into no loss."""


@dataclass(frozen=True)
class SftParams(LearnerParams):
    """How to train on answers to imitate; see LearnerParams for the rest.

    `held_out_percent` of the prompts are learned nothing from and judged after each epoch, four
    times at least (`eval_loss`; 0: none): `keep_best` keeps the policy with the lowest loss on
    them, else the last one.
    """

    epochs: int = 2
    lr: float = 2e-5
    held_out_percent: float = 10.0
    keep_best: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, "epochs", 1, 1_000)
        require_between(self, "held_out_percent", 0.0, 50.0)


def train_sft(
    rows: Sequence[SftExample],
    *,
    params: SftParams,
    out_dir: Path,
    work_dir: Path,
    tracker: Tracker,
) -> TrainReport:
    """Train the policy on the answers and write it into `out_dir` (which exists).

    Checkpoints lie in `work_dir`, which this run alone uses: called again with the same rows and
    parameters, it goes on from the newest sound one. Under `accelerate launch` or `torchrun` each
    process calls it alike.

    Raises NotEnoughData where no row has both texts; TrainingFailed where the base, the rows, the
    memory or the disk do not allow it, the loss is no number, or `tracker` asked to stop.
    """
    from trl import SFTConfig, SFTTrainer

    given = keep_texts(rows)
    with open_processes() as processes:
        kit = open_kit(params, processes=processes, tracker=tracker)
        learned, held_out = split_groups(
            given, percent=params.held_out_percent, at_most=MOST_HELD_OUT, seed=params.seed
        )
        found = _encode(learned, kit)
        found.require_some()
        judged = _encode(held_out, kit)
        steps = count_steps(len(found), kit, params.epochs)
        settings = find_settings(kit, work_dir, steps=steps)
        settings.pop("disable_dropout")  # the base's own dropout is of use here
        if judged.ids:
            settings |= evaluation_settings(steps, params.epochs)
        config = SFTConfig(**settings, max_length=None, completion_only_loss=False)
        num_corrections = sum(row.is_correction for row in given)
        kit.tracker.log(f"{len(given)} answers to imitate, {num_corrections} of them corrections.")
        return run_trainer(
            kit,
            SFTTrainer,
            config,
            {
                "train_dataset": table(_columns(found)),
                "eval_dataset": table(_columns(judged)),
            },
            rows=[found.digest(), judged.digest()],
            num_rows=len(rows),
            shown=[row.prompt for row in given],
            out_dir=out_dir,
            work_dir=work_dir,
            metrics={
                "num_prompts_too_long": float(found.num_too_long),
                "num_completions_cut": float(found.num_cut),
                "num_corrections": float(num_corrections),
                "num_held_out": float(len(judged)),
            },
            best_by="eval_loss" if judged.ids and params.keep_best else None,
        )


def _encode(rows: Sequence[SftExample], kit: Kit) -> Conversations:
    return encode_conversations(
        rows,
        kit.tokenizer,
        prompt_tokens=kit.params.prompt_tokens,
        response_tokens=kit.params.response_tokens,
        positions=kit.positions,
    )


def _columns(rows: Conversations) -> list[dict[str, Any]]:
    """TRL's columns, with labels where the completion's tokens are."""
    return [
        {
            "input_ids": list(ids),
            "labels": [NOT_LEARNED] * length + list(ids[length:]),
        }
        for ids, length in zip(rows.ids, rows.prompt_lengths, strict=True)
    ]
