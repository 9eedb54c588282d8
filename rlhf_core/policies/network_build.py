"""The network of a base model, opened, checked and made ready to be trained."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.errors import InvalidInput
from rlhf_core.policies.base import Base, load_causal, quiet_peft
from rlhf_core.policies.network import REFERENCE, TRAINED, ActorCritic, last_states
from rlhf_core.policies.ppo_params import PpoParams
from rlhf_core.policies.processes import Processes
from rlhf_core.pretrained import Precision, first_line, quiet_transformers

if TYPE_CHECKING:
    import torch

ALPHA_PER_RANK = 2


def build_network(
    base: Base,
    params: PpoParams,
    precision: Precision,
    device: "torch.device",
    *,
    deal_to: Processes | None = None,
) -> ActorCritic:
    """The network of a checked base, on the device, its weights in the precision's type.

    With `deal_to` they are dealt to the processes, and never lie whole on a GPU but while they are
    used. Raises InvalidInput where the base is no causal model, or one whose logits are more than
    its head's.
    """
    import torch

    dtype = torch.float32 if deal_to else precision.dtype
    model = load_model(base, params, dtype)
    critic = _load_critic(base.folder, params, dtype) if params.critic == "separate" else None
    frozen = None
    if not hasattr(model, "peft_config"):
        frozen = copy.deepcopy(model).requires_grad_(False)
        for weight in frozen.parameters():  # not the buffers: places need float32
            weight.data = weight.data.to(precision.dtype)
    if params.gradient_checkpointing:
        for part in (model, critic):
            if part is not None:
                part.activation_checkpointing_enable({"use_reentrant": False})
    if deal_to is None:
        model, critic, frozen = (
            None if one is None else one.to(device) for one in (model, critic, frozen)
        )
    found = ActorCritic(model, critic=critic, frozen=frozen)
    if not params.gradient_checkpointing:  # with it layers run again, when their use is not known
        found.narrow(is_dealt=deal_to is not None)
    if deal_to is not None:
        found.deal(deal_to, precision.dtype)
    return found


def load_model(base: Base, params: PpoParams, dtype: "torch.dtype") -> Any:
    """What is trained of a checked base, on the CPU: the causal model, or it with an adapter."""
    model = load_causal(base.folder, dtype=dtype)
    _require_plain_head(model, base.folder)
    _drop_dropout(model)
    if params.lora_rank or base.adapter:
        model = _add_adapter(model, base.adapter, params)
    return model


def _require_plain_head(model: Any, folder: Path) -> None:
    """Raise InvalidInput unless the logits are the output layer's of the trunk's states."""
    import torch

    ids = torch.arange(1, 4)[None] % model.config.get_text_config().vocab_size
    with torch.inference_mode():
        whole = model(input_ids=ids, use_cache=False).logits
        head = model.get_output_embeddings()
        is_plain = head is not None and torch.allclose(
            head(last_states(model.base_model, ids)).float(), whole.float(), atol=1e-3, rtol=1e-3
        )
    if not is_plain:
        raise InvalidInput(
            f"{folder} is of a kind ({model.config.model_type}) that changes its logits after the "
            "output layer, which PPO does not follow: name another base model.",
            field="base",
        )


def _drop_dropout(model: Any) -> None:
    """Set all dropout to 0: sampling and learning must see the same policy."""
    import torch

    model.eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for field in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, field, None), float):
                setattr(module, field, 0.0)


def _load_critic(folder: Path, params: PpoParams, dtype: "torch.dtype") -> Any:
    """A trunk of the lowest layers of the base, with weights of its own."""
    from transformers import AutoConfig, AutoModel

    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(
                str(folder), trust_remote_code=False, local_files_only=True
            )
            num_layers = min(params.critic_layers, config.get_text_config().num_hidden_layers)
            kinds = getattr(config, "layer_types", None)
            config.num_hidden_layers = num_layers
            if kinds:
                config.layer_types = kinds[:num_layers]
            critic = AutoModel.from_pretrained(
                str(folder),
                config=config,
                dtype=dtype,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
            )
    except Exception as error:  # transformers and safetensors raise a dozen kinds
        raise InvalidInput(
            f"No critic can be cut from {folder} ({type(error).__name__}: {first_line(error)}): "
            "choose critic shared.",
            field="critic",
        ) from error
    _drop_dropout(critic)
    return critic


def _add_adapter(model: Any, adapter: Path | None, params: PpoParams) -> Any:
    """The model with the adapter that is trained, and a frozen copy of it where it is no new one.

    Raises InvalidInput where a new rank is asked for on top of an adapter.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    if adapter is None:
        torch.manual_seed(params.seed)
        config = LoraConfig(
            r=params.lora_rank,
            lora_alpha=ALPHA_PER_RANK * params.lora_rank,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        with quiet_peft():
            return get_peft_model(model, config, autocast_adapter_dtype=False)
    try:
        with quiet_peft():
            found = PeftModel.from_pretrained(
                model, str(adapter), is_trainable=True, autocast_adapter_dtype=False
            )
            found.load_adapter(
                str(adapter), REFERENCE, is_trainable=False, autocast_adapter_dtype=False
            )
        found.set_adapter(TRAINED)
    except Exception as error:
        raise InvalidInput(
            f"The adapter {adapter} does not fit its base model ({type(error).__name__}: "
            f"{first_line(error)}): name another base.",
            field="base",
        ) from error
    rank = found.peft_config[TRAINED].r
    if params.lora_rank not in (0, rank):
        raise InvalidInput(
            f"lora_rank {params.lora_rank}: the adapter {adapter} has rank {rank}; choose 0 or "
            f"{rank} to go on with it.",
            field="lora_rank",
        )
    _drop_dropout(found)
    return found
