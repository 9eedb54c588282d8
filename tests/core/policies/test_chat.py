"""Answers of several conversations at once, piece by piece."""

from pathlib import Path

import pytest

from rlhf_core.errors import InvalidInput
from rlhf_core.policies.chat import ChatModel, Turn, open_chat_model
from tests.core.policies.tiny_policies import make_policy

PROMPTS = ["a b c", "d", "e f g h i j", "good bad"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return open_chat_model(make_policy(tmp_path_factory.mktemp("chat"), seed=3))


def make_turn(model: ChatModel, prompt: str, **options: object) -> tuple[Turn, list[str]]:
    ids, room = model.encode([("user", prompt)], max_tokens=12)
    pieces: list[str] = []
    return Turn(ids, room, hand_over=pieces.append, **options), pieces  # type: ignore[arg-type]


def test_an_answer_does_not_depend_on_those_beside_it(model: ChatModel) -> None:
    for options in ({"temperature": 0.0}, {"temperature": 0.7, "seed": 5}, {"top_p": 0.5}):
        together = [make_turn(model, prompt, **options) for prompt in PROMPTS]
        model.answer([turn for turn, _ in together])
        for prompt, (turn, pieces) in zip(PROMPTS, together, strict=True):
            alone, _ = make_turn(model, prompt, **options)
            model.answer([alone])
            assert (alone.text, alone.finish_reason) == (turn.text, turn.finish_reason)
            assert "".join(pieces) == turn.text
            assert turn.num_tokens <= 12


def test_the_likeliest_tokens_are_those_of_the_plain_model(
    model: ChatModel, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_policy(tmp_path, seed=3)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    turn, _ = make_turn(model, PROMPTS[0], temperature=0.0)
    model.answer([turn])
    ids = torch.tensor([list(turn.ids)])
    for _ in range(12):
        with torch.inference_mode():
            token = plain(input_ids=ids).logits[0, -1].argmax()
        ids = torch.cat([ids, token[None, None]], dim=1)
        if token == tokenizer.eos_token_id:
            break
    wanted = tokenizer.decode(ids[0, len(turn.ids) :], skip_special_tokens=True)
    assert turn.text == wanted


def test_a_stop_sequence_is_never_shown_not_even_in_part(model: ChatModel) -> None:
    whole, _ = make_turn(model, PROMPTS[0], temperature=0.0)
    model.answer([whole])
    stop = whole.text[3:6]
    turn, pieces = make_turn(model, PROMPTS[0], temperature=0.0, stop=[stop])
    model.answer([turn])
    assert turn.text == whole.text[: whole.text.index(stop)]
    assert "".join(pieces) == turn.text
    assert turn.finish_reason == "stop"


def test_each_answer_is_over_as_soon_as_it_is(model: ChatModel) -> None:
    ended: list[str] = []
    turns = []
    for name, most in (("long", 12), ("short", 2)):
        ids, room = model.encode([("user", "a b")], max_tokens=most)
        turns.append(Turn(ids, room, temperature=0, ended=lambda name=name: ended.append(name)))
    model.answer(turns)
    assert ended == ["short", "long"]


def test_extreme_settings_take_the_likeliest_token(model: ChatModel) -> None:
    usual, _ = make_turn(model, PROMPTS[0], temperature=0.0)
    model.answer([usual])
    for options in ({"temperature": 1e-40}, {"temperature": 1.0, "top_p": 1e-50}):
        odd, _ = make_turn(model, PROMPTS[0], **options)
        model.answer([odd])
        assert odd.text == usual.text


def test_nobody_waits_and_the_others_go_on(model: ChatModel) -> None:
    gone, _ = make_turn(model, PROMPTS[0], temperature=0.0, is_unwanted=lambda: True)
    kept, _ = make_turn(model, PROMPTS[1], temperature=0.0)
    model.answer([gone, kept])
    assert (gone.num_tokens, gone.finish_reason) == (1, None)
    assert kept.finish_reason in ("stop", "length")


def test_what_leaves_no_room_is_refused(model: ChatModel) -> None:
    with pytest.raises(InvalidInput, match="64 tokens; the model reads 64 with its answer"):
        model.encode([("user", "a " * 64)], max_tokens=None)
    assert model.encode([("user", "a " * 60)], max_tokens=99)[1] == 4
