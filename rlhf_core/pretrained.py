"""Pretrained models: found, checked, and what they compute on. Shared by all learners.

Nothing of a model's folder is run: a configuration that names code of its own is refused, and
weights are safetensors only.
"""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlhf_core.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    import torch

PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[PrecisionName, ...] = ("auto", "fp32", "bf16", "fp16")
FLOAT32_ATTENTION = "sdpa_in_float32"
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]
HUB_UNUSED = ["onnx/*", "openvino/*"]
TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip


@dataclass(frozen=True)
class Precision:
    """How a training step computes. `dtype` of autocast ("float32": none); fp16 needs scaling."""

    name: PrecisionName
    dtype: "torch.dtype"
    needs_scaler: bool = False

    def autocast(self, device: "torch.device") -> AbstractContextManager[Any]:
        """The context in which the model runs forward."""
        import torch

        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.dtype)


def open_pretrained(name: str, *, otherwise: str = "") -> Path:
    """The folder of a base model: `name` is a folder, or a hub id.

    `otherwise` ends the sentence that refuses a name ("or `minilm` (bundled)"). Raises InvalidInput
    if the files would run code, are not safetensors, or there is no such name; Unavailable if the
    hub does not give it.
    """
    folder = find_folder(name, what="base model", otherwise=otherwise)
    refuse_foreign_code(folder)
    require_safetensors(folder)
    return folder


def find_folder(name: str, *, what: str, otherwise: str = "") -> Path:
    """The folder that `name` is, or to which the files of that hub id are fetched.

    `what` says in sentences what is looked for. Raises InvalidInput if there is no such name,
    Unavailable if the hub does not give it.
    """
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        return folder.resolve()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    is_path = name.startswith(("/", ".", "~")) or name.count("/") > 1 or os.sep * 2 in name
    try:
        if is_path or not name.strip():
            raise HFValidationError(name)
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, ignore_patterns=HUB_UNUSED))
    except HFValidationError as error:
        raise InvalidInput(
            f"There is no {what} {name!r}: no folder of that name, and no id of the hub. "
            f"Name one that exists{otherwise and ', or ' + otherwise}.",
            field="base",
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise Unavailable(
            f"The {what} {name!r} could not be fetched: check the name and the network, or "
            f"use {otherwise or 'a folder'}."
        ) from error


def refuse_foreign_code(folder: Path, config: str = "config.json") -> None:
    """Raise InvalidInput where the folder is no model, or names Python code of its own."""
    for name in (config, "tokenizer_config.json"):
        file = folder / name
        if name == "tokenizer_config.json" and not file.exists():
            continue
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{folder} holds no model: {name} cannot be read.") from error
        if not isinstance(settings, dict):
            raise InvalidInput(f"{folder} holds no model: {name} is no JSON object.")
        if "auto_map" in settings or "custom_pipelines" in settings:
            raise InvalidInput(
                f"{file} names Python code of its own, which is never run: name a base model of "
                "an architecture that transformers has."
            )


def require_safetensors(folder: Path) -> None:
    """Raise InvalidInput where the folder holds no weights, or none that are safe to load."""
    if not any(folder.glob("*.safetensors")):
        raise InvalidInput(
            f"{folder} holds no weights as safetensors: save the model with "
            "`save_pretrained(..., safe_serialization=True)`, or name another base model."
        )


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a checked folder; it has a padding token, and pads on the right.

    Raises InvalidInput where the folder holds none.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InvalidInput(  # transformers would make up an empty one
            f"{folder} holds no tokenizer: save it beside the model with "
            "`tokenizer.save_pretrained`."
        )
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder), trust_remote_code=False, local_files_only=True
            )
    except Exception as error:
        raise InvalidInput(
            f"The tokenizer of {folder} cannot be opened ({type(error).__name__}: "
            f"{first_line(error)}): save it again with `tokenizer.save_pretrained`."
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise InvalidInput(f"The tokenizer of {folder} has neither a padding nor an end token.")
    tokenizer.padding_side = "right"
    return tokenizer


def find_max_positions(model: Any, tokenizer: Any) -> int:
    """How many tokens the model can read at once; a million where it names no limit."""
    config = model.config.get_text_config()
    positions = int(getattr(config, "max_position_embeddings", 0) or 10**6)
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= int(config.pad_token_id or 0) + 1  # they count positions from there
    return min(positions, int(tokenizer.model_max_length or 10**6), 10**6)


def choose_device() -> "torch.device":
    """The GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(name: PrecisionName, device: "torch.device") -> Precision:
    """What `name` means on the device. `auto`: 16 bits where the device computes so natively.

    Raises InvalidInput for fp16 on a CPU, which has no use for it.
    """
    import torch

    on_gpu = device.type == "cuda"
    if name == "fp16" and not on_gpu:
        raise InvalidInput("precision fp16 needs a GPU: choose auto, bf16 or fp32.")
    if name == "auto":
        if on_gpu:
            name = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        else:
            name = "bf16" if _has_native_bf16() else "fp32"
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return Precision(name=name, dtype=dtypes[name], needs_scaler=name == "fp16")


@contextmanager
def float32_attention(model: Any, *, is_on: bool) -> Iterator[None]:
    """Run the attention of a model in float32 within a 16-bit step, where `is_on`.

    A CPU goes back through attention in bfloat16 twice as slowly as in float32; all else is
    quicker in 16 bits. A model that has no such attention to choose from stays as it is.
    """
    before = getattr(model.config, "_attn_implementation", None)
    if not is_on or before != "sdpa":
        yield
        return
    _register_float32_attention()
    model.set_attn_implementation(FLOAT32_ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _register_float32_attention() -> None:
    """Name the attention to transformers; once more does no harm."""
    import torch
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    def attend(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        if attention_mask is not None and attention_mask.is_floating_point():
            attention_mask = attention_mask.float()
        with torch.autocast(query.device.type, enabled=False):
            mixed, _ = sdpa_attention_forward(
                module, query.float(), key.float(), value.float(), attention_mask, **options
            )
        return mixed.to(query.dtype), None

    AttentionInterface.register(FLOAT32_ATTENTION, attend)
    AttentionMaskInterface.register(FLOAT32_ATTENTION, sdpa_mask)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' bars and its report of a fresh head, which is always fresh here."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    had_bar = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bar:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """The first line of what a library said, shortened."""
    return (str(error).strip().splitlines() or [""])[0][:200]


def _has_native_bf16() -> bool:
    """Whether this processor multiplies bfloat16 itself; emulated, it is slower than float32."""
    import torch

    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    native = any(getattr(torch.cpu, check, lambda: False)() for check in checks)
    return native and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
