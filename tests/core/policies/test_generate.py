"""Sampling: answers that do not depend on what stands beside them, scored as learning does."""

from pathlib import Path

import pytest
import torch

from rlhf_core.policies import generate
from rlhf_core.policies.base import load_causal
from rlhf_core.policies.generate import Sampled, sample
from rlhf_core.policies.logprobs import all_logprobs
from rlhf_core.policies.network import ActorCritic
from tests.core.policies.tiny_policies import make_policy

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [4], [5, 6, 7], [9, 8], [3, 4, 5, 6]]
END = 1
WIDE = {"initializer_range": 0.6}  # far from uniform, so that states matter


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> ActorCritic:
    return ActorCritic(load_causal(make_policy(tmp_path_factory.mktemp("wide"), **WIDE)).eval())


def draw(
    policy: ActorCritic, rows: list[int], tokens: int = 12, temperature: float = 1.0
) -> Sampled:
    uniforms = torch.rand((len(PROMPTS), tokens), generator=torch.Generator().manual_seed(4))
    return sample(
        policy, [PROMPTS[row] for row in rows], uniforms[rows], temperature=temperature,
        end_ids=[END, 7, 12],
    )  # fmt: skip


def test_an_answer_does_not_depend_on_the_rows_beside_it(policy: ActorCritic) -> None:
    together = draw(policy, [0, 1, 2, 3, 4])
    assert len(set(together.lengths.tolist())) > 1  # rows end apart, and are taken out
    for row in range(len(PROMPTS)):
        alone = draw(policy, [row])
        length = int(alone.lengths[0])
        assert together.tokens[row, :length].tolist() == alone.tokens[0, :length].tolist()
        assert int(together.lengths[row]) == length
        assert torch.allclose(together.logprobs[row], alone.logprobs[0], atol=1e-5)
        assert torch.allclose(together.values[row], alone.values[0], atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_of_sampling_are_those_of_a_whole_pass(
    policy: ActorCritic, temperature: float
) -> None:
    found = draw(policy, [0, 1, 2, 3, 4], temperature=temperature)
    lengths = found.lengths.tolist()
    with torch.no_grad():
        states = policy.answer_states(found.prompts, found.tokens, lengths)
        again = all_logprobs(policy.head, states, found.tokens[found.mask], temperature)
    assert torch.allclose(found.logprobs[found.mask], again, atol=1e-4)


def test_states_are_those_of_transformers_own_pass(policy: ActorCritic) -> None:
    found = draw(policy, [0, 1, 2, 3, 4])
    for row, prompt in enumerate(found.prompts):
        length = int(found.lengths[row])
        answer = found.tokens[row, :length]
        ids = torch.tensor([[*prompt, *answer.tolist()]])
        with torch.no_grad():
            logits = policy.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        own = torch.log_softmax(logits, -1).gather(-1, answer[:, None])[:, 0]
        assert torch.allclose(own, found.logprobs[row, :length], atol=1e-4)


def test_an_answer_ends_with_its_first_end_token(policy: ActorCritic) -> None:
    found = draw(policy, [0, 1, 2, 3, 4], tokens=40)
    for row, length in enumerate(found.lengths.tolist()):
        answer = found.tokens[row].tolist()
        ends = [place for place, token in enumerate(answer[:length]) if token in (END, 7, 12)]
        assert bool(found.has_ended[row]) == bool(ends)
        assert ends in ([], [length - 1])
        assert not any(answer[length:])
    assert found.has_ended.any()


def test_batches_of_any_size_give_the_same_answers(
    policy: ActorCritic, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = draw(policy, [0, 1, 2, 3, 4])
    monkeypatch.setattr(generate, "ROWS_AT_ONCE_CPU", 2)
    parts = draw(policy, [0, 1, 2, 3, 4])
    assert torch.equal(whole.tokens, parts.tokens)


def test_tokens_come_as_often_as_their_probabilities_say(policy: ActorCritic) -> None:
    count = 4000
    found = sample(
        policy, [[5, 6, 7]] * count, torch.rand((count, 1), generator=torch.Generator()),
        temperature=1.0, end_ids=[END],
    )  # fmt: skip
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1]
    shares = torch.bincount(found.tokens[:, 0], minlength=len(logits)) / count
    assert torch.allclose(shares, torch.softmax(logits, -1), atol=0.03)


def test_a_sliding_window_samples_as_a_whole_pass_does(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    base = make_policy(tmp_path / "llama")
    tokenizer = AutoTokenizer.from_pretrained(base)
    torch.manual_seed(0)
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
            sliding_window=4, initializer_range=0.6, eos_token_id=1, pad_token_id=None,
        )
    ).eval()  # fmt: skip
    policy = ActorCritic(model)
    found = draw(policy, [0, 1, 2, 3, 4])
    with torch.no_grad():
        states = policy.answer_states(found.prompts, found.tokens, found.lengths.tolist())
        again = all_logprobs(policy.head, states, found.tokens[found.mask], 1.0)
    assert torch.allclose(found.logprobs[found.mask], again, atol=1e-4)
