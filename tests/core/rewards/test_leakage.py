"""Prompts that come again, word for word or nearly."""

from rlhf_core.rewards.leakage import cut_shingles, find_near

LONG = (
    "Please write a short and friendly letter to my landlord in which I ask him to repair the "
    "heating of my flat before the winter begins"
)


def test_a_changed_word_is_near_and_another_request_is_not() -> None:
    known = [LONG, "How do I boil an egg?"]
    asked = [
        LONG.replace("friendly", "polite"),
        LONG.upper() + "!",
        "Please write a short and friendly poem about the sea",
        "How do I boil an egg?",
        "Name three rivers.",
    ]
    assert find_near(asked, known).tolist() == [True, True, False, True, False]


def test_nothing_known_is_near_to_nothing() -> None:
    assert find_near(["a b c"], []).tolist() == [False]
    assert find_near([], ["a b c"]).tolist() == []


def test_texts_without_words_are_near_to_each_other_only() -> None:
    assert find_near(["???", "a b c d"], ["!!!"]).tolist() == [True, False]


def test_shingles_overlap_by_two_words() -> None:
    assert len(cut_shingles("one two three four")) == 2
    assert cut_shingles("One, two; THREE") == cut_shingles("one two three")


def test_a_template_shared_by_many_does_not_hide_the_near_one() -> None:
    known = [f"Translate this sentence into French please: number {n} of many" for n in range(300)]
    assert find_near([known[299] + " more"], known).tolist() == [True]
