"""Distillation: a small policy learns, from answers it gives itself, what a bigger one would say.

Agarwal et al. 2024 (arXiv 2306.13649), by TRL: on each token of the student's own answers its
distribution is drawn towards the teacher's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.errors import TrainingFailed
from rlhf_core.examples import PromptOnly
from rlhf_core.policies.base import load_policy, open_base
from rlhf_core.policies.processes import open_processes
from rlhf_core.policies.trl_glue import Kit, find_settings, open_kit, run_trainer, sentences
from rlhf_core.policies.trl_online import encode_for, lay_out
from rlhf_core.policies.trl_params import LearnerParams
from rlhf_core.training import Tracker, TrainReport, require, require_between


@dataclass(frozen=True)
class DistilParams(LearnerParams):
    """How to distil; see LearnerParams for the rest. `base` is the student.

    `teacher`: a folder or hub id of the policy to learn from (its adapter, if it has one, is
    merged), with the same tokens as the student. One update answers `batch_size` prompts.
    `divergence`: 0 draws the student to cover all that the teacher might say (forward KL), 1 to
    say only what the teacher is likely to (reverse KL), between them a mixture.
    """

    teacher: str = ""
    batch_size: int = 32
    response_tokens: int = 128
    checkpoint_every: int = 10
    sample_every: int = 10
    updates: int = 100
    divergence: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.teacher.strip()), "teacher", self.teacher, "a folder or a hub id")
        require_between(self, "updates", 1, 10**6)
        require_between(self, "divergence", 0.0, 1.0)


def train_distilled(
    prompts: Sequence[PromptOnly],
    *,
    params: DistilParams,
    out_dir: Path,
    work_dir: Path,
    tracker: Tracker,
) -> TrainReport:
    """Train the student on the prompts and write it into `out_dir` (which exists).

    Checkpoints, resuming and processes are as for `train_dpo`. Raises NotEnoughData where there is
    no prompt; TrainingFailed where teacher or student cannot be opened, their tokens differ, the
    memory or the disk do not allow it, or `tracker` asked to stop.
    """
    from trl import DistillationConfig, DistillationTrainer

    with open_processes() as processes:
        kit = open_kit(params, processes=processes, tracker=tracker)
        with sentences():
            teacher, teacher_digest = _open_teacher(kit, params.teacher)
        encoded = encode_for(kit, prompts)
        config = DistillationConfig(
            **find_settings(kit, work_dir, steps=params.updates),
            max_completion_length=params.response_tokens,
            temperature=params.temperature,
            beta=params.divergence,
            shuffle_dataset=False,
        )
        return run_trainer(
            kit,
            DistillationTrainer,
            config,
            {"train_dataset": lay_out(encoded, params, 1), "teacher_model": teacher},
            rows=[encoded.digest(), teacher_digest],
            num_rows=len(prompts),
            shown=encoded.texts,
            out_dir=out_dir,
            work_dir=work_dir,
            metrics={"num_prompts_too_long": float(encoded.num_too_long)},
        )


def _open_teacher(kit: Kit, name: str) -> tuple[Any, str]:
    """The teacher's model, and the digest of its weights."""
    base = open_base(name)
    model, tokenizer = load_policy(base.adapter or base.folder)
    sizes = [one.get_output_embeddings().weight.shape[0] for one in (kit.model, model)]
    if tokenizer.get_vocab() != kit.tokenizer.get_vocab() or sizes[0] != sizes[1]:
        raise TrainingFailed(
            f"The teacher {name} has other tokens than the student {kit.params.base}: distillation "
            "compares them token by token; choose a teacher of the same family."
        )
    return model.requires_grad_(False), base.digest()
