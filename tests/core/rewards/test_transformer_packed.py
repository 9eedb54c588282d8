"""Texts as one row say what they say padded."""

from pathlib import Path

import pytest
import torch

from rlhf_core.rewards import transformer_packed
from rlhf_core.rewards.base_model import add_lora, load_base, load_tokenizer, set_dropout
from rlhf_core.rewards.transformer_model import run_forward
from rlhf_core.rewards.transformer_packed import can_pack, forward_packed
from rlhf_core.rewards.transformer_text import TextEncoder, Tokens
from tests.learning.rated import make_rows
from tests.learning.tiny_models import make_bert, make_llama

CPU = torch.device("cpu")


def texts_of(folder: Path) -> list[Tokens]:
    rows = make_rows(12)
    texts = TextEncoder(load_tokenizer(folder), 48).encode(
        [row.prompt for row in rows], [row.completion * (1 + number % 3) for number, row in
                                       enumerate(rows)]
    )  # fmt: skip
    assert len({len(text.ids) for text in texts}) > 2
    return texts


@pytest.mark.parametrize("make", [make_bert, make_llama])
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_packed_row_says_what_padded_texts_say(
    make: object, lora_rank: int, tmp_path: Path
) -> None:
    folder = make(tmp_path)  # type: ignore[operator]
    model = load_base(folder, num_labels=2, seed=0)
    model.config.pad_token_id = pad_id = load_tokenizer(folder).pad_token_id
    set_dropout(model, hidden=0.0, attention=0.0)
    if lora_rank:
        model = add_lora(model, rank=lora_rank, head="sequence")
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # adapters begin as nothing
                torch.nn.init.normal_(weight, std=0.1)
    texts = texts_of(folder)
    assert can_pack(model)
    before = model.config._attn_implementation
    packed = forward_packed(model.eval(), texts, CPU)
    assert model.config._attn_implementation == before
    padded = run_forward(model, texts, pad_id, CPU)
    assert packed.shape == (12, 2)
    assert torch.allclose(packed, padded, atol=1e-5)
    alone = forward_packed(model, texts[3:4], CPU)
    assert torch.allclose(alone[0], packed[3], atol=1e-5)


@pytest.mark.parametrize("make", [make_bert, make_llama])
def test_what_fills_a_row_up_changes_neither_logits_nor_gradient(
    make: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path)  # type: ignore[operator]
    model = load_base(folder, num_labels=2, seed=0)
    model.config.pad_token_id = load_tokenizer(folder).pad_token_id
    set_dropout(model, hidden=0.0, attention=0.0)
    texts = texts_of(folder)
    found: list[list[torch.Tensor | None]] = []
    for fill in (37, 0):
        monkeypatch.setattr(transformer_packed, "_count_filling", lambda *_, fill=fill: fill)
        model.zero_grad()
        logits = forward_packed(model.train(), texts, CPU)
        logits.square().sum().backward()
        found.append([logits, *(weight.grad for weight in model.parameters())])
    for filled, plain in zip(*found, strict=True):
        assert (filled is None) == (plain is None)
        if filled is not None and plain is not None:
            assert torch.allclose(filled, plain, atol=1e-5, rtol=1e-4)


def test_a_row_in_16_bits_is_filled_up(tmp_path: Path) -> None:
    folder = make_bert(tmp_path)
    model = load_base(folder, num_labels=1, seed=0)
    seen: list[int] = []
    model.bert.encoder.register_forward_hook(lambda *told: seen.append(told[1][0].shape[1]))
    texts = texts_of(folder)
    forward_packed(model, texts, CPU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        forward_packed(model, texts, CPU)
    assert seen[0] == sum(len(text.ids) for text in texts)
    assert seen[1] % 64 == 0
    assert 0 < seen[1] - seen[0] < 64


def test_a_model_of_another_kind_is_not_packed(tmp_path: Path) -> None:
    model = load_base(make_bert(tmp_path), num_labels=1, seed=0)
    model.config.model_type = "deberta-v2"
    assert not can_pack(model)
