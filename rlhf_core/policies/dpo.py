"""Direct preference optimisation: a policy from pairs of answers, without a reward model.

Rafailov et al. 2023 (arXiv 2305.18290), by TRL. A pair's chosen answer is to lead by an offset
that grows with its margin: Amini et al. 2024 (arXiv 2402.10571).
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.errors import NotEnoughData
from rlhf_core.examples import PreferencePair
from rlhf_core.policies.conversations import split_groups
from rlhf_core.policies.processes import open_processes
from rlhf_core.policies.trl_best import evaluation_settings
from rlhf_core.policies.trl_glue import find_settings, open_kit, run_trainer
from rlhf_core.policies.trl_params import LearnerParams
from rlhf_core.policies.trl_rows import MOST_HELD_OUT, Encoder, count_steps, table
from rlhf_core.policies.trl_trainer import tame
from rlhf_core.training import Tracker, TrainReport, require_between


@dataclass(frozen=True)
class DpoParams(LearnerParams):
    """How to train on pairs; see LearnerParams for the rest.

    `beta`: how much a departure from the base counts: lower departs further. `margin_weight` times
    a pair's margin (rating points) is the offset by which beta times the log-ratio of the chosen
    answer is to lead the rejected one's; in training `accuracy` counts pairs that do, the held-out
    `eval_accuracy` those that lead at all. `held_out_percent` of the prompts are learned nothing
    from and judged after each epoch, four times at least (0: none): `keep_best` keeps the policy
    with the lowest loss on them, else the last one.
    """

    epochs: int = 1
    beta: float = 0.1
    margin_weight: float = 0.1
    held_out_percent: float = 10.0
    keep_best: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, "epochs", 1, 1_000)
        require_between(self, "beta", 0.0, 100.0, above=True)
        require_between(self, "margin_weight", 0.0, 10.0)
        require_between(self, "held_out_percent", 0.0, 50.0)


def train_dpo(
    rows: Sequence[PreferencePair],
    *,
    params: DpoParams,
    out_dir: Path,
    work_dir: Path,
    tracker: Tracker,
) -> TrainReport:
    """Train the policy on the pairs and write it into `out_dir` (which exists).

    Checkpoints lie in `work_dir`, which this run alone uses: called again with the same rows and
    parameters, it goes on from the newest sound one. Under `accelerate launch` or `torchrun` each
    process calls it alike.

    Raises NotEnoughData where there is no pair; TrainingFailed where the base, the memory or the
    disk do not allow it, the loss is no number, or `tracker` asked to stop.
    """
    from trl import DPOConfig

    given = [row for row in rows if row.prompt.strip() and row.chosen != row.rejected]
    if not given:
        raise NotEnoughData(have=0, need=1, what="pairs of different answers")
    with open_processes() as processes:
        kit = open_kit(params, processes=processes, tracker=tracker)
        encoder = Encoder(kit)
        learned, held_out = split_groups(
            given, percent=params.held_out_percent, at_most=MOST_HELD_OUT, seed=params.seed
        )
        pairs, judged = encoder.pairs(learned), encoder.pairs(held_out)
        encoder.require(pairs)
        steps = count_steps(len(pairs), kit, params.epochs)
        settings = find_settings(kit, work_dir, steps=steps)
        if judged:
            settings |= evaluation_settings(steps, params.epochs)
        config = DPOConfig(
            **settings, beta=params.beta, max_length=None, precompute_ref_log_probs=True
        )
        config.margin_weight = params.margin_weight
        return run_trainer(
            kit,
            _offset_trainer(),
            config,
            {"train_dataset": table(pairs), "eval_dataset": table(judged)},
            rows=[pairs, judged],
            num_rows=len(rows),
            shown=[row.prompt for row in given],
            out_dir=out_dir,
            work_dir=work_dir,
            metrics=encoder.counts() | {"num_held_out": float(len(judged))},
            best_by="eval_loss" if judged and params.keep_best else None,
        )


@functools.cache
def _offset_trainer() -> Any:
    """TRL's trainer, whose pairs are to lead by an offset.

    The offset is added to the reference's log-probability of the chosen answer, from where it goes
    into the loss as it should; what is told of margins is put right again.
    """
    from trl import DPOTrainer

    class OffsetTrainer(tame(DPOTrainer)):  # type: ignore[misc]
        offset = 0.0

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            found = super()._precompute_ref_logps(dataset, name, batch_size)
            if name != "train" or not self.args.margin_weight:
                return found
            offsets = [self.args.margin_weight * margin for margin in found["margin"]]
            self.offset = sum(offsets) / len(offsets)
            raised = [
                logprob + offset / self.beta
                for logprob, offset in zip(found["ref_chosen_logps"], offsets, strict=True)
            ]
            column = "ref_chosen_logps"
            return found.remove_columns(column).add_column(column, raised)

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if self.model.training:
                told = self._metrics["train"]
                for name in {"rewards/margins", "rewards/chosen"} & set(told):
                    told[name] = [value + self.offset for value in told[name]]
            super().log(logs, start_time)

    return OffsetTrainer
