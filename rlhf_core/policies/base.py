"""The causal language model that a policy starts from: found, checked, opened.

A base is a folder or a hub id with a causal model and its tokenizer, or a folder with a LoRA
adapter of peft that names such a base. Nothing of a folder is run.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.errors import InvalidInput
from rlhf_core.pretrained import (
    TOKENIZER_FILES,
    first_line,
    load_tokenizer,
    open_pretrained,
    quiet_transformers,
    refuse_foreign_code,
    require_safetensors,
)

ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Base:
    """A checked base: the folder of its weights, and that of an adapter on top (None: none)."""

    folder: Path
    adapter: Path | None = None

    def digest(self) -> str:
        """A hash of all its weights, in hex."""
        digest = hashlib.sha256()
        for folder in (self.folder, *([self.adapter] if self.adapter else [])):
            for file in sorted(folder.glob("*.safetensors")):
                with file.open("rb") as opened:
                    digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()


def open_base(name: str) -> Base:
    """The base that `name` (a folder or a hub id) means.

    Raises InvalidInput if its files would run code or are not safetensors, Unavailable if there is
    no such model here and the hub does not give it.
    """
    folder = Path(name).expanduser()
    if not (name.strip() and (folder / ADAPTER_CONFIG).is_file()):
        return Base(open_pretrained(name))
    refuse_foreign_code(folder, ADAPTER_CONFIG)
    require_safetensors(folder)
    settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    if settings.get("peft_type") != "LORA" or not settings.get("base_model_name_or_path"):
        raise InvalidInput(
            f"{folder / ADAPTER_CONFIG} is of no LoRA adapter that names its base model: train "
            "from a LoRA adapter, or from a whole model.",
            field="base",
        )
    below = open_pretrained(str(settings["base_model_name_or_path"]))
    return Base(below, folder.resolve())


def load_policy_tokenizer(base: Base) -> Any:
    """The tokenizer of the adapter's folder where it has one, else of the base.

    Raises InvalidInput where there is none, or it has no end token: no answer could end.
    """
    folder = base.folder
    if base.adapter and any((base.adapter / name).is_file() for name in TOKENIZER_FILES):
        folder = base.adapter
    tokenizer = load_tokenizer(folder)
    if tokenizer.eos_token_id is None:
        raise InvalidInput(
            f"The tokenizer of {folder} has no end token, so no answer could end: set its "
            "`eos_token` and save it again.",
            field="base",
        )
    return tokenizer


def load_causal(folder: Path, *, dtype: Any = None) -> Any:
    """The causal model of a checked folder, on the CPU, all its weights from there.

    Raises InvalidInput where the folder is none of such a model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with quiet_transformers():
            model, report = AutoModelForCausalLM.from_pretrained(
                str(folder),
                dtype=dtype or torch.float32,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        if report["missing_keys"]:
            raise KeyError(f"without {sorted(report['missing_keys'])[0]}")
    except Exception as error:  # transformers and safetensors raise a dozen kinds
        raise InvalidInput(
            f"{folder} cannot be opened as a causal language model ({type(error).__name__}: "
            f"{first_line(error)}): name another base model.",
            field="base",
        ) from error
    return model


def load_policy(folder: Path, *, dtype: Any = None) -> tuple[Any, Any]:
    """The model (adapters merged into it) and the tokenizer of a trained policy's folder."""
    base = open_base(str(folder))
    model = load_causal(base.folder, dtype=dtype)
    if base.adapter:
        from peft import PeftModel

        with quiet_peft():
            model = PeftModel.from_pretrained(model, str(base.adapter)).merge_and_unload()
    return model.eval(), load_policy_tokenizer(base)


def find_end_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """All tokens that end an answer: the tokenizer's, and those of the model's own settings."""
    settings = getattr(model, "generation_config", None)
    more = getattr(settings, "eos_token_id", None)
    more = more if isinstance(more, list) else [] if more is None else [more]
    return tuple(sorted({int(tokenizer.eos_token_id), *(int(one) for one in more)}))


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Without the warning that peft asks transformers by a name that has another one now."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
        yield
