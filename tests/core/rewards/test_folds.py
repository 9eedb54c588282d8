import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_core.rewards.folds import assign_folds

ROWS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=4, max_size=80)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, num_folds=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
def test_no_prompt_lies_in_two_folds_and_every_fold_has_rows(
    rows: list[tuple[int, bool]], num_folds: int, seed: int
) -> None:
    groups = [str(group) for group, _ in rows]
    labels = np.array([label for _, label in rows])
    folds = assign_folds(labels, groups, num_folds=num_folds, seed=seed)
    for group in set(groups):
        assert len({folds[i] for i, name in enumerate(groups) if name == group}) == 1
    if len(set(groups)) >= 2:
        assert set(folds) == set(range(folds.max() + 1))
    again = assign_folds(labels, groups, num_folds=num_folds, seed=seed)
    assert (folds == again).all()


def test_folds_have_alike_shares_of_good_rows_and_sizes() -> None:
    rng = np.random.default_rng(3)
    groups = [str(number) for number in rng.integers(0, 150, size=1_000)]
    labels = rng.random(1_000) < 0.3
    folds = assign_folds(labels, groups, num_folds=5, seed=0)
    sizes = np.bincount(folds)
    shares = np.bincount(folds, weights=labels) / sizes
    assert sizes.min() > 185
    assert sizes.max() < 215
    assert np.abs(shares - labels.mean()).max() < 0.02


def test_another_seed_gives_other_folds() -> None:
    groups = [str(number) for number in range(40)]
    labels = np.arange(40) % 2 == 0
    one, other = (assign_folds(labels, groups, num_folds=5, seed=seed) for seed in (0, 1))
    assert (one != other).any()


def test_there_are_no_more_folds_than_prompts_with_each_class() -> None:
    labels = np.array([True, True, False, False, False, False])
    folds = assign_folds(labels, list("abcdef"), num_folds=5, seed=0)
    assert set(folds) == {0, 1}
    assert {folds[0], folds[1]} == {0, 1}
