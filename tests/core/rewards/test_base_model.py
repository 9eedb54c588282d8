"""Base models: what is opened, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from rlhf_core.errors import InvalidInput, RlhfError
from rlhf_core.rewards.base_model import (
    add_lora,
    choose_precision,
    find_max_positions,
    float32_attention,
    load_base,
    load_tokenizer,
    merge_lora,
    open_base,
    set_dropout,
)
from tests.learning.tiny_models import make_bert, make_llama

CPU = torch.device("cpu")


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return make_bert(tmp_path / "bert")


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_bundled_model_opens_as_a_classifier_with_a_fresh_head() -> None:
    folder = open_base("minilm")
    model = load_base(folder, num_labels=3, seed=1)
    assert model.config.num_labels == 3
    assert model.classifier.weight.shape == (3, 384)
    assert find_max_positions(model, load_tokenizer(folder)) == 512


def test_the_head_is_drawn_by_the_seed(bert: Path) -> None:
    first, again, other = (load_base(open_base(str(bert)), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_a_token_head_has_logits_for_each_token(bert: Path) -> None:
    model = load_base(bert, head="token", num_labels=2)
    assert model(input_ids=torch.ones(1, 5, dtype=torch.long)).logits.shape == (1, 5, 2)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_folder_that_names_code_of_its_own_is_refused(bert: Path, file: str) -> None:
    (bert / "modeling_own.py").write_text("raise SystemExit('this must never run')")
    edit(bert / file, auto_map={"AutoModel": "modeling_own.Own"})
    with pytest.raises(InvalidInput, match=r"code of its own, which is never run"):
        open_base(str(bert))


def test_pickled_weights_are_refused(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match="safetensors"):
        open_base(str(bert))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"config\.json cannot be read"):
        open_base(str(tmp_path))


@pytest.mark.parametrize("name", ["/no/such/folder", "../nothing/here", "no such name", ""])
def test_a_base_that_does_not_exist_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"There is no base model .*minilm"):
        open_base(name)


def test_a_hub_id_without_network_says_to_use_the_bundled_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RlhfError, match="minilm"):
        open_base("nobody/no-such-model-here")


def test_damaged_weights_are_refused(bert: Path) -> None:
    (bert / "model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(InvalidInput, match="cannot be opened as a classifier"):
        load_base(open_base(str(bert)))


def test_a_trained_model_must_bring_all_its_weights(bert: Path) -> None:
    with pytest.raises(InvalidInput, match="classifier"):
        load_base(bert, is_trained=True)


def test_a_folder_without_tokenizer_is_refused(bert: Path) -> None:
    for file in bert.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InvalidInput, match="tokenizer"):
        load_tokenizer(bert)


def test_a_tokenizer_without_padding_pads_with_its_end_token(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_llama(tmp_path))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_merged_adapters_score_as_the_adapted_model(bert: Path) -> None:
    inputs = {"input_ids": torch.arange(4, 12)[None]}
    model = add_lora(load_base(bert), rank=2, head="sequence")
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert any("lora_B" in name for name in trained)
    assert any("classifier" in name for name in trained)
    assert not any("word_embeddings" in name for name in trained)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)
    model.eval()
    before = model(**inputs).logits
    plain = merge_lora(model)
    assert not any("lora" in name for name in plain.state_dict())
    assert torch.allclose(plain(**inputs).logits, before, atol=1e-5)


def test_dropout_is_set_by_place(bert: Path) -> None:
    model = load_base(bert)
    set_dropout(model, hidden=0.3, attention=0.0)
    attention = model.bert.encoder.layer[0].attention
    assert attention.self.dropout.p == 0.0
    assert attention.output.dropout.p == 0.3
    assert model.bert.encoder.layer[0].output.dropout.p == 0.3
    assert model.dropout.p == 0.3


def test_float32_attention_says_the_same_and_leaves_no_trace(bert: Path, tmp_path: Path) -> None:
    model = load_base(bert).eval()
    inputs = {
        "input_ids": torch.arange(4, 12).repeat(2, 1),
        "attention_mask": torch.tensor([[1] * 8, [1] * 5 + [0] * 3]),
    }
    plain = model(**inputs).logits
    with float32_attention(model, is_on=True), torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.config._attn_implementation == "sdpa_in_float32"
        rounded = model(**inputs).logits
    assert torch.allclose(plain, rounded.float(), atol=0.02)
    assert model.config._attn_implementation == "sdpa"
    model.save_pretrained(tmp_path / "saved")
    assert "float32" not in (tmp_path / "saved" / "config.json").read_text().replace(
        '"dtype": "float32"', ""
    )


def test_precision_is_what_the_device_can_do() -> None:
    assert choose_precision("fp32", CPU).dtype == torch.float32
    assert choose_precision("bf16", CPU).dtype == torch.bfloat16
    assert choose_precision("auto", CPU).name in ("fp32", "bf16")
    assert choose_precision("fp16", torch.device("cuda")).needs_scaler
    with pytest.raises(InvalidInput, match="GPU"):
        choose_precision("fp16", CPU)
