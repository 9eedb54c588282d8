"""What is counted in a text, by hand."""

import time

import numpy as np
import pytest

from rlhf_core.rewards import features
from rlhf_core.rewards.style import NUM_STYLE, STYLE_NAMES, describe_style


def count(prompt: str, completion: str) -> dict[str, float]:
    return dict(zip(STYLE_NAMES, describe_style([prompt], [completion])[0], strict=True))


def test_manner_is_counted_as_by_hand() -> None:
    found = count("Why?", "I can't, sorry. Do you mean 3 tents?\n- one\n- two")
    assert found["questions a sentence"] == 1 / 2
    assert found["list items"] == pytest.approx(np.log(3))
    assert found["lines"] == pytest.approx(np.log(3))
    assert found["numbers"] == 1 / 9
    assert found["says I"] == 1 / 9
    assert found["says you"] == 1 / 9
    assert found["denies"] == 2 / 9
    assert found["ends with a mark"] == 0


def test_the_typographic_apostrophe_is_an_apostrophe() -> None:
    assert count("p", "I don\u2019t") == count("p", "I don't")


def test_words_taken_up_from_the_prompt_are_shares_of_both() -> None:
    found = count("Tell me about red tents", "Red tents are warm")
    assert found["words from the prompt"] == 2 / 4
    assert found["prompt words taken up"] == 2 / 5
    assert found["begins with the prompt's words"] == 0
    assert count("Red tents are warm, why?", "Red tents are warm")["begins with the prompt's words"]


def test_endless_blank_lines_and_digits_take_no_endless_time() -> None:
    started = time.process_time()
    describe_style(["p"] * 3, ["\n" * 100_000, " \n" * 50_000 + "-", "1" * 100_000])
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("text", ["", " ", "???", "\n\n", "🙂", "123", "你好。", "x" * 100_000])
def test_no_text_gives_anything_but_numbers(text: str) -> None:
    found = describe_style([text], [text])
    assert found.shape == (1, NUM_STYLE)
    assert np.isfinite(found).all()


def test_a_megabyte_is_read_in_part_only() -> None:
    started = time.process_time()
    describe_style(["p"], ["word, " * 200_000])
    assert time.process_time() - started < 1.0


def test_what_was_never_so_far_out_in_training_is_cut_off() -> None:
    counts = features.count_texts(["p"] * 3, ["a b.", "a b c.", "a b c d."])
    scale = features.measure_scale(counts)
    far = features.build_text_features(features.count_texts(["p"], ["no! " * 1_000]), scale)
    assert np.abs(far[:, [1, *range(5, far.shape[1])]]).max() <= features.LIMIT
