"""The pretrained model that a reward model starts from: found, checked, opened, given a head.

Nothing of a model's folder is run: a configuration that names code of its own is refused, and
weights are safetensors only. The bundled MiniLM needs no network.
"""

import warnings
from pathlib import Path
from typing import Any, Literal

from rlhf_core.encoder.model import BUNDLED, find_bundled
from rlhf_core.errors import InvalidInput
from rlhf_core.pretrained import (
    PRECISIONS,
    Precision,
    PrecisionName,
    choose_device,
    choose_precision,
    find_max_positions,
    first_line,
    float32_attention,
    load_tokenizer,
    open_pretrained,
    quiet_transformers,
    refuse_foreign_code,
)

__all__ = [
    "PRECISIONS",
    "Precision",
    "PrecisionName",
    "add_lora",
    "choose_device",
    "choose_precision",
    "find_max_positions",
    "float32_attention",
    "load_base",
    "load_tokenizer",
    "merge_lora",
    "open_base",
    "quiet_transformers",
    "refuse_foreign_code",
    "set_dropout",
]

HeadKind = Literal["sequence", "token"]
LORA_DROPOUT = 0.05
LORA_ALPHA_PER_RANK = 2


def open_base(name: str) -> Path:
    """The folder of a base model: `minilm` (bundled, offline), a folder, or a hub id.

    Raises InvalidInput if the files would run code, are not safetensors, or are changed;
    Unavailable if there is no such model here and the hub does not give it.
    """
    if name == BUNDLED:
        return find_bundled()
    return open_pretrained(name, otherwise=f"`{BUNDLED}` (bundled)")


def load_base(
    folder: Path,
    *,
    head: HeadKind = "sequence",
    num_labels: int = 1,
    seed: int = 0,
    is_trained: bool = False,
) -> Any:
    """The model of a checked folder in float32 on the CPU, with a fresh (or stored) head.

    `sequence`: `AutoModelForSequenceClassification`, logits (n, num_labels); `token`:
    `AutoModelForTokenClassification`, logits (n, tokens, num_labels). A new head is drawn by
    `seed` (0 to 2**32 - 1); `is_trained` says that every weight must come from the folder.
    Raises InvalidInput where the folder is none of such a model.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    classes = {
        "sequence": AutoModelForSequenceClassification,
        "token": AutoModelForTokenClassification,
    }
    torch.manual_seed(seed)
    try:
        with quiet_transformers():
            model, report = classes[head].from_pretrained(
                str(folder),
                num_labels=num_labels,
                dtype=torch.float32,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=not is_trained,
                output_loading_info=True,
            )
        if is_trained and report["missing_keys"]:
            raise KeyError(f"without {sorted(report['missing_keys'])[0]}")
    except Exception as error:  # transformers and safetensors raise a dozen kinds
        raise InvalidInput(
            f"{folder} cannot be opened as a classifier ({type(error).__name__}: "
            f"{first_line(error)}): name another base model."
        ) from error
    model.config.use_cache = False
    return model


def set_dropout(model: Any, *, hidden: float | None = None, attention: float | None = None) -> None:
    """Set the dropout rates (0..1) of a model's parts; None leaves those as they are.

    Dropout inside attention keeps torch from its quick attention on a CPU; that on the states
    between layers regularises as well, and costs next to nothing.
    """
    import torch

    for name, module in model.named_modules():
        is_attention = "attention" in name or "attn" in name.rsplit(".", 2)[-1]
        if isinstance(module, torch.nn.Dropout):
            inside = is_attention and not name.endswith("output.dropout")
            rate = attention if inside else hidden
            if rate is not None:
                module.p = rate
        for field in ("attention_dropout", "dropout_p"):
            if attention is not None and isinstance(getattr(module, field, None), float):
                setattr(module, field, attention)


def add_lora(model: Any, *, rank: int, head: HeadKind, seed: int = 0) -> Any:
    """The model with LoRA adapters of `rank` on all its linear layers; head trained in full.

    `merge_lora` turns the result into a plain model again.
    """
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=LORA_ALPHA_PER_RANK * rank,
        lora_dropout=LORA_DROPOUT,
        target_modules="all-linear",
        # peft leaves out the head of a sequence classifier by itself, that of tokens not
        exclude_modules=["classifier", "score"] if head == "token" else None,
        task_type=TaskType.SEQ_CLS if head == "sequence" else TaskType.TOKEN_CLS,
    )
    with warnings.catch_warnings():  # peft asks transformers by a name that has another one now
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
        return get_peft_model(model, config)


def merge_lora(model: Any) -> Any:
    """The plain model with the adapters added to its weights; a plain model as it is."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
