"""The first-error search and its figures, on numbers that can be checked by hand."""

import numpy as np
import pytest

from rlhf_core.examples import SteppedCompletion
from rlhf_core.rewards.steps_search import (
    choose_threshold,
    compute_first_error,
    find_first_error,
    find_places,
    know_errors,
    locate_error,
)

RIGHT, WRONG = True, False


def solution(*labels: bool | None, group: str = "g") -> SteppedCompletion:
    return SteppedCompletion("p", tuple("s" for _ in labels), labels, group)


def test_chances_of_all_places_and_of_none_sum_to_one() -> None:
    chances = locate_error(np.array([0.9, 0.5, 0.8]))
    assert chances == pytest.approx([0.1, 0.9 * 0.5, 0.45 * 0.2, 0.36])
    assert chances.sum() == pytest.approx(1.0)


def test_the_likeliest_step_is_named_unless_the_solution_is_likely_faultless() -> None:
    probabilities = np.array([0.9, 0.5, 0.8])
    assert find_first_error(probabilities, 0.4) == 1
    assert find_first_error(probabilities, 0.3) is None
    assert find_first_error(np.array([1.0, 1.0]), 1.0) == 0  # 1: never faultless
    assert find_first_error(np.array([0.0, 0.5]), 0.0) is None  # 0: always faultless
    assert find_first_error(np.empty(0), 0.5) is None


def test_an_earlier_doubtful_step_takes_the_blame_from_a_later_worse_one() -> None:
    assert find_first_error(np.array([0.4, 0.3]), 0.9) == 0


def test_only_solutions_judged_up_to_their_mistake_are_known() -> None:
    known = know_errors(
        [
            solution(RIGHT, WRONG, None),
            solution(RIGHT, RIGHT),
            solution(RIGHT, None, WRONG),
            solution(None, None),
            solution(RIGHT, None),
            solution(WRONG, WRONG),
            solution(),
        ]
    )
    assert known.rows.tolist() == [0, 1, 5]
    assert known.places.tolist() == [1, 2, 0]
    assert known.is_faultless.tolist() == [False, True, False]
    assert known.num_unknown == 4


def test_f1_is_the_harmonic_mean_of_both_kinds() -> None:
    known = know_errors(
        [solution(RIGHT, WRONG), solution(WRONG, None), solution(RIGHT), solution(RIGHT, RIGHT)]
    )
    figures = compute_first_error(np.array([1, 1, 1, 2]), known, np.ones((1, 4)))
    assert figures["erroneous_accuracy"] == pytest.approx([0.5])
    assert figures["faultless_accuracy"] == pytest.approx([1.0])
    assert figures["first_error_f1"] == pytest.approx([2 * 0.5 * 1.0 / 1.5])
    assert figures["first_error_accuracy"] == pytest.approx([0.75])


def test_f1_of_one_kind_is_its_accuracy() -> None:
    known = know_errors([solution(RIGHT, WRONG), solution(WRONG, None)])
    figures = compute_first_error(np.array([1, 1]), known, np.ones((1, 2)))
    assert "faultless_accuracy" not in figures
    assert figures["first_error_f1"] == pytest.approx([0.5])


def test_f1_of_nothing_found_is_zero_and_of_nothing_drawn_is_undefined() -> None:
    known = know_errors([solution(RIGHT, WRONG), solution(RIGHT)])
    none_found = compute_first_error(np.array([0, 0]), known, np.ones((1, 2)))
    assert none_found["first_error_f1"] == pytest.approx([0.0])
    one_drawn = compute_first_error(np.array([1, 1]), known, np.array([[2.0, 0.0]]))
    assert np.isnan(one_drawn["first_error_f1"]).all()


def test_the_threshold_parts_faultless_solutions_from_others() -> None:
    rows = [
        solution(RIGHT, WRONG if number % 2 else RIGHT, group=f"g{number}") for number in range(40)
    ]
    scores = [np.array([0.9, 0.3 if number % 2 else 0.7]) for number in range(40)]
    known = know_errors(rows)
    threshold = choose_threshold(scores, known, seed=0)
    assert 0.27 <= threshold < 0.63
    assert (find_places(scores, threshold) == known.places).all()


def test_the_threshold_is_an_extreme_where_one_kind_only_is_known() -> None:
    scores = [np.array([0.9, 0.8])] * 3
    assert choose_threshold(scores, know_errors([solution(RIGHT, WRONG)] * 3), seed=0) == 1.0
    assert choose_threshold(scores, know_errors([solution(RIGHT, RIGHT)] * 3), seed=0) == 0.0
