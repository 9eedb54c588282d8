import pytest

from rlhf_core.feedback.drafts import MAX_STEPS
from rlhf_core.serving.reasoning import STEP, THINKING, Reasoned, split_reasoning


@pytest.mark.parametrize(
    "text", ["", "Go to Settings.", "  1. Open it\n", "a < b, I think.", "Step"]
)
def test_without_marks_all_is_the_answer_as_it_is(text: str) -> None:
    assert split_reasoning(text) == Reasoned((), text)


def test_thoughts_are_steps_by_paragraph_and_the_answer_stands_behind_them() -> None:
    text = "<think>\nTwo of them.\n\nThree more.\n</think>\n\nFive."
    assert split_reasoning(text) == Reasoned(("Two of them.", "Three more."), "Five.", THINKING)
    assert split_reasoning(text.removeprefix("<think>")).answer == "Five."  # opened in the prompt


def test_numbered_thoughts_are_steps_by_number() -> None:
    text = "<thinking>Hm.\nStep 1: two\n\nand so on\n**Step 2:** three</thinking>Five."
    assert split_reasoning(text).steps == ("Hm.", "Step 1: two\n\nand so on", "**Step 2:** three")


def test_while_it_thinks_there_is_no_answer_and_half_a_mark_is_not_shown() -> None:
    whole = "<think>One.\n\nTwo.</think>Done."
    for end in range(len("<think>"), len(whole)):
        found = split_reasoning(whole[:end])
        assert found.is_thinking == (end < whole.index("Done."))
        assert "<" not in "".join(found.steps)
        assert found.answer in "Done."


def test_numbered_steps_before_an_answer_are_the_way_to_it() -> None:
    text = "Step 1: 2 + 3 = 5.\nStep 2: 5 * 2 = 10.\n\nFinal answer: 10"
    assert split_reasoning(text) == Reasoned(
        ("Step 1: 2 + 3 = 5.", "Step 2: 5 * 2 = 10."), "10", STEP
    )
    assert split_reasoning(text.replace("Final answer:", "####")).answer == "10"
    assert split_reasoning(text[:-3]).answer == text[:-3]  # the answer is still to come


def test_numbered_steps_without_an_answer_stay_the_answer() -> None:
    text = "Do this:\nStep 1: chop.\nStep 2: fry."
    assert split_reasoning(text) == Reasoned(("Step 1: chop.", "Step 2: fry."), text, STEP)
    for no_list in ("Step 1: chop.", "Step 2: fry.\nStep 3: eat.", "At Step 1: a\nin Step 2: b"):
        assert split_reasoning(no_list).steps == ()


def test_more_steps_than_are_stored_lie_together_in_the_last() -> None:
    thoughts = [f"thought {number}" for number in range(MAX_STEPS + 5)]
    steps = split_reasoning("<think>" + "\n\n".join(thoughts) + "</think>ok").steps
    assert len(steps) == MAX_STEPS
    assert steps[-1].endswith(thoughts[-1])
    assert steps[-2] == thoughts[MAX_STEPS - 2]
