"""Policy, critic and reference: which weights each is made of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlhf_core.errors import InvalidInput
from rlhf_core.policies.base import load_causal, load_policy, open_base
from rlhf_core.policies.network import ActorCritic
from rlhf_core.policies.network_build import build_network
from rlhf_core.policies.ppo_params import PpoParams
from rlhf_core.policies.scoring import cut_rows
from rlhf_core.pretrained import Precision, choose_precision
from tests.core.policies.tiny_policies import (
    count_of,
    make_adapter,
    make_policy,
    train,
)

CPU = torch.device("cpu")
IDS = torch.tensor([[4, 5, 6, 7, 8]])


def build(base: Path, **options: Any) -> ActorCritic:
    params = PpoParams(base=str(base), precision="fp32", **options)
    return build_network(open_base(str(base)), params, choose_precision("fp32", CPU), CPU)


def reference_logits(policy: ActorCritic) -> torch.Tensor:
    """At the tokens 2 to 5 of IDS, as if they were the answer to the first."""
    with torch.no_grad(), policy.as_reference() as head:
        states = policy.answer_states([[4]], IDS[:, 1:], [4], of="reference")
        found: torch.Tensor = head(states)
    return found


def own_logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits[0, :4]
    return found


def disturb(policy: ActorCritic) -> None:
    with torch.no_grad():
        for value in policy.trained().values():
            value.add_(torch.randn_like(value) * 0.3)


def test_with_the_adapter_off_the_reference_is_the_base(tiny: Path) -> None:
    policy = build(tiny, lora_rank=4)
    disturb(policy)
    base = own_logits(load_causal(tiny).eval())
    assert not torch.allclose(own_logits(policy.model), base, atol=1e-2)
    assert torch.allclose(reference_logits(policy), base, atol=1e-6)
    assert not torch.allclose(own_logits(policy.model), base, atol=1e-2)  # and on again


def test_of_a_full_model_the_reference_is_a_frozen_copy(tiny: Path) -> None:
    policy = build(tiny)
    disturb(policy)
    assert torch.allclose(reference_logits(policy), own_logits(load_causal(tiny).eval()), atol=1e-6)


def test_from_an_sft_adapter_the_reference_is_a_frozen_copy_of_it(
    tiny: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(tiny, tmp_path / "sft")
    policy = build(adapter)
    tuned = own_logits(load_policy(adapter)[0])
    assert torch.allclose(own_logits(policy.model), tuned, atol=1e-5)
    trained = policy.trained()
    assert trained
    assert not any(".reference." in name for name in trained)
    disturb(policy)
    assert torch.allclose(reference_logits(policy), tuned, atol=1e-5)
    assert not torch.allclose(tuned, own_logits(load_causal(tiny).eval()), atol=1e-2)
    assert {name for name in policy.trained()} == set(trained)  # the reference froze nothing


def test_training_goes_on_from_an_sft_adapter(tiny: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny, tmp_path / "sft")
    report = train(adapter, tmp_path, count_of("d"), updates=2, merge_adapter=False)
    assert report.details["history"][0]["kl"] == pytest.approx(0.0, abs=1e-3)
    assert (tmp_path / "model" / "adapter_config.json").is_file()
    assert not (tmp_path / "model" / "reference").exists()
    model, _ = load_policy(tmp_path / "model")
    assert not torch.allclose(own_logits(model), own_logits(load_policy(adapter)[0]), atol=1e-4)


def test_another_rank_than_the_adapters_is_refused(tiny: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny, tmp_path / "sft")
    with pytest.raises(InvalidInput, match="has rank 2"):
        build(adapter, lora_rank=8)


def test_a_separate_critic_is_the_lowest_layers_with_weights_of_its_own(tiny: Path) -> None:
    policy = build(tiny, critic="separate", critic_layers=1)
    names = [name for name in policy.trained() if name.startswith("critic/")]
    assert any("layers.0." in name for name in names)
    assert not any("layers.1." in name for name in names)
    states = policy.answer_states([[4]], IDS[:, 1:], [4], of="critic")
    own = policy.answer_states([[4]], IDS[:, 1:], [4])
    assert states.shape == own.shape
    assert not torch.allclose(states, own)


def test_a_fresh_value_head_says_nothing(tiny: Path) -> None:
    policy = build(tiny)
    assert policy.values(policy.answer_states([[4]], IDS[:, 1:], [4])).abs().max() == 0.0


def test_a_model_that_changes_its_logits_after_the_output_layer_is_refused(tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    folder = make_policy(tmp_path / "base")
    Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=8, final_logit_softcapping=0.2,
            pad_token_id=0, eos_token_id=1, bos_token_id=1, initializer_range=1.0,
        )
    ).save_pretrained(folder)  # fmt: skip
    with pytest.raises(InvalidInput, match="gemma2"):
        build(folder)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_other_families_learn_too(kind: str, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    folder = make_policy(tmp_path / "base")
    ends = {"bos_token_id": 1, "eos_token_id": 1}
    if kind == "gpt2":
        GPT2LMHeadModel(
            GPT2Config(vocab_size=32, n_positions=64, n_embd=32, n_layer=2, n_head=4, **ends)
        ).save_pretrained(folder)
    else:
        Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, **ends,
            )
        ).save_pretrained(folder)  # fmt: skip
    report = train(folder, tmp_path, count_of("d"), updates=2, critic="separate", critic_layers=1)
    assert report.details["history"][0]["first_ratio"] == pytest.approx(1.0, abs=1e-4)
    assert report.details["history"][0]["kl"] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("is_dealt", [False, True], ids=["lean", "with hooks"])
def test_narrowed_the_last_layer_gives_the_same_states_and_gradients(
    tiny: Path, is_dealt: bool
) -> None:
    prompts, lengths = [[5, 6, 7, 8], [4]], [3, 1]
    tokens = torch.tensor([[9, 10, 1], [1, 0, 0]])
    found, counts = [], []
    for is_narrow in (False, True):
        policy = ActorCritic(load_causal(tiny).eval())
        if is_narrow:
            policy.narrow(is_dealt=is_dealt)
            assert policy.packs_rows is not is_dealt
        part, seen = policy.model.model.layers[-1].mlp.down_proj, []
        part.register_forward_hook(lambda module, given, out, seen=seen: seen.append(out.shape[:2]))
        states = policy.answer_states(prompts, tokens, lengths)
        (states * torch.linspace(-1.0, 1.0, states.numel()).view(states.shape)).sum().backward()
        found.append([states, *(weight.grad for weight in policy.trained().values())])
        counts += [shape.numel() for shape in seen[-1:]]
    assert counts == ([2 * 6, 4] if is_dealt else [2 * 6])  # run leaner, no part is called
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert torch.allclose(one, other, atol=1e-5)


def test_a_critic_that_cannot_be_run_leaner_is_still_asked_itself(tiny: Path) -> None:
    policy = build(tiny, critic="separate", critic_layers=1)
    asked = ([[4, 5], [6]], torch.tensor([[9, 1], [1, 0]]), [2, 1])
    expected = policy.answer_states(*asked, of="critic")
    del policy._lean["critic"]
    assert torch.allclose(policy.answer_states(*asked, of="critic"), expected, atol=1e-5)


def test_a_last_layer_that_looks_at_other_tokens_is_left_as_it_is(tiny: Path) -> None:
    class Mixing(torch.nn.Module):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return states.cumsum(1)

    model = load_causal(tiny).eval()
    model.model.layers[-1].mlp = Mixing()
    policy = ActorCritic(model)
    plain = policy.answer_states([[5, 6, 7]], torch.tensor([[9, 1]]), [2])
    policy.narrow(is_dealt=False)
    assert not policy.packs_rows
    again = policy.answer_states([[5, 6, 7]], torch.tensor([[9, 1]]), [2])
    assert torch.equal(plain, again)


FP32, BF16 = (choose_precision(name, CPU) for name in ("fp32", "bf16"))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_rows_are_cut_into_parts_that_fit_and_pad_little(device: str) -> None:
    lengths = [int(one) for one in np.random.default_rng(0).integers(1, 48, 32)]
    prompts, kind = [[0] * 16] * 32, torch.device(device)
    parts = cut_rows(prompts, lengths, range(32), 8, kind, FP32, is_packed=False)
    assert sorted(row for part in parts for row in part) == list(range(32))
    padded = [len(part) * max(16 + lengths[row] for row in part) for part in parts]
    assert max(padded) <= 8 * max(16 + length for length in lengths)
    assert sum(padded) < 1.15 * sum(16 + length for length in lengths)
    assert cut_rows([[0] * 9_000], [5], [0], 8, kind, FP32, is_packed=False) == [[0]]


def test_packed_rows_make_fewer_parts_that_fit_too() -> None:
    lengths = [int(one) for one in np.random.default_rng(0).integers(1, 48, 32)]
    packed, padded = (
        cut_rows([[0] * 16] * 32, lengths, range(32), 8, CPU, FP32, is_packed=one)
        for one in (True, False)
    )
    assert len(packed) < len(padded)
    assert sorted(row for part in packed for row in part) == list(range(32))
    real = [sum(16 + lengths[row] for row in part) for part in packed]
    assert max(real) <= 8 * max(16 + length for length in lengths)


def test_on_a_cpu_packed_rows_and_numbers_of_16_bits_let_parts_be_larger() -> None:
    def sizes(precision: Precision, *, is_packed: bool) -> list[int]:
        rows, lengths = [[0] * 32] * 32, [48] * 32
        parts = cut_rows(rows, lengths, range(32), 32, CPU, precision, is_packed=is_packed)
        return sorted(len(part) for part in parts)

    assert sizes(FP32, is_packed=False) == sizes(BF16, is_packed=False) == [8, 8, 8, 8]
    assert sizes(FP32, is_packed=True) == [10, 11, 11]
    assert sizes(BF16, is_packed=True) == [16, 16]
