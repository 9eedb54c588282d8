"""A trained transformer reward model: scoring, saving, loading."""

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
from rlhf_core.rewards.batching import pad_rows, part_cost_of, split_by_length
from rlhf_core.rewards.calibration import Calibration
from rlhf_core.rewards.features import count_texts
from rlhf_core.rewards.heads import OVERALL, choose_weights, mix_heads
from rlhf_core.rewards.transformer_manner import Manner
from rlhf_core.rewards.transformer_text import TextEncoder, Tokens

if TYPE_CHECKING:
    import torch

SPEC_FILE = "reward_model.json"
SPEC_FORMAT = 1
TOKENS_A_PASS_CPU = 2_048
TOKENS_A_PASS_GPU = 65_536
TEXTS_A_BLOCK = 4_096  # split into tokens at once


@dataclass(frozen=True)
class TransformerSpec:
    """What belongs to the weights: `heads` in their order, how each becomes P(good).

    `objective`: `regression` or `preference`. A head is logit * scale + center: rating points
    above the threshold, or a reward. P(good) = sigmoid(head / temperature + shift); of a
    model of pairs the shift makes the mean held-out completion 0.5, and the difference of two log
    odds says how likely the one is preferred to the other.
    """

    objective: str
    heads: tuple[str, ...]
    calibrations: tuple[Calibration, ...]
    centers: tuple[float, ...]
    scales: tuple[float, ...]
    max_tokens: int
    threshold: float
    manner: Manner | None = None


class TransformerRewardModel:
    """Scores text with a fine-tuned classifier on the GPU where there is one, else the CPU."""

    def __init__(
        self,
        model: Any,
        encoder: TextEncoder,
        spec: TransformerSpec,
        *,
        device: "torch.device",
        precision: Precision,
    ) -> None:
        self._model = model.to(device).eval()
        self._encoder = encoder
        self._device = device
        self._precision = precision
        self.spec = spec
        self.threshold = spec.threshold

    @property
    def is_probability(self) -> bool:
        """Scores are calibrated: P(good) in 0..1."""
        return True

    @property
    def aspects(self) -> tuple[str, ...]:
        """The aspects that have a head of their own, in alphabetical order."""
        return tuple(sorted(name for name in self.spec.heads if name != OVERALL))

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Floats:
        """P(good) in 0..1 of each pair (n,), in their order; `weights` mix the heads.

        Raises InvalidInput for lists of different lengths, or weights of unknown heads.
        """
        shares = choose_weights(weights, self.aspects)
        table = self.score_raw(prompts, completions)
        scores = {
            name: self.spec.calibrations[number].apply(table[:, number])
            for number, name in enumerate(self.spec.heads)
            if name in shares
        }
        return mix_heads(scores, shares)

    def score_raw(self, prompts: Sequence[str], completions: Sequence[str]) -> Floats:
        """What the heads say before calibration: (n, heads), unbounded.

        Rating points above the threshold, or rewards where the model learned from pairs.
        """
        if len(prompts) != len(completions):
            raise InvalidInput(f"{len(prompts)} prompts, but {len(completions)} completions.")
        found = np.empty((len(prompts), len(self.spec.heads)))
        for start in range(0, len(prompts), TEXTS_A_BLOCK):
            end = start + TEXTS_A_BLOCK
            tokens = self._encoder.encode(prompts[start:end], completions[start:end])
            found[start:end] = predict(
                self._model,
                tokens,
                pad_id=self._encoder.tokenizer.pad_token_id,
                device=self._device,
                precision=self._precision,
            )
        raw: Floats = found * np.array(self.spec.scales) + np.array(self.spec.centers)
        if self.spec.manner is not None and prompts:
            raw[:, 0] += self.spec.manner.apply(count_texts(prompts, completions))
        return raw


def predict(
    model: Any,
    tokens: Sequence[Tokens],
    *,
    pad_id: int,
    device: "torch.device",
    precision: Precision,
) -> Floats:
    """The logits of each text (n, heads), in their order, by a model in evaluation mode."""
    import torch

    if not tokens:
        return np.empty((0, int(model.config.num_labels)))
    parts = split_by_length(
        [len(text.ids) for text in tokens],
        part_cost=part_cost_of(device),
        max_tokens=TOKENS_A_PASS_CPU if device.type == "cpu" else TOKENS_A_PASS_GPU,
    )
    found: Floats | None = None
    for part in parts:
        with torch.inference_mode(), precision.autocast(device):
            logits = run_forward(model, [tokens[row] for row in part], pad_id, device)
        values = logits.float().cpu().numpy().astype(np.float64)
        if found is None:
            found = np.empty((len(tokens), values.shape[1]))
        found[part] = values
    assert found is not None  # noqa: S101 - there is a part where there are tokens
    return found


def run_forward(
    model: Any, texts: Sequence[Tokens], pad_id: int, device: "torch.device"
) -> "torch.Tensor":
    """The logits (n, heads) of texts, in one pass."""
    types = [text.types for text in texts if text.types is not None]
    inputs = pad_rows(
        [text.ids for text in texts], pad_id=pad_id, device=device, types=types or None
    )
    logits: torch.Tensor = model(**inputs).logits
    return logits


def save_transformer(
    model: Any, encoder: TextEncoder, spec: TransformerSpec, out_dir: Path, params: dict[str, Any]
) -> None:
    """Write weights, configuration, tokenizer and spec into `out_dir`, which exists."""
    model.config.pad_token_id = encoder.tokenizer.pad_token_id
    model.config._name_or_path = ""  # where it came from is in the parameters, not a path
    with quiet_transformers():
        model.save_pretrained(str(out_dir))
        encoder.tokenizer.save_pretrained(str(out_dir))
    text = {"format": SPEC_FORMAT, **asdict(spec), "params": params}
    (out_dir / SPEC_FILE).write_text(json.dumps(text, indent=1, sort_keys=True))


def load_transformer(folder: Path) -> TransformerRewardModel:
    """Read a model from its folder, which `artifacts.open_artifact` has verified.

    Safetensors and JSON only. Raises InvalidInput where the files are not those of such a model.
    """
    try:
        plain = json.loads((folder / SPEC_FILE).read_text())
        if plain["format"] != SPEC_FORMAT:
            raise InvalidInput(f"{folder / SPEC_FILE} is of another format: train it again.")
        spec = TransformerSpec(
            objective=str(plain["objective"]),
            heads=tuple(plain["heads"]),
            calibrations=tuple(Calibration(**one) for one in plain["calibrations"]),
            centers=tuple(float(one) for one in plain["centers"]),
            scales=tuple(float(one) for one in plain["scales"]),
            max_tokens=int(plain["max_tokens"]),
            threshold=float(plain["threshold"]),
            manner=None if plain["manner"] is None else Manner.from_json(plain["manner"]),
        )
        parts = (spec.calibrations, spec.centers, spec.scales)
        if OVERALL not in spec.heads or any(len(part) != len(spec.heads) for part in parts):
            raise InvalidInput(f"{folder / SPEC_FILE} does not name its heads: train it again.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{folder} holds no transformer reward model ({type(error).__name__}: {error}): train "
            "it again."
        ) from error
    refuse_foreign_code(folder)
    device = choose_device()
    model = load_base(folder, num_labels=len(spec.heads), is_trained=True)
    encoder = TextEncoder(load_tokenizer(folder), spec.max_tokens)
    return TransformerRewardModel(
        model, encoder, spec, device=device, precision=choose_precision("auto", device)
    )
