"""TRL's trainers, kept to this house's rules.

They get rows as tokens, so that all learners show the policy the same; write checkpoints that are
whole or not there; call nobody, write no cards; and sample as PPO does.
"""

import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_core.checkpoints import save_checkpoint
from rlhf_core.policies.generate import sample
from rlhf_core.policies.network import TRAINED, ActorCritic
from rlhf_core.policies.prompts import encode_prompt
from rlhf_core.pretrained import Precision, quiet_transformers

RUN_STATE = "run.json"
REFERENCE_OF_PAIRS = ("ref_chosen_logps", "ref_rejected_logps")
REFERENCE_OF_THUMBS = ("ref_logps", "ref_KL_logps")


class Sampler:
    """Samples answers of the model as it is now, with one's own draws.

    `num_tokens` and `seconds` count what was sampled and how long it took.
    """

    def __init__(
        self, tokenizer: Any, end_ids: Sequence[int], precision: Precision, temperature: float
    ) -> None:
        self.tokenizer = tokenizer
        self.num_tokens = 0
        self.seconds = 0.0
        self._end_ids = end_ids
        self._precision = precision
        self._temperature = temperature

    @classmethod
    def like(cls, other: "Sampler") -> "Sampler":
        """Another that counts for itself."""
        return cls(other.tokenizer, other._end_ids, other._precision, other._temperature)

    def answer(
        self, model: Any, prompts: Sequence[Sequence[int]], draws: np.ndarray
    ) -> list[list[int]]:
        """The answers' tokens; `draws` (prompts, most tokens of an answer) in 0..1 decide them."""
        import torch

        started_at = time.monotonic()
        is_training = model.training
        model.eval()
        with torch.random.fork_rng(), self._precision.autocast(model.device):
            found = sample(
                ActorCritic(model),
                prompts,
                torch.from_numpy(draws),
                temperature=self._temperature,
                end_ids=self._end_ids,
                with_values=False,
            )
        model.train(is_training)
        lengths = found.lengths.tolist()
        rows = [row[:end] for row, end in zip(found.tokens.tolist(), lengths, strict=True)]
        self.num_tokens += sum(lengths)
        self.seconds += time.monotonic() - started_at
        return rows

    def read(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Answers as texts, without special tokens."""
        return list(self.tokenizer.batch_decode(rows, skip_special_tokens=True))


@functools.cache
def tame(trainer_class: type) -> type:
    """The trainer class with what every run here needs; a tame one stays what it is."""
    if hasattr(trainer_class, "is_tame"):
        return trainer_class

    class Tamed(trainer_class):  # type: ignore[misc]
        is_tame = True
        work_dir: Path
        run_state: Callable[[], dict[str, Any]]
        sampler: Sampler
        response_tokens: int

        def _send_telemetry(self) -> None:
            """Call nobody."""

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """Write no card: what is to be known stands in the report."""

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset  # its rows are tokens already

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            """Add the reference's log-probabilities, in memory.

            TRL's own way leads by a file in a folder for passing things, which no other process
            sees.
            """
            import torch

            of_pairs = "chosen_ids" in dataset.column_names
            columns = REFERENCE_OF_PAIRS if of_pairs else REFERENCE_OF_THUMBS
            loader = self.accelerator.prepare(
                torch.utils.data.DataLoader(
                    dataset, batch_size=batch_size, collate_fn=self.data_collator
                )
            )
            found: list[list[float]] = [[] for _ in columns]
            for batch in loader:
                computed = self.compute_ref_log_probs(self.model, batch)
                for values, more in zip(
                    found, self.accelerator.gather_for_metrics(computed), strict=True
                ):
                    values.extend(more.tolist())
            for column, values in zip(columns, found, strict=True):
                dataset = dataset.add_column(column, values)
            return dataset

        def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, Any]:
            return [encode_prompt(text, self.processing_class) for text in prompts], None, {}

        def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any) -> Any:
            """Sample by draws of seed, step and row: alike when resumed, or on more processes."""
            own, rank = len(prompt_ids), self.accelerator.process_index
            rng = np.random.default_rng([self.args.seed, self.state.global_step])
            shape = (own * self.accelerator.num_processes, self.response_tokens)
            draws = rng.random(shape, dtype=np.float32)[own * rank : own * (rank + 1)]
            found = self.sampler.answer(self.model, prompt_ids, draws)
            return found if not gives_logprobs(trainer_class) else (found, None)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            if self.args.should_save:
                save_checkpoint(self.work_dir, self.state.global_step, self._fill)
            self.accelerator.wait_for_everyone()

        def _fill(self, path: Path) -> None:
            with quiet_transformers():
                save_model(self.model, path)
            self._save_optimizer_and_scheduler(str(path))
            self._save_scaler(str(path))
            self._save_rng_state(str(path))
            self.state.save_to_json(str(path / "trainer_state.json"))
            (path / RUN_STATE).write_text(json.dumps(self.run_state()))

    return Tamed


def gives_logprobs(trainer_class: type) -> bool:
    """Whether its sampling is to give log-probabilities beside the answers."""
    return any(one.__name__ == "GRPOTrainer" for one in trainer_class.__mro__)


def save_model(model: Any, folder: Path) -> None:
    """Write the weights: with an adapter, that alone."""
    more = {"selected_adapters": [TRAINED]} if hasattr(model, "peft_config") else {}
    model.save_pretrained(str(folder), **more)


@contextmanager
def quiet_trl() -> Iterator[None]:
    """Without the bars of datasets."""
    import datasets

    were_off = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with quiet_transformers():
            yield
    finally:
        if not were_off:
            datasets.enable_progress_bars()
