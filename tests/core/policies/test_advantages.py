"""Generalised advantage estimation against a table worked out by hand."""

import pytest
import torch

from rlhf_core.policies.ppo import compute_advantages

MASK = torch.tensor([[True, True, True], [True, True, False]])


def test_advantages_are_those_of_a_table_worked_out_by_hand() -> None:
    """gamma 0.9, lambda 0.5.

    First row: surprises 0.9*2-1+0 = 0.8, 0.9*3-2+0 = 0.7, 1-3 = -2; from the end: -2,
    0.7 - 0.9 = -0.2, 0.8 - 0.09 = 0.71. Second: 0.9*1-0.5+0.2 = 0.6, 2-1 = 1: 1, 0.6+0.45 = 1.05.
    """
    rewards = torch.tensor([[0.0, 0.0, 1.0], [0.2, 2.0, 0.0]])
    values = torch.tensor([[1.0, 2.0, 3.0], [0.5, 1.0, 9.0]])
    advantages, returns = compute_advantages(rewards, values, MASK, gamma=0.9, lam=0.5)
    expected = torch.tensor([[0.71, -0.2, -2.0], [1.05, 1.0, 0.0]])
    assert torch.allclose(advantages, expected, atol=1e-6)
    assert torch.allclose(returns, (expected + values) * MASK, atol=1e-6)


def test_with_lambda_1_and_gamma_1_returns_are_sums_of_the_rewards_to_come() -> None:
    rewards = torch.tensor([[1.0, 2.0, 3.0]])
    values = torch.tensor([[5.0, -1.0, 2.0]])
    _, returns = compute_advantages(rewards, values, MASK[:1], gamma=1.0, lam=1.0)
    assert returns.tolist()[0] == pytest.approx([6.0, 5.0, 3.0])


def test_what_stands_beyond_an_answers_end_has_no_influence() -> None:
    rewards, values = torch.ones(1, 3), torch.ones(1, 3)
    mask = torch.tensor([[True, True, False]])
    other = values.clone()
    other[0, 2] = 100.0
    first = compute_advantages(rewards, values, mask, gamma=1.0, lam=0.9)
    second = compute_advantages(rewards, other, mask, gamma=1.0, lam=0.9)
    assert torch.equal(first[0], second[0])
    assert first[0][0, 2] == 0.0
