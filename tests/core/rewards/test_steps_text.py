"""Windows of solutions: every step judged once, nothing cut in silence."""

from pathlib import Path

import pytest

from rlhf_core.rewards.base_model import load_tokenizer
from rlhf_core.rewards.steps_text import StepReader, Window, cut_after, split_steps
from tests.learning.tiny_models import make_bert, make_llama

SEP = 3


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> object:
    return load_tokenizer(make_bert(tmp_path_factory.mktemp("bert")))


def check(windows: list[Window], num_steps: int, max_tokens: int) -> None:
    judged = [window.first + place for window in windows for place in range(len(window.ends))]
    assert judged == list(range(num_steps))
    for window in windows:
        assert len(window.ids) == len(window.segments) <= max_tokens
        assert all(window.ids[end] == SEP for end in window.ends)
        assert window.segments == sorted(window.segments)


def test_a_short_solution_is_one_window_with_one_separator_a_step(tokenizer: object) -> None:
    windows, cuts = StepReader(tokenizer, 64).read(0, "tell me", ["no idea", "ask somebody"])
    assert len(windows) == 1
    assert windows[0].ids.count(SEP) == 3  # the prompt's, and two steps'
    assert windows[0].segments == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert windows[0].ends == [6, 9]
    assert (cuts.num_prompts, cuts.num_steps, cuts.num_windowed) == (0, 0, 0)


@pytest.mark.parametrize("num_steps", [1, 7, 40])
@pytest.mark.parametrize("length", [1, 5, 12])
def test_every_step_is_judged_in_one_window(tokenizer: object, num_steps: int, length: int) -> None:
    steps = ["work " * length] * num_steps
    windows, cuts = StepReader(tokenizer, 48).read(0, "tell me about chess", steps)
    check(windows, num_steps, 48)
    assert cuts.num_windowed == int(len(windows) > 1)
    assert cuts.num_steps == 0


def test_later_windows_repeat_steps_before_them(tokenizer: object) -> None:
    windows, _ = StepReader(tokenizer, 48).read(0, "tell", ["no idea so"] * 30)
    assert len(windows) > 1
    assert windows[1].segments[windows[1].ends[0]] > 1


def test_overlong_texts_lose_their_middle_and_are_counted(tokenizer: object) -> None:
    long_step = "bread " + "work " * 500 + "chess"
    windows, cuts = StepReader(tokenizer, 48).read(0, "roses " * 500, ["no", long_step, "so"])
    check(windows, 3, 48)
    assert (cuts.num_prompts, cuts.num_steps) == (1, 1)
    ids = next(window.ids for window in windows if window.first + len(window.ends) > 1)
    bread, chess = (tokenizer(word)["input_ids"][1] for word in ("bread", "chess"))  # type: ignore[operator]
    assert bread in ids
    assert chess in ids


def test_a_separator_in_a_text_does_not_end_a_step(tokenizer: object) -> None:
    windows, _ = StepReader(tokenizer, 64).read(0, "tell [SEP] me", ["no [SEP] idea", "so"])
    assert windows[0].ids.count(SEP) == 3


def test_an_empty_step_is_a_separator_alone(tokenizer: object) -> None:
    windows, _ = StepReader(tokenizer, 64).read(0, "", ["", "so", " "])
    check(windows, 3, 64)


def test_a_solution_without_steps_has_no_window(tokenizer: object) -> None:
    assert StepReader(tokenizer, 64).read(0, "tell", [])[0] == []


def test_what_follows_the_last_label_is_cut_off(tokenizer: object) -> None:
    windows, _ = StepReader(tokenizer, 48).read(0, "tell", ["no idea so"] * 30)
    kept = cut_after(windows, 3)
    check(kept, 4, 48)
    assert kept[-1].ids[-1] == SEP


def test_a_causal_models_end_token_separates_steps(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_llama(tmp_path))
    windows, _ = StepReader(tokenizer, 64).read(0, "tell me", ["no idea", "so"])
    assert [windows[0].ids[end] for end in windows[0].ends] == [tokenizer.eos_token_id] * 2


@pytest.mark.parametrize(
    ("completion", "steps"),
    [
        ("First.\nSecond.\n", ["First.", "Second."]),
        ("One\nline two\n\nTwo", ["One\nline two", "Two"]),
        ("  only one ", ["only one"]),
        ("", [""]),
        (" \n ", [""]),
    ],
)
def test_steps_of_a_completion_are_its_paragraphs_or_lines(
    completion: str, steps: list[str]
) -> None:
    assert split_steps(completion) == steps
