"""A trained step model: scores each step of a solution, and a completion by its steps."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlhf_core.errors import InvalidInput
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.base_model import (
    Precision,
    choose_device,
    choose_precision,
    load_base,
    load_tokenizer,
    quiet_transformers,
    refuse_foreign_code,
)
from rlhf_core.rewards.calibration import Calibration
from rlhf_core.rewards.heads import choose_weights
from rlhf_core.rewards.steps_facts import FACT_NAMES, FactScale, StepLine, describe_steps
from rlhf_core.rewards.steps_network import Reading, build_network, predict
from rlhf_core.rewards.steps_params import Aggregate, check_aggregate
from rlhf_core.rewards.steps_search import find_first_error
from rlhf_core.rewards.steps_text import StepReader, split_steps

if TYPE_CHECKING:
    import torch

SPEC_FILE = "step_model.json"
SPEC_FORMAT = 1
SOLUTIONS_A_BLOCK = 256


@dataclass(frozen=True)
class StepSpec:
    """What belongs to the weights of the classifier.

    P(right) = sigmoid((classifier + line) / temperature + shift). `threshold`: a solution is held
    faultless if P(no mistake) exceeds it (see `steps_search`).
    """

    line: StepLine
    calibration: Calibration
    threshold: float
    aggregate: Aggregate
    reading: Reading
    max_tokens: int


class StepRewardModel:
    """Says of each step how likely it is right; on the GPU where there is one, else the CPU."""

    def __init__(
        self,
        network: Any,
        reader: StepReader,
        spec: StepSpec,
        *,
        device: "torch.device",
        precision: Precision,
    ) -> None:
        self._network = network.to(device).eval()
        self._reader = reader
        self._device = device
        self._precision = precision
        self.spec = spec

    @property
    def is_probability(self) -> bool:
        """Scores are calibrated: P(right) in 0..1."""
        return True

    @property
    def aspects(self) -> tuple[str, ...]:
        """None: there is one head."""
        return ()

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
        aggregate: Aggregate | None = None,
    ) -> Floats:
        """One number of 0..1 for each completion (n,): the steps' P(right), aggregated.

        A completion's steps are its paragraphs, or its lines where it has but one paragraph.
        `aggregate` is the model's own if None. Raises InvalidInput for lists of different lengths,
        weights of heads it has not, or an unknown aggregate.
        """
        choose_weights(weights, self.aspects)
        chosen = self.spec.aggregate if aggregate is None else aggregate
        check_aggregate(chosen)
        found = self.score_steps(prompts, [split_steps(completion) for completion in completions])
        return np.array([aggregate_steps(of_steps, chosen) for of_steps in found], dtype=np.float64)

    def score_steps(self, prompts: Sequence[str], steps: Sequence[Sequence[str]]) -> list[Floats]:
        """P(right) of each step of each solution, in their order; empty for no steps.

        A step's place among the steps counts, also how many follow: score finished solutions.
        Raises InvalidInput for lists of different lengths.
        """
        if len(prompts) != len(steps):
            raise InvalidInput(f"{len(prompts)} prompts, but the steps of {len(steps)} solutions.")
        found = []
        for start in range(0, len(prompts), SOLUTIONS_A_BLOCK):
            end = start + SOLUTIONS_A_BLOCK
            found += self._score_block(prompts[start:end], steps[start:end])
        return found

    def find_first_error(
        self, prompts: Sequence[str], steps: Sequence[Sequence[str]]
    ) -> list[int | None]:
        """The step (0, 1, ...) where each solution likely goes wrong first; None for nowhere."""
        scores = self.score_steps(prompts, steps)
        return [find_first_error(of_steps, self.spec.threshold) for of_steps in scores]

    def _score_block(self, prompts: Sequence[str], steps: Sequence[Sequence[str]]) -> list[Floats]:
        windows, facts = [], []
        for row, (prompt, parts) in enumerate(zip(prompts, steps, strict=True)):
            table = self.spec.line.scale.apply(describe_steps(prompt, parts))
            for window in self._reader.read(row, prompt, parts)[0]:
                windows.append(window)
                facts.append(table[window.first : window.first + len(window.ends)])
        logits = predict(
            self._network,
            windows,
            facts,
            reading=self.spec.reading,
            pad_id=self._reader.tokenizer.pad_token_id,
            device=self._device,
            precision=self._precision,
        )
        found: list[list[Floats]] = [[] for _ in prompts]
        for window, values in zip(windows, logits, strict=True):
            found[window.row].append(values)
        return [
            self.spec.calibration.apply(np.concatenate([np.empty(0), *parts])) for parts in found
        ]


def aggregate_steps(probabilities: Floats, aggregate: Aggregate) -> float:
    """One number of P(right) of the steps (n >= 1,)."""
    match aggregate:
        case "min":
            return float(probabilities.min())
        case "product":
            return float(probabilities.prod())
        case "last":
            return float(probabilities[-1])


def save_step_model(
    network: Any, reader: StepReader, spec: StepSpec, out_dir: Path, params: dict[str, Any]
) -> None:
    """Write weights, configuration, tokenizer and spec into `out_dir`, which exists."""
    classifier = network["classifier"]
    classifier.config.pad_token_id = reader.tokenizer.pad_token_id
    classifier.config._name_or_path = ""  # where it came from is in the parameters, not a path
    with quiet_transformers():
        classifier.save_pretrained(str(out_dir))
        reader.tokenizer.save_pretrained(str(out_dir))
    text = {"format": SPEC_FORMAT, "facts": list(FACT_NAMES), **asdict(spec), "params": params}
    (out_dir / SPEC_FILE).write_text(json.dumps(text, indent=1, sort_keys=True))


def load_step_model(folder: Path) -> StepRewardModel:
    """Read a model from its folder, which `artifacts.open_artifact` has verified.

    Safetensors and JSON only. Raises InvalidInput where the files are not those of such a model.
    """
    try:
        plain = json.loads((folder / SPEC_FILE).read_text())
        if plain["format"] != SPEC_FORMAT or plain["facts"] != list(FACT_NAMES):
            raise InvalidInput(f"{folder / SPEC_FILE} is of another format: train it again.")
        line = plain["line"]
        scale = FactScale(
            means=tuple(line["scale"]["means"]), deviations=tuple(line["scale"]["deviations"])
        )
        check_aggregate(plain["aggregate"])
        spec = StepSpec(
            line=StepLine(
                scale=scale,
                coefficients=tuple(float(one) for one in line["coefficients"]),
                intercept=float(line["intercept"]),
            ),
            calibration=Calibration(**plain["calibration"]),
            threshold=float(plain["threshold"]),
            aggregate=plain["aggregate"],
            reading=Reading(plain["reading"]),
            max_tokens=int(plain["max_tokens"]),
        )
        sizes = {len(scale.means), len(scale.deviations), len(spec.line.coefficients)}
        if sizes != {len(FACT_NAMES)}:
            raise InvalidInput(f"{folder / SPEC_FILE} does not fit its facts: train it again.")
    except InvalidInput:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{folder} holds no step model ({type(error).__name__}: {error}): train it again."
        ) from error
    refuse_foreign_code(folder)
    device = choose_device()
    classifier = load_base(folder, head="token", num_labels=1, is_trained=True)
    return StepRewardModel(
        build_network(classifier, spec.line),
        StepReader(load_tokenizer(folder), spec.max_tokens),
        spec,
        device=device,
        precision=choose_precision("auto", device),
    )
