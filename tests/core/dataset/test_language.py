import pytest

from rlhf_core.dataset.language import guess_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat is on the mat.", "en"),
        ("Der Hund ist nicht hier.", "de"),
        ("Le chat est dans la maison.", "fr"),
        ("El perro no es de la casa.", "es"),
        ("Привет, как дела?", "ru"),
        ("我喜欢猫。", "zh"),
        ("猫が好きです。", "ja"),
        ("42 + 7", "other"),
        ("", "other"),
    ],
)
def test_script_and_common_words_tell_the_language(text: str, language: str) -> None:
    assert guess_language(text) == language


def test_prompt_helps_where_the_answer_is_short() -> None:
    assert guess_language("42") == "other"
    assert guess_language("42", "What is the answer to this?") == "en"
