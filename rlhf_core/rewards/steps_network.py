"""The network of a step model: a token classifier, and a line on what is known of a step.

Its logit at the end of a step is the classifier's there plus the line's. Steps should be judged by
what stands before them, so that a solution can be cut after its last label: a causal model reads
so by itself, an encoder through a mask of blocks (a token sees the prompt, the steps before and
all of its own step). Where a model takes no such mask, it reads each solution whole.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.base_model import Precision
from rlhf_core.rewards.batching import part_cost_of, split_by_length
from rlhf_core.rewards.steps_facts import StepLine
from rlhf_core.rewards.steps_text import Window

if TYPE_CHECKING:
    import torch

TOKENS_A_PASS_CPU = 2_048
TOKENS_A_PASS_GPU = 65_536
NUM_PROBES = 8  # a fresh model attends so evenly that one probe may miss what changes


class Reading(StrEnum):
    """What a token of a step may see."""

    CAUSAL = "causal"
    BLOCKS = "blocks"
    WHOLE = "whole"

    @property
    def is_forward(self) -> bool:
        """Whether no step sees a later one."""
        return self is not Reading.WHOLE


def build_network(classifier: Any, line: StepLine) -> Any:
    """A torch module of the classifier and the line, which starts where its regression ended."""
    import torch

    facts = torch.nn.Linear(len(line.coefficients), 1)
    with torch.no_grad():
        facts.weight.copy_(torch.tensor([line.coefficients]))
        facts.bias.fill_(line.intercept)
    return torch.nn.ModuleDict({"classifier": classifier, "facts": facts})


def silence_head(classifier: Any) -> None:
    """Set the classifier's last layer to 0, so that at first the line alone speaks."""
    import torch

    body = {id(value) for value in classifier.base_model.parameters()}
    layers = [layer for layer in classifier.modules() if isinstance(layer, torch.nn.Linear)]
    for layer in layers:
        if layer.out_features == 1 and id(layer.weight) not in body:
            torch.nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                torch.nn.init.zeros_(layer.bias)


def run_network(
    network: Any,
    windows: Sequence[Window],
    facts: Floats,
    *,
    reading: Reading,
    pad_id: int,
    device: "torch.device",
    precision: Precision,
) -> "torch.Tensor":
    """The logits (float32) at the ends of the windows' judged steps (m,), one window after another.

    `facts` (m, d) are those of the steps, standardised.
    """
    import torch

    inputs = _pad(windows, pad_id, reading)
    rows = [number for number, window in enumerate(windows) for _ in window.ends]
    places = [end for window in windows for end in window.ends]
    with precision.autocast(device):
        logits = network["classifier"](
            **{name: value.to(device) for name, value in inputs.items()}
        ).logits
    table = torch.tensor(facts, dtype=torch.float32, device=device)
    found: torch.Tensor = logits[rows, places, 0].float() + network["facts"](table)[:, 0]
    return found


def predict(
    network: Any,
    windows: Sequence[Window],
    facts: Sequence[Floats],
    *,
    reading: Reading,
    pad_id: int,
    device: "torch.device",
    precision: Precision,
) -> list[Floats]:
    """The logits of the judged steps of each window, by a network in evaluation mode.

    `facts` are those of each window's judged steps, standardised.
    """
    import torch

    found: list[Floats] = [np.empty(0)] * len(windows)
    for part in cut_windows(windows, device):
        with torch.inference_mode():
            logits = run_network(
                network,
                [windows[place] for place in part],
                np.concatenate([facts[place] for place in part]),
                reading=reading,
                pad_id=pad_id,
                device=device,
                precision=precision,
            )
        values = logits.cpu().numpy().astype(np.float64)
        counts = np.cumsum([len(windows[place].ends) for place in part])
        for place, value in zip(part, np.split(values, counts[:-1]), strict=True):
            found[place] = value
    return found


def cut_windows(windows: Sequence[Window], device: "torch.device") -> list[list[int]]:
    """Windows (by their places) that run at once: of like length, no more than memory takes."""
    return split_by_length(
        [len(window.ids) for window in windows],
        part_cost=part_cost_of(device),
        max_tokens=TOKENS_A_PASS_CPU if device.type == "cpu" else TOKENS_A_PASS_GPU,
    )


def find_reading(classifier: Any) -> Reading:
    """How the model (on the CPU) reads, found by trying: do later steps change earlier ones?"""
    import torch

    was_training = classifier.training
    classifier.eval()
    count = max(2, min(int(classifier.config.get_text_config().vocab_size), 64))
    first = [token % count for token in (11, 7, 5, 3, 2)]
    tails = [[(place + step) * 7 % count for step in range(3)] for place in range(NUM_PROBES)]
    windows = [Window(0, 0, first + tail, [0, 1, 1, 1, 1, 2, 2, 2], [4, 7]) for tail in tails]
    try:
        for reading in (Reading.CAUSAL, Reading.BLOCKS):
            try:
                with torch.inference_mode():
                    said = [classifier(**_pad([one], 0, reading)).logits[0, 4] for one in windows]
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
                continue  # the model takes no such mask
            if all(torch.allclose(said[0], one, rtol=1e-6, atol=1e-6) for one in said):
                return reading
    finally:
        classifier.train(was_training)
    return Reading.WHOLE


def _pad(windows: Sequence[Window], pad_id: int, reading: Reading) -> "dict[str, torch.Tensor]":
    """`input_ids` (n, longest) and `attention_mask`: (n, longest), of blocks (n, 1, l, l)."""
    import torch

    width = max(len(window.ids) for window in windows)
    ids = torch.tensor([[*window.ids, *[pad_id] * (width - len(window.ids))] for window in windows])
    lengths = torch.tensor([len(window.ids) for window in windows])
    is_real = torch.arange(width)[None, :] < lengths[:, None]
    if reading is not Reading.BLOCKS:
        return {"input_ids": ids, "attention_mask": is_real.long()}
    last = max(max(window.segments) for window in windows) + 1
    segments = torch.tensor(
        [[*window.segments, *[last] * (width - len(window.segments))] for window in windows]
    )
    # Padding comes last and sees everything, so that no row of the mask is empty.
    sees = segments[:, None, :] <= segments[:, :, None]
    return {"input_ids": ids, "attention_mask": sees[:, None]}
