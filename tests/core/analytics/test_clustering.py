import numpy as np
import pytest

from rlhf_core.analytics.clustering import (
    OUTLIER,
    Array,
    assign,
    compare_approval,
    find_groups,
    find_words,
)

DIMENSION = 48
NOBODY = np.zeros(DIMENSION)


def around(*sizes: int, spread: float = 0.05, seed: int = 0) -> Array:
    """Unit vectors around as many directions as there are sizes, one after the other."""
    rng = np.random.default_rng(seed)
    rows = [
        np.eye(DIMENSION)[number] + spread * rng.normal(size=(size, DIMENSION))
        for number, size in enumerate(sizes)
    ]
    vectors: Array = np.vstack(rows)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def strangers(number: int, seed: int = 1) -> Array:
    vectors = np.random.default_rng(seed).normal(size=(number, DIMENSION))
    vectors[:, :4] = 0  # nothing of what groups are about
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("factor", [1, 10])
def test_groups_are_found_the_largest_first_and_strangers_left_out(factor: int) -> None:
    vectors = np.vstack([around(8 * factor, 16 * factor), strangers(10)])
    groups = find_groups(vectors, mean=NOBODY, min_size=5)
    assert len(groups) == 2
    assert (groups.labels[: 8 * factor] == 1).all()
    assert (groups.labels[8 * factor : 24 * factor] == 0).all()
    assert (groups.labels[24 * factor :] == OUTLIER).all()
    assert all(value is not None and value > 0.7 for value in groups.stability)


def test_a_fault_in_several_wordings_is_one_group() -> None:
    centre = np.eye(DIMENSION)[0]
    wordings = [around(70, seed=seed) + 0.25 * np.eye(DIMENSION)[seed + 1] for seed in range(3)]
    others = around(0, 0, 0, 0, 0, 40)
    vectors = np.vstack([*wordings, others])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = find_groups(vectors, mean=NOBODY, min_size=5)
    assert (vectors[0] @ centre) > 0.5
    assert len(set(groups.labels[:210])) == 1
    assert groups.labels[0] != groups.labels[-1]


def test_what_all_texts_share_makes_no_group() -> None:
    shared = np.eye(DIMENSION)[7] * 3
    vectors = strangers(60) + shared
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert len(find_groups(vectors, mean=vectors.mean(axis=0), min_size=5)) == 0


def test_others_join_a_group_within_its_reach_only() -> None:
    groups = find_groups(around(30, 20), mean=NOBODY, min_size=5)
    near, distances = assign(around(10, 10, spread=0.03, seed=5), groups)
    assert near.tolist() == [0] * 10 + [1] * 10
    assert (distances <= groups.radii.max()).all()
    far, _ = assign(np.eye(DIMENSION)[20:30], groups)
    assert set(far.tolist()) == {OUTLIER}


@pytest.mark.parametrize("number", [0, 1, 4])
def test_too_few_texts_make_no_group(number: int) -> None:
    groups = find_groups(around(number), mean=NOBODY, min_size=5)
    assert len(groups) == 0
    labels, _ = assign(around(3), groups)
    assert set(labels.tolist()) == {OUTLIER}


def test_equal_texts_are_one_group() -> None:
    vectors = np.tile(np.eye(DIMENSION)[0], (30, 1))
    groups = find_groups(vectors, mean=NOBODY, min_size=5)
    assert groups.labels.tolist() == [0] * 30
    assert np.isfinite(groups.radii).all()


def test_typical_words_are_said_in_the_group_and_not_everywhere() -> None:
    refunds = [f"No refund for your order {n}." for n in ("one", "two", "three")]
    lights = [f"The lamp of your order is {n}." for n in ("dim", "off", "on")]
    words = find_words([*refunds, *lights], [0, 0, 0, 1, 1, 1], ["Your order is here."] * 10)
    assert words[0][0] == "refund"
    assert words[1][0] == "lamp"
    assert "your" not in words[0]  # a stop word
    assert words[0].index("order") > 0


def test_answers_to_one_prompt_count_once() -> None:
    group = [("p1", 0.0)] * 50 + [("p2", 1.0)]
    rest = [(f"q{n}", 1.0) for n in range(50)]
    approval, other, gap = compare_approval(group, rest)
    assert approval is not None
    assert other is not None
    assert gap is not None
    assert approval.value == 0.5
    assert approval.low < 0.1  # two prompts say little, however often each was answered
    assert other.value == 1.0
    assert gap.value == -0.5
    assert gap.low < -0.8
    assert gap.high < 0.06


def test_without_answers_nothing_is_said_of_approval() -> None:
    assert compare_approval([], []) == (None, None, None)
    approval, rest, gap = compare_approval([], [("p", 1.0)])
    assert approval is None
    assert rest is not None
    assert gap is None
