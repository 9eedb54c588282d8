"""Lean norms and places beside transformers' own: the same states, the same gradients."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen3Config,
)

from rlhf_core.policies.lean_layers import LeanLayers

SIZES: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
IDS = torch.arange(24).view(2, 12) % 50


def make(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    return model.to(dtype).eval()


def gradients(model: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logits = model(input_ids=IDS).logits.float()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), IDS.flatten()).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize(
    "config", [LlamaConfig(**SIZES), Qwen3Config(**SIZES), MistralConfig(**SIZES)]
)
def test_gradients_are_those_of_the_model_itself(config: PreTrainedConfig) -> None:
    model = make(config)
    expected = gradients(model)
    with LeanLayers(model).on():
        assert num_lean_steps(model) >= 2 * 4 + 1  # two layers of two norms and two turns
        found = gradients(model)
    assert num_lean_steps(model) == 0
    for name, one in expected.items():
        assert torch.allclose(found[name], one, atol=1e-6, rtol=1e-4), name


def num_lean_steps(model: Any) -> int:
    """How many lean norms and turns the way back leads through."""
    seen: set[Any] = set()
    todo = [model(input_ids=IDS).logits.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [following for following, _ in node.next_functions]
    return sum(type(node).__name__ in ("NormBackward", "TurnBackward") for node in seen)


def test_bfloat16_gradients_are_as_near_to_the_truth_as_the_models_own() -> None:
    truth = gradients(make(LlamaConfig(**SIZES)))
    model = make(LlamaConfig(**SIZES), torch.bfloat16)
    theirs = gradients(model)
    with LeanLayers(model).on():
        ours = gradients(model)

    def error(found: dict[str, torch.Tensor]) -> float:
        return sum(float((found[name].float() - truth[name]).square().sum()) for name in truth)

    assert error(ours) < 1.5 * error(theirs)


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**SIZES),  # a norm of weight + 1
        Phi3Config(**SIZES, rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.5,
                                             "rope_type": "default"}),
        GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4),
    ],
)  # fmt: skip
def test_models_of_another_make_stay_right(config: PreTrainedConfig) -> None:
    model = make(config)
    expected = gradients(model)
    with LeanLayers(model).on():
        found = gradients(model)
    for name, one in expected.items():
        assert torch.allclose(found[name], one, atol=1e-6, rtol=1e-4), name


def test_layers_are_their_own_again_afterwards_also_after_an_error() -> None:
    from transformers.models.llama import modeling_llama

    model = make(LlamaConfig(**SIZES))
    turn = modeling_llama.apply_rotary_pos_emb

    def fail() -> None:
        with LeanLayers(model).on():
            assert modeling_llama.apply_rotary_pos_emb is not turn
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert modeling_llama.apply_rotary_pos_emb is turn
    assert not any("forward" in part.__dict__ for part in model.modules())


def test_frozen_weights_get_no_gradient() -> None:
    model = make(LlamaConfig(**SIZES))
    model.model.norm.weight.requires_grad_(False)
    with LeanLayers(model).on():
        model(input_ids=IDS).logits.sum().backward()
    assert model.model.norm.weight.grad is None
    assert model.model.layers[0].input_layernorm.weight.grad is not None
