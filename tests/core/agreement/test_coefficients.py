"""Coefficients of agreement against published values and against values that follow by hand."""

import math
import random
from collections import Counter

import pytest

from rlhf_core.agreement import (
    bootstrap_interval,
    count_arrays,
    count_patterns,
    count_units,
    gwet_ac1,
    krippendorff_alpha,
    raw_agreement,
)
from rlhf_core.errors import InvalidInput

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: 12 units, 4
# observers, with gaps. AC1 of the same data: Gwet, "Handbook of Inter-Rater Reliability".
TEXTBOOK = [
    {"A": 1, "B": 1, "C": None, "D": 1},
    {"A": 2, "B": 2, "C": 3, "D": 2},
    {"A": 3, "B": 3, "C": 3, "D": 3},
    {"A": 3, "B": 3, "C": 3, "D": 3},
    {"A": 2, "B": 2, "C": 2, "D": 2},
    {"A": 1, "B": 2, "C": 3, "D": 4},
    {"A": 4, "B": 4, "C": 4, "D": 4},
    {"A": 1, "B": 1, "C": 2, "D": 1},
    {"A": 2, "B": 2, "C": 2, "D": 2},
    {"A": None, "B": 5, "C": 5, "D": 5},
    {"A": None, "B": None, "C": 1, "D": 1},
    {"A": None, "B": None, "C": 3, "D": None},
]
# Gwet (2008), table of 125 subjects by two raters, nearly all of them positive.
SKEWED = [{1: 1, 2: 1}] * 118 + [{1: 1, 2: 0}] * 5 + [{1: 0, 2: 1}] * 2


@pytest.mark.parametrize(
    ("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_the_textbook_example(level: str, expected: float) -> None:
    assert krippendorff_alpha(TEXTBOOK, level) == pytest.approx(expected, abs=5e-4)  # type: ignore[arg-type]


def test_ac1_and_raw_agreement_of_the_textbook_example() -> None:
    assert gwet_ac1(TEXTBOOK) == pytest.approx(0.77544, abs=5e-6)
    assert raw_agreement(TEXTBOOK) == pytest.approx(0.81818, abs=5e-6)


def test_ac1_stays_high_where_alpha_falls_below_0() -> None:
    assert raw_agreement(SKEWED) == pytest.approx(0.944)
    assert gwet_ac1(SKEWED) == pytest.approx(0.9408, abs=5e-5)
    assert krippendorff_alpha(SKEWED) == pytest.approx(-0.0247, abs=5e-5)


def test_full_agreement_is_1_and_answers_of_chance_are_about_0() -> None:
    same = [{1: value, 2: value} for value in (1, 2, 3)]
    assert krippendorff_alpha(same, "ordinal") == 1
    assert gwet_ac1(same) == 1
    drawn = random.Random(0)
    chance = [{1: drawn.randint(0, 1), 2: drawn.randint(0, 1)} for _ in range(4_000)]
    assert krippendorff_alpha(chance) == pytest.approx(0, abs=0.05)
    assert gwet_ac1(chance) == pytest.approx(0, abs=0.05)


def test_what_cannot_be_said_is_none() -> None:
    alone = [{1: 4}, {2: 5}, {}]
    for coefficient in (krippendorff_alpha, gwet_ac1, raw_agreement):
        assert coefficient(alone) is None
        assert coefficient([]) is None
    assert krippendorff_alpha([{1: 4, 2: 4}] * 3) is None  # nothing varies
    assert gwet_ac1([{1: 4, 2: 4}] * 3) == 1
    assert bootstrap_interval(alone, krippendorff_alpha) is None


def test_answers_never_chosen_lower_what_chance_would_reach() -> None:
    of_two, of_five = gwet_ac1(SKEWED), gwet_ac1(SKEWED, num_values=5)
    assert of_two is not None
    assert of_five is not None
    assert of_five > of_two


def test_words_are_nominal_values() -> None:
    words = [
        {rater: None if value is None else f"answer {value}" for rater, value in unit.items()}
        for unit in TEXTBOOK
    ]
    assert krippendorff_alpha(words) == krippendorff_alpha(TEXTBOOK)


def test_mappings_arrays_and_patterns_are_the_same_units() -> None:
    long = [(n, v) for n, unit in enumerate(TEXTBOOK) for v in unit.values() if v is not None]
    arrays = count_arrays([unit for unit, _ in long], [value for _, value in long])
    patterns = count_patterns(
        Counter(tuple(sorted(v for v in unit.values() if v is not None)) for unit in TEXTBOOK)
    )
    expected = krippendorff_alpha(TEXTBOOK, "interval")
    assert krippendorff_alpha(arrays, "interval") == pytest.approx(expected)
    assert krippendorff_alpha(patterns, "interval") == pytest.approx(expected)
    assert count_units(TEXTBOOK).num_pairable == arrays.num_pairable == 11


def test_bootstrap_holds_the_value_and_narrows_with_more_units() -> None:
    few = bootstrap_interval(TEXTBOOK, krippendorff_alpha, num_draws=300)
    many = bootstrap_interval(TEXTBOOK * 30, krippendorff_alpha, num_draws=300)
    assert few is not None
    assert many is not None
    assert few.low < few.value < few.high <= 1
    assert many.high - many.low < (few.high - few.low) / 3
    again = bootstrap_interval(TEXTBOOK, krippendorff_alpha, num_draws=300)
    assert again == few


def test_ratings_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidInput, match="NaN"):
        count_units([{1: math.nan, 2: 4.0}])
    with pytest.raises(InvalidInput, match="NaN"):
        count_arrays([1, 1], [math.inf, 2])
    with pytest.raises(InvalidInput, match="one value for each unit"):
        count_arrays([1, 1], [2])
