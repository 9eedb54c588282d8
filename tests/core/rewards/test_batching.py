"""Batches of like length: every row once, next to no padding, the cheapest cut."""

import itertools

import numpy as np
import pytest
import torch

from rlhf_core.rewards.batching import pad_rows, plan_batches, split_by_length


def lognormal(number: int, seed: int = 0) -> list[int]:
    drawn = np.random.default_rng(seed).lognormal(np.log(90), 0.7, number)
    return np.clip(drawn, 30, 400).astype(int).tolist()


@pytest.mark.parametrize("by_length", [True, False])
def test_an_epoch_has_each_row_once(by_length: bool) -> None:
    batches = plan_batches(lognormal(1_003), 8, seed=1, epoch=0, by_length=by_length)
    assert sorted(itertools.chain(*batches)) == list(range(1_003))
    assert max(len(batch) for batch in batches) == 8


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    lengths = lognormal(300)
    first = plan_batches(lengths, 8, seed=1, epoch=0)
    assert plan_batches(lengths, 8, seed=1, epoch=0) == first
    assert plan_batches(lengths, 8, seed=1, epoch=1) != first
    assert plan_batches(lengths, 8, seed=2, epoch=0) != first


def test_long_and_short_batches_are_mixed_through_the_epoch() -> None:
    lengths = lognormal(800)
    batches = plan_batches(lengths, 8, seed=0, epoch=0)
    means = np.array([np.mean([lengths[row] for row in batch]) for batch in batches])
    half = len(means) // 2
    assert abs(means[:half].mean() - means[half:].mean()) < 0.3 * means.mean()


def padding_share(parts: list[list[int]], lengths: list[int]) -> float:
    cells = sum(len(part) * max(lengths[row] for row in part) for part in parts)
    return 1 - sum(lengths) / cells


def test_parts_of_a_random_batch_have_next_to_no_padding() -> None:
    lengths = lognormal(16)
    whole = padding_share([list(range(16))], lengths)
    parts = split_by_length(lengths)
    assert sorted(itertools.chain(*parts)) == list(range(16))
    assert whole > 0.4
    assert padding_share(parts, lengths) < 0.1


def test_the_cut_is_the_cheapest_one() -> None:
    lengths = lognormal(9, seed=3)
    ordered = sorted(lengths)

    def cost(cuts: tuple[int, ...]) -> int:
        edges = [0, *cuts, len(ordered)]
        return sum(
            (end - begin) * ordered[end - 1] + 24 for begin, end in itertools.pairwise(edges)
        )

    least = min(
        cost(cuts)
        for count in range(len(ordered))
        for cuts in itertools.combinations(range(1, len(ordered)), count)
    )
    parts = split_by_length(lengths, part_cost=24)
    found = sum(len(part) * max(lengths[row] for row in part) + 24 for part in parts)
    assert found == least


def test_dear_parts_are_not_cut_and_equal_rows_stay_together() -> None:
    assert split_by_length([20, 500, 22], part_cost=10_000) == [[0, 2, 1]]
    assert split_by_length([7] * 40) == [list(range(40))]
    assert split_by_length([]) == []


def test_no_part_is_beyond_the_limit_but_a_single_row() -> None:
    lengths = lognormal(600)
    parts = split_by_length(lengths, max_tokens=350, part_cost=10**6)
    assert sorted(itertools.chain(*parts)) == list(range(600))
    for part in parts:
        assert len(part) == 1 or len(part) * max(lengths[row] for row in part) <= 350


def test_rows_are_padded_on_the_right_and_masked_only_where_needed() -> None:
    device = torch.device("cpu")
    found = pad_rows([[5, 6, 7], [8]], pad_id=0, device=device, types=[[0, 1, 1], [1]])
    assert found["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert found["token_type_ids"].tolist() == [[0, 1, 1], [1, 0, 0]]
    assert "attention_mask" not in pad_rows([[5, 6], [7, 8]], pad_id=0, device=device)
