import pytest
import torch

from rlhf_core.policies.logprobs import token_logprobs


def make(dtype: torch.dtype) -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 40, bias=False, dtype=dtype)
    return head, torch.randn(6, 8, dtype=dtype, requires_grad=True), torch.randint(0, 40, (6,))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_it_and_its_gradient_are_those_of_the_textbook(temperature: float) -> None:
    head, states, tokens = make(torch.float64)
    weights = torch.linspace(-1.0, 2.0, 6)
    found, _ = token_logprobs(head, states, tokens, temperature)
    expected = torch.distributions.Categorical(logits=head(states) / temperature).log_prob(tokens)
    assert torch.allclose(found.double(), expected, atol=1e-6)
    ours = torch.autograd.grad((found * weights).sum(), [states, head.weight])
    theirs = torch.autograd.grad((expected * weights).sum(), [states, head.weight])
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_entropy_is_that_of_the_distribution_and_asking_for_it_changes_nothing_else() -> None:
    head, states, tokens = make(torch.float32)
    found, entropy = token_logprobs(head, states, tokens, 0.7, with_entropy=True)
    alone, none = token_logprobs(head, states, tokens, 0.7)
    textbook = torch.distributions.Categorical(logits=head(states) / 0.7)
    assert entropy is not None
    assert none is None
    assert torch.allclose(entropy, textbook.entropy(), atol=1e-6)
    assert torch.allclose(found, alone, atol=1e-6)


def test_bfloat16_logits_give_float32_logprobs_and_bfloat16_gradients() -> None:
    head, states, tokens = make(torch.bfloat16)
    found, _ = token_logprobs(head, states, tokens, 1.0)
    textbook = torch.distributions.Categorical(logits=head(states).float())
    assert found.dtype is torch.float32
    assert torch.allclose(found, textbook.log_prob(tokens), atol=1e-5)
    _, entropy = token_logprobs(head, states, tokens, 1.0, with_entropy=True)
    assert entropy is not None
    assert torch.allclose(entropy, textbook.entropy(), atol=1e-5)
    found.sum().backward()
    assert states.grad is not None
    assert states.grad.dtype is torch.bfloat16


def test_second_way_back_is_refused() -> None:
    head, states, tokens = make(torch.float32)
    found, _ = token_logprobs(head, states, tokens, 1.0)
    found.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace"):
        found.sum().backward()
