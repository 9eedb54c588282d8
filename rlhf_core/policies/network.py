"""Policy, critic and reference: one trunk with two heads, and what it was before training.

The value head sits on the policy's own trunk, or on a small one of its own. The reference is a
frozen copy where all weights are trained; with LoRA it is the trunk with the adapter switched off,
or with a frozen copy of the adapter that training started from.
"""

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.errors import InvalidInput
from rlhf_core.policies.base import Base, load_causal, quiet_peft
from rlhf_core.policies.narrow import Narrowed
from rlhf_core.policies.ppo_params import PpoParams
from rlhf_core.pretrained import Precision, first_line, quiet_transformers

if TYPE_CHECKING:
    import torch

ALPHA_PER_RANK = 2
TRAINED, REFERENCE = "default", "reference"


class ActorCritic:
    """A causal model (plain, or with a LoRA adapter) with a value head.

    `model` is what is trained and saved; `critic` a trunk of its own for the values (None: the
    policy's). The reference needs `frozen` (a copy of the model) where all weights are trained.
    """

    def __init__(self, model: Any, *, critic: Any = None, frozen: Any = None) -> None:
        import torch

        self.model = model
        self.critic = critic
        self._frozen = frozen
        self.is_adapted = hasattr(model, "peft_config")
        causal = model.get_base_model() if self.is_adapted else model
        self._trunk = causal.base_model
        self.head = causal.get_output_embeddings()
        self.config = causal.config
        self.device: torch.device = self.head.weight.device
        self._takes_positions = "position_ids" in inspect.signature(self._trunk.forward).parameters
        width = (critic or causal).config.get_text_config().hidden_size
        self.value_head = torch.nn.Linear(width, 1).to(self.device)
        torch.nn.init.zeros_(self.value_head.weight)
        torch.nn.init.zeros_(self.value_head.bias)
        self._narrowed: dict[str, Narrowed] = {}

    def states(
        self,
        ids: "torch.Tensor",
        *,
        mask: "torch.Tensor | None" = None,
        positions: "torch.Tensor | None" = None,
        cache: Any = None,
    ) -> "torch.Tensor":
        """The trunk's last states (rows, tokens, width) for ids (rows, tokens)."""
        options = {"position_ids": positions} if self._takes_positions else {}
        return _last(self._trunk, ids, mask, past_key_values=cache, **options)

    def values(self, states: "torch.Tensor") -> "torch.Tensor":
        """The critic's values (n,) in float32 at its states (n, width)."""
        found: torch.Tensor = self.value_head(states.float())[..., 0]
        return found

    def answer_states(
        self,
        prompts: Sequence[Sequence[int]],
        tokens: "torch.Tensor",
        lengths: Sequence[int],
        *,
        of: str = "policy",
    ) -> "torch.Tensor":
        """The states before each token of the answers, row after row: (sum of lengths, width).

        `tokens` (rows, T) are the answers' ids, of which the first `lengths` are real. `of` names
        the trunk: policy, critic, or reference. The rows should be of like length: they are padded
        on the right, where causal attention needs no mask.
        """
        import torch

        rows = [
            [*prompt, *answer[: length - 1]]
            for prompt, answer, length in zip(prompts, tokens.tolist(), lengths, strict=True)
        ]
        width = max(len(row) for row in rows)
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=self.device)
        listed = [
            row * width + len(prompt) - 1 + step
            for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True))
            for step in range(length)
        ]
        places = torch.tensor(listed, device=self.device)
        narrowed = self._narrowed.get(of, self._narrowed.get("policy"))
        with narrowed.at(places) if narrowed else nullcontext():
            if of == "reference" and self._frozen is not None:
                states = _last(self._frozen.base_model, ids)
            elif of == "critic" and self.critic is not None:
                states = _last(self.critic, ids)
            else:
                states = self.states(ids)
        return states.reshape(-1, states.shape[-1])[places]

    def narrow(self) -> None:
        """From now on, compute in the last layer of each trunk what `answer_states` gives alone."""
        trunks = {"policy": self._trunk, "critic": self.critic}
        if self._frozen is not None:
            trunks["reference"] = self._frozen.base_model
        self._narrowed = {name: Narrowed(one) for name, one in trunks.items() if one is not None}

    @contextmanager
    def as_reference(self) -> Iterator[Any]:
        """Within, `answer_states(..., of="reference")` are the reference's; yields its head."""
        if self._frozen is not None:
            yield self._frozen.get_output_embeddings()
        elif REFERENCE in self.model.peft_config:
            try:
                self.model.base_model.set_adapter(REFERENCE, inference_mode=True)
                yield self.head
            finally:
                self.model.base_model.set_adapter(TRAINED)
        else:
            with self.model.disable_adapter():
                yield self.head

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Within, gradient checkpointing (if asked for) holds; without, the cache of sampling.

        Nothing else changes: there is no dropout.
        """
        parts = [part for part in (self.model, self.critic) if part is not None]
        try:
            for part in parts:
                part.train()
            yield
        finally:
            for part in parts:
                part.eval()

    def trained(self) -> "dict[str, torch.Tensor]":
        """The policy's (and a separate critic's) trained weights, by name, without the head's."""
        found = {f"model/{name}": value for name, value in self.model.named_parameters()}
        if self.critic is not None:
            found |= {f"critic/{name}": value for name, value in self.critic.named_parameters()}
        return {name: value for name, value in found.items() if value.requires_grad}

    def head_weights(self) -> "dict[str, torch.Tensor]":
        """The value head's weights, by name."""
        return {f"value/{name}": value for name, value in self.value_head.named_parameters()}


def build_network(
    base: Base, params: PpoParams, precision: Precision, device: "torch.device"
) -> ActorCritic:
    """The network of a checked base, on the device, its weights in the precision's type.

    Raises InvalidInput where the base is no causal model, or one whose logits are more than its
    head's.
    """
    model = load_causal(base.folder, dtype=precision.dtype)
    _require_plain_head(model, base.folder)
    _drop_dropout(model)
    critic = _load_critic(base.folder, params, precision) if params.critic == "separate" else None
    frozen = None
    if params.lora_rank or base.adapter:
        model = _add_adapter(model, base.adapter, params)
    else:
        frozen = copy.deepcopy(model).requires_grad_(False).eval().to(device)
    if params.gradient_checkpointing:
        for part in (model, critic):
            if part is not None:
                part.activation_checkpointing_enable({"use_reentrant": False})
    found = ActorCritic(
        model.to(device), critic=critic.to(device) if critic else None, frozen=frozen
    )
    if not params.gradient_checkpointing:  # with it layers run again, when their use is not known
        found.narrow()
    return found


def _last(
    trunk: Any, ids: "torch.Tensor", mask: "torch.Tensor | None" = None, **options: Any
) -> "torch.Tensor":
    use_cache = options.get("past_key_values") is not None
    found = trunk(input_ids=ids, attention_mask=mask, use_cache=use_cache, **options)
    states: torch.Tensor = found.last_hidden_state
    return states


def _require_plain_head(model: Any, folder: Path) -> None:
    """Raise InvalidInput unless the logits are the output layer's of the trunk's states."""
    import torch

    ids = torch.arange(1, 4)[None] % model.config.get_text_config().vocab_size
    with torch.inference_mode():
        whole = model(input_ids=ids, use_cache=False).logits
        head = model.get_output_embeddings()
        is_plain = head is not None and torch.allclose(
            head(_last(model.base_model, ids)).float(), whole.float(), atol=1e-3, rtol=1e-3
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


def _load_critic(folder: Path, params: PpoParams, precision: Precision) -> Any:
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
                dtype=precision.dtype,
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
