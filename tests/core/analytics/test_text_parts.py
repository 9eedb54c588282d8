import pytest

from rlhf_core.analytics.text_parts import MAX_PARTS, cut, cut_all


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two!  Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("- one\n\n- two\n", ["- one", "- two"]),
        ("Version 2.5 costs 3.99 here.", ["Version 2.5 costs 3.99 here."]),
        ("Again. Again. New.", ["Again.", "New."]),
        ("\u597d\u3002\u597d\u5417\uff1f", ["\u597d\u3002", "\u597d\u5417\uff1f"]),
        ("", [""]),
        (" \n ", [""]),
    ],
)
def test_a_text_is_cut_into_its_different_sentences(text: str, parts: list[str]) -> None:
    assert cut(text) == parts


@pytest.mark.parametrize("number", [MAX_PARTS, MAX_PARTS + 1, 100])
def test_a_long_text_has_few_parts_and_loses_nothing(number: int) -> None:
    text = " ".join(f"This is sentence {n}." for n in range(number))
    assert len(cut(text)) <= MAX_PARTS
    assert " ".join(cut(text)) == text


def test_each_part_knows_its_text() -> None:
    parts = cut_all(["One. Two.", "", "Three."])
    assert parts.texts == ["One.", "Two.", "", "Three."]
    assert parts.owners.tolist() == [0, 0, 1, 2]
    assert len(cut_all([])) == 0
