import asyncio
import io
import json
import wave
from pathlib import Path

import httpx
import pytest

from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.registry.service import REWARD_MODEL
from rlhf_core.serving.client import SECRET_HEADER
from rlhf_core.serving.inference import InferenceService, build_app
from rlhf_core.serving.loader import load_version
from rlhf_core.serving.logbook import Logbook
from rlhf_core.serving.policies import PolicyShelf
from rlhf_core.serving.speech import SpeechModel, read_wave
from rlhf_core.serving.traffic import Traffic
from rlhf_core.store.engine import Store


def recording(rate: int = 16_000, seconds: float = 0.3, width: int = 2, channels: int = 1) -> bytes:
    """A WAV file whose samples are half of the greatest value."""
    out = io.BytesIO()
    half = {1: b"\xc0", 2: (2**14).to_bytes(2, "little"), 4: (2**30).to_bytes(4, "little")}[width]
    with wave.open(out, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(half * channels * int(rate * seconds))
    return out.getvalue()


@pytest.mark.parametrize("width", [1, 2, 4])
def test_samples_are_read_on_one_scale_and_at_the_wanted_rate(width: int) -> None:
    samples = read_wave(recording(48_000, 0.5, width, channels=2), 16_000)
    assert len(samples) == 8_000
    assert samples[2_000:6_000].mean() == pytest.approx(0.5, abs=1e-3)


def test_what_is_no_recording_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no WAV file"):
        read_wave(b"no sound", 16_000)
    with pytest.raises(InvalidInput, match="100,000,007 samples a second"):
        read_wave(recording(100_000_007, 1e-6), 16_000)
    with pytest.raises(InvalidInput, match="9 channels"):
        read_wave(recording(channels=9), 16_000)


def test_without_a_model_or_with_a_wrong_folder_a_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No speech model is configured"):
        SpeechModel("").transcribe(recording())
    with pytest.raises(Unavailable, match="there is no folder"):
        SpeechModel(str(tmp_path / "gone")).transcribe(recording())
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "evil.py"}}))
    with pytest.raises(Unavailable, match="never run"):
        SpeechModel(str(tmp_path)).transcribe(recording())


@pytest.mark.slow
def test_tiny_model_of_a_folder_writes_a_recording_down(tmp_path: Path) -> None:
    import torch
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    torch.manual_seed(0)
    names = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abc"]
    words = {name: number for number, name in enumerate(names)}
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    tokenizer = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    extractor = Wav2Vec2FeatureExtractor()
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(tmp_path)
    model = Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, conv_dim=(16, 16), conv_stride=(5, 4), conv_kernel=(10, 4),
            num_feat_extract_layers=2, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
            pad_token_id=0,
        )
    )  # fmt: skip
    with torch.no_grad():  # hears "b" whatever is said
        model.lm_head.weight.zero_()
        model.lm_head.bias.copy_(torch.nn.functional.one_hot(torch.tensor(words["b"]), len(words)))
    model.save_pretrained(tmp_path)
    speech = SpeechModel(str(tmp_path))
    assert speech.transcribe(recording(8_000)) == "b"


@pytest.mark.slow
def test_tiny_whisper_with_weights_drawn_by_chance_writes_a_recording_down(tmp_path: Path) -> None:
    make_whisper(tmp_path)
    speech = SpeechModel(str(tmp_path))
    said = speech.transcribe(recording(16_000, 1.0))
    assert said == speech.transcribe(recording(16_000, 1.0))
    longer = speech.transcribe(recording(16_000, 35.0))  # it hears 30 s at once
    assert set(said) | set(longer) <= set("abc ")
    assert said
    assert longer


def make_whisper(folder: Path) -> None:
    """A Whisper of 16 units over a few letters, with the marks of time that it needs."""
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    marks = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|translate|>",
             "<|notimestamps|>"]  # fmt: skip
    times = [f"<|{number * 0.02:.2f}|>" for number in range(1_501)]
    words = {name: number for number, name in enumerate(["a", "b", "c", *marks, *times])}
    tokenizer = WhisperTokenizer(
        vocab={name: words[name] for name in "abc"} | {marks[0]: words[marks[0]]}, merges=[]
    )
    tokenizer.add_special_tokens({"additional_special_tokens": marks[1:]})
    tokenizer.add_tokens(times)
    assert tokenizer.convert_tokens_to_ids(["c", *marks, times[-1]]) == [
        words[name] for name in ("c", *marks, times[-1])
    ]
    extractor = WhisperFeatureExtractor(feature_size=8)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    end = words["<|endoftext|>"]
    start = words["<|startoftranscript|>"]
    torch.manual_seed(3)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(words), num_mel_bins=8, d_model=16, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
            decoder_ffn_dim=16, max_target_positions=32, decoder_start_token_id=start,
            bos_token_id=end, eos_token_id=end, pad_token_id=end,
        )
    )  # fmt: skip
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end,
        no_timestamps_token_id=words["<|notimestamps|>"], is_multilingual=True, max_length=32,
        lang_to_id={"<|en|>": words["<|en|>"]}, max_initial_timestamp_index=50,
        task_to_id={name: words[f"<|{name}|>"] for name in ("transcribe", "translate")},
        prev_sot_token_id=start, return_timestamps=False,
    )  # fmt: skip
    model.save_pretrained(folder)


def test_inference_process_says_in_a_sentence_that_it_has_no_speech_model(store: Store) -> None:
    logbook = Logbook(store)
    rewards = Traffic(store, load_version, model_name=REWARD_MODEL, capacity=1)
    service = InferenceService(rewards, PolicyShelf(store), logbook, patience_s=1.0)
    app = build_app(service, "secret")

    async def ask(header: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post(
                "/transcribe", content=recording(), headers={SECRET_HEADER: header}
            )

    assert asyncio.run(ask("wrong")).status_code == 401
    answer = asyncio.run(ask("secret"))
    logbook.close()
    assert answer.status_code == 503
    assert "No speech model is configured" in answer.json()["error"]
