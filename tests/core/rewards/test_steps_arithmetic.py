"""Equations found in texts, and computed."""

import pytest

from rlhf_core.rewards.steps_arithmetic import count_equations


def verdict(text: str) -> tuple[int, int]:
    found = count_equations(text)
    return found.num_right, found.num_wrong


@pytest.mark.parametrize(
    "text",
    [
        "So he sells 300 * 3/5 = 180 chickens.",
        "180 * $50 = $9,000",
        "A = (-9 - 5 - 0) = -14.",
        "He pays 20% * 50 = 10.",
        "That is 5 / 20 = 25% of it.",
        "100 / 3 = 33.33",
        "100 / 3 = 33",
        "<<54/3=18>>18",
        "1.5 + 1.5 = 3.",
        "2 \u00d7 3 = 6 and no more",
        "-3 - -4 = 1",
    ],
)
def test_equations_that_hold(text: str) -> None:
    assert verdict(text) == (1, 0)


@pytest.mark.parametrize(
    "text",
    [
        "the child is 74 - 5 = 70 inches tall",
        "180 * $50 = $8,000",
        "C = (-3) + (1 + 0) = -1.",
        "100 / 3 = 33.4",
        "1 / 4 = 30%",
    ],
)
def test_equations_that_do_not_hold(text: str) -> None:
    assert verdict(text) == (0, 1)


@pytest.mark.parametrize(
    "text",
    [
        "x = 5",
        "there are 12 = a dozen",
        "1210 - 640 - 540 = 3x",
        "4x - (200 + 60) = 308",
        "cupcakes + 5 = 8",
        "1 / 0 = 3",
        "3(4 + 5) = 27",
        "2 + = 4",
        "((2 + 3) = ",
        "1 2 + 3 = 6",
        "",
        "=" * 50,
    ],
)
def test_what_cannot_be_read_for_certain_is_passed_over(text: str) -> None:
    assert verdict(text) == (0, 0)


def test_each_link_of_a_chain_is_computed() -> None:
    assert verdict("(2 + 3) * 4 = 5 * 4 = 20 = 21") == (2, 0)
    assert verdict("(2 + 3) * 4 = 6 * 4 = 24") == (1, 1)


def test_two_sentences_are_two_equations() -> None:
    assert verdict("2 + 2 = 4. 5 + 5 = 11.") == (1, 1)


@pytest.mark.parametrize("text", ["(" * 100_000, "1+1=2 " * 20_000, "9" * 100_000 + "+1=2"])
def test_long_texts_are_passed_over_or_counted_without_harm(text: str) -> None:
    right, wrong = verdict(text)
    assert right >= 0
    assert wrong == 0
