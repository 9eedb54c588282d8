"""What may be set of each learner: sensible as it stands, and said in plain words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import streamlit as st

from rlhf_core.vocabulary import JobKind

OPTIONS_A_ROW = 3
MAX_SEEDS_OFFERED = 10
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class Option:
    """A field of a learner's parameters. With `choices` it is a list, else a number.

    `names` are the choices' words; with `is_open` others may be typed.
    """

    name: str
    label: str
    help: str
    choices: tuple[Any, ...] = ()
    names: tuple[str, ...] = ()
    is_open: bool = False
    low: float = 0
    high: float = 1
    step: float | None = None
    format: str | None = None


SEED = Option(
    "seed",
    "Seed",
    "Decides what is left to chance. The same seed and rows give the same model.",
    high=MAX_SEED,
)
BASE = Option(
    "base",
    "Base model",
    "What is fine-tuned. MiniLM comes with the product. Others are loaded by their hub id, or from "
    "a folder on this machine: type either.",
    choices=("minilm", "distilroberta-base", "answerdotai/ModernBERT-base"),
    names=("MiniLM (offline)", "distilroberta-base", "ModernBERT base"),
    is_open=True,
)
EPOCHS = Option(
    "epochs",
    "Epochs",
    "How often every row is seen. More takes longer and may learn the rows by heart.",
    low=1,
    high=50,
)
MAX_TOKENS = Option(
    "max_tokens",
    "Longest text (tokens)",
    "Prompt and completion together; a token is about three quarters of a word. Longer ones are "
    "cut, and the run says how many.",
    low=16,
    high=8_192,
    step=64,
)
BATCH_SIZE = Option(
    "batch_size",
    "Rows a step",
    "More is steadier and needs more memory.",
    low=1,
    high=512,
)
LEARNING_RATE = Option(
    "lr",
    "Learning rate",
    "How far each step goes. Halve it where the loss jumps up and down.",
    low=0.000001,
    high=0.1,
    step=0.00001,
    format="%.6f",
)
LORA = Option(
    "lora_rank",
    "LoRA rank (0 trains all weights)",
    "Trains small added matrices only. Saves memory with large base models; MiniLM needs none.",
    high=256,
    step=8,
)
PRECISION = Option(
    "precision",
    "Precision",
    "16-bit numbers are faster where the machine has them; automatic chooses.",
    choices=("auto", "fp32", "bf16", "fp16"),
    names=("automatic", "32 bit", "16 bit (bfloat)", "16 bit (float)"),
)
PATIENCE = Option(
    "patience",
    "Stop early after (epochs)",
    "So many epochs without a better result on rows held out end the run; 0 never does.",
    high=20,
)
OPTIONS: dict[JobKind, tuple[Option, ...]] = {
    JobKind.TRAIN_SBERT: (
        Option(
            "folds",
            "Parts to cross-validate with",
            "The prompts are dealt into so many parts; each is tested with a model of the others.",
            low=2,
            high=20,
        ),
        SEED,
    ),
    JobKind.TRAIN_TRANSFORMER: (
        BASE,
        EPOCHS,
        MAX_TOKENS,
        Option(
            "overlong",
            "A completion that is too long is",
            "The prompt is cut first, from its beginning.",
            choices=("cut", "drop"),
            names=("cut at its end", "left out"),
        ),
        BATCH_SIZE,
        LEARNING_RATE,
        LORA,
        PRECISION,
        PATIENCE,
        SEED,
    ),
    JobKind.TRAIN_STEPS: (BASE, EPOCHS, MAX_TOKENS, BATCH_SIZE, LEARNING_RATE, SEED),
}


def ask_options(learner: JobKind, start: Mapping[str, Any]) -> dict[str, Any]:
    """What is set otherwise than the learner would by itself; `start`: what is set at first."""
    with st.expander("Options of the learner", key="options"):
        return ask_each(OPTIONS[learner], default_options(learner), start, learner)


def ask_each(
    offered: Sequence[Option],
    defaults: Mapping[str, Any],
    start: Mapping[str, Any],
    learner: JobKind,
) -> dict[str, Any]:
    """Ask for the options, some in a row; what is not as the defaults are."""
    chosen: dict[str, Any] = {}
    for first in range(0, len(offered), OPTIONS_A_ROW):
        row = offered[first : first + OPTIONS_A_ROW]
        columns = st.columns(OPTIONS_A_ROW, vertical_alignment="bottom")
        for option, place in zip(row, columns, strict=False):
            default = defaults[option.name]
            with place:
                value = _ask(option, default, start.get(option.name, default), learner)
            if value != default:
                chosen[option.name] = value
    return chosen


def ask_ensemble(seeds: int, with_judge: bool) -> tuple[int, bool]:
    """How many models to train alike, and whether a judge is trained beside."""
    left, right = st.columns(2, vertical_alignment="bottom")
    chosen = left.number_input(
        "Models in the ensemble",
        min_value=1,
        max_value=MAX_SEEDS_OFFERED,
        value=min(seeds, MAX_SEEDS_OFFERED),
        key="seeds",
        help="Several models, each from another seed, score by their mean; where they disagree, "
        "the score is a guess. Three to five are usual before training a policy; the run takes as "
        "many times as long.",
    )
    is_judged = right.toggle(
        "Also train a held-out judge",
        value=with_judge,
        key="with_judge",
        help="A second model learns from the other half of the prompts. It rewards nothing, so it "
        "can tell whether a policy got better or only learnt to please the reward model. Both "
        "then learn from half of the rows.",
    )
    return int(chosen), is_judged


def default_options(learner: JobKind) -> dict[str, Any]:
    """What the learner does unless told otherwise, by the names of its parameters."""
    return {field.name: field.default for field in fields(_params_class(learner))}


def _params_class(learner: JobKind) -> Any:
    match learner:
        case JobKind.TRAIN_TRANSFORMER:
            from rlhf_core.rewards.transformer_params import TransformerParams

            return TransformerParams
        case JobKind.TRAIN_STEPS:
            from rlhf_core.rewards.steps import StepParams

            return StepParams
        case _:
            from rlhf_core.rewards.sbert import SbertParams

            return SbertParams


def _ask(option: Option, default: Any, value: Any, learner: JobKind) -> Any:
    key = f"{option.name}_{learner.value}"
    if isinstance(default, bool):
        return st.toggle(option.label, value=bool(value), key=key, help=option.help)
    if option.choices:
        names = dict(zip(option.choices, option.names, strict=True))
        choices = option.choices if value in option.choices else (*option.choices, value)
        return st.selectbox(
            option.label,
            choices,
            index=choices.index(value),
            format_func=lambda each: names.get(each, each),
            accept_new_options=option.is_open,
            key=key,
            help=option.help,
        )
    number: Any = int if isinstance(default, int) else float
    return st.number_input(
        option.label,
        min_value=number(option.low),
        max_value=number(option.high),
        value=None if value is None else number(min(max(value, option.low), option.high)),
        step=number(option.step or (1 if number is int else 0.1)),
        format=option.format,
        placeholder="none" if default is None else None,
        key=key,
        help=option.help,
    )
