"""Trunks run leaner: the states and the gradients that the model itself has."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from rlhf_core.policies.base import quiet_peft
from rlhf_core.policies.lean_trunk import LeanTrunk, make_lean

SIZES: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
ROWS = [[3, 4, 5, 6, 7], [8, 9], [10, 11, 12, 13]]
WANTED = torch.tensor([1, 4, 6, 10])  # of the eleven tokens, one after the other
STRETCHED = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 4,
}  # fmt: skip
KNOWN = {
    "llama": LlamaConfig(**SIZES),
    "large heads": LlamaConfig(**SIZES | {"num_key_value_heads": 4, "head_dim": 16}),
    "stretched places": LlamaConfig(**SIZES, rope_parameters=STRETCHED),
    "qwen2": Qwen2Config(**SIZES),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
}
UNKNOWN = {
    "norms of weight + 1": Gemma2Config(**SIZES),
    "norms of query and key": Qwen3Config(**SIZES),
    "one projection for three": Phi3Config(**SIZES),
    "parts put together otherwise": GraniteConfig(**SIZES, residual_multiplier=0.5),
    "a window": MistralConfig(**SIZES, sliding_window=3),
    "another activation": LlamaConfig(**SIZES, hidden_act="gelu"),
    "a bias in the feed-forward part": LlamaConfig(**SIZES, mlp_bias=True),
    "a bias in the output projection": LlamaConfig(**SIZES, attention_bias=True),
    "other parts": GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4),
}


def make(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
            elif "bias" in name:
                weight.normal_()
    return model.to(dtype).eval()


def lean(model: Any) -> LeanTrunk:
    found = make_lean(model.base_model)
    assert found is not None
    return found


def their_states(model: Any, rows: list[list[int]]) -> torch.Tensor:
    """The states of each row run alone, one after the other."""
    return torch.cat([model.base_model(torch.tensor([row])).last_hidden_state[0] for row in rows])


def gradients(model: Any, states: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    weights = torch.linspace(-1.0, 1.0, states.numel()).view(states.shape)
    (states.float() * weights).sum().backward()
    trunk = model.base_model.named_parameters()
    return {name: weight.grad.float().clone() for name, weight in trunk}


@pytest.mark.parametrize("config", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1] * 2], ids=["ragged", "even"])
@pytest.mark.parametrize("wanted", [None, WANTED[:3]], ids=["all", "some"])
def test_states_and_gradients_are_those_of_the_model_itself(
    config: PreTrainedConfig, rows: list[list[int]], wanted: torch.Tensor | None
) -> None:
    model = make(config)
    theirs = their_states(model, rows)
    ours = lean(model).run_rows(rows, wanted)
    theirs = theirs if wanted is None else theirs[wanted]
    assert torch.allclose(ours, theirs, atol=1e-5)
    expected, found = gradients(model, theirs), gradients(model, ours)
    for name, one in expected.items():
        assert torch.allclose(found[name], one, atol=1e-5, rtol=1e-4), name


@pytest.mark.parametrize("wanted", [None, WANTED], ids=["all", "some"])
def test_in_bfloat16_gradients_are_as_near_to_the_truth_as_the_models_own(
    wanted: torch.Tensor | None,
) -> None:
    def pick(states: torch.Tensor) -> torch.Tensor:
        return states if wanted is None else states[wanted]

    exact = make(LlamaConfig(**SIZES))
    truth = gradients(exact, pick(their_states(exact, ROWS)))
    model = make(LlamaConfig(**SIZES), torch.bfloat16)
    theirs = gradients(model, pick(their_states(model, ROWS)))
    ours = gradients(model, lean(model).run_rows(ROWS, wanted))

    def error(found: dict[str, torch.Tensor]) -> float:
        return sum(float((found[name] - truth[name]).square().sum()) for name in truth)

    assert 0.0 < error(ours) < 1.5 * error(theirs)


def test_products_in_bfloat16_have_few_shapes() -> None:
    """Each one of another shape would be prepared anew, and stay in memory."""
    trunk, shapes = lean(make(LlamaConfig(**SIZES), torch.bfloat16)), set()
    for count in range(1, 12):
        rows = [list(range(1, count + 2)), [5] * count]
        with torch.profiler.profile(record_shapes=True) as profile:
            trunk.run_rows(rows, torch.tensor([0])).sum().backward()
        for event in profile.events() or ():
            if event.name in ("aten::mm", "aten::addmm", "aten::addmm_"):
                shapes |= {size for shape in event.input_shapes for size in shape[:1]}
    assert shapes <= {64, *(size for key, size in SIZES.items() if "size" in key), 16, 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_with_a_cache_and_padding_states_are_those_of_the_model_itself(dtype: torch.dtype) -> None:
    model = make(Qwen2Config(**SIZES), dtype)
    width = max(len(row) for row in ROWS)
    ids = torch.tensor([[0] * (width - len(row)) + row for row in ROWS])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * (len(row) + 1) for row in ROWS])
    positions = mask.cumsum(-1).sub(1).clamp(min=0)
    cache, trunk = DynamicCache(config=model.config), lean(model)
    with torch.inference_mode():
        first = trunk.run(ids, mask=mask[:, :width], positions=positions[:, :width], cache=cache)
        last = trunk.run(ids[:, -1:], mask=mask, positions=positions[:, width:], cache=cache)
        for row, tokens in enumerate(ROWS):
            whole = model.base_model(torch.tensor([[*tokens, tokens[-1]]])).last_hidden_state[0]
            found = torch.cat([first[row, width - len(tokens) :], last[row]])
            tolerance = 1e-5 if dtype == torch.float32 else 0.05
            assert torch.allclose(found.float(), whole.float(), atol=tolerance)


@pytest.mark.parametrize("config", UNKNOWN.values(), ids=UNKNOWN)
def test_models_of_another_make_are_left_alone(config: PreTrainedConfig) -> None:
    assert make_lean(make(config).base_model) is None


def test_a_model_with_an_adapter_is_left_alone() -> None:
    from peft import LoraConfig, get_peft_model

    with quiet_peft():
        model = get_peft_model(make(LlamaConfig(**SIZES)), LoraConfig(target_modules=["q_proj"]))
    assert make_lean(model.get_base_model().base_model) is None


def test_frozen_weights_get_no_gradient() -> None:
    model = make(LlamaConfig(**SIZES))
    model.model.layers[0].input_layernorm.weight.requires_grad_(False)
    lean(model).run_rows(ROWS).sum().backward()
    assert model.model.layers[0].input_layernorm.weight.grad is None
    assert model.model.layers[0].self_attn.q_proj.weight.grad is not None


def test_a_change_of_the_weights_is_seen_at_once() -> None:
    model = make(LlamaConfig(**SIZES))
    trunk = lean(model)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.zero_()
    assert torch.allclose(trunk.run_rows(ROWS), their_states(model, ROWS), atol=1e-5)
