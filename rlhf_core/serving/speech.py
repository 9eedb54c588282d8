"""Turning a voice note into text, with a speech model of the installation's own, if there is one.

Runs in the inference process. The model is a folder of transformers (Whisper, wav2vec 2.0, ...)
with weights as safetensors; code in the folder is never run, nothing is fetched.
"""

import io
import logging
import threading
import wave
from pathlib import Path
from typing import Any

from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.feedback.attachments import check_format
from rlhf_core.pretrained import (
    first_line,
    quiet_transformers,
    refuse_foreign_code,
    require_safetensors,
)

LOGGER = logging.getLogger(__name__)
NOT_CONFIGURED = (
    "No speech model is configured: set RLHF_SPEECH_MODEL to the folder of one, such as a "
    "downloaded whisper-small."
)
MAX_AT_ONCE_S = 25.0
"""Seconds that a model of the CTC kind hears in one piece; Whisper cuts by itself."""


class SpeechModel:
    """The speech model of a folder, opened at the first recording. Safe in threads."""

    def __init__(self, folder: str) -> None:
        self._name = folder
        self._lock = threading.Lock()
        self._pipeline: Any = None

    def transcribe(self, content: bytes) -> str:
        """What is said in a WAV recording (PCM of 8, 16 or 32 bits).

        Raises:
            Unavailable: no model is configured, or it cannot be opened or fails.
            InvalidInput: it is no such recording, or no recorder has its rate or channels.
        """
        if not self._name:
            raise Unavailable(NOT_CONFIGURED)
        with self._lock:  # one at a time: it takes all cores anyway
            if self._pipeline is None:
                self._pipeline = open_speech_model(self._name)
            rate = int(self._pipeline.feature_extractor.sampling_rate)
            sound = read_wave(content, rate)
            options: dict[str, Any] = (
                {"return_timestamps": True}  # else Whisper hears the first 30 s only
                if self._pipeline.type == "seq2seq_whisper"
                else {"chunk_length_s": MAX_AT_ONCE_S}
            )
            try:
                with quiet_transformers():
                    heard = self._pipeline({"raw": sound, "sampling_rate": rate}, **options)
            except Exception as error:
                LOGGER.exception("the speech model failed")
                raise Unavailable(
                    f"The speech model failed ({type(error).__name__}: {first_line(error)})."
                ) from error
        return str(heard["text"]).strip()


def open_speech_model(name: str) -> Any:
    """The pipeline of a folder. Raises Unavailable where it is none that may be opened."""
    folder = Path(name).expanduser()
    try:
        if not folder.is_dir():
            raise InvalidInput(f"there is no folder {name!r}")
        refuse_foreign_code(folder)
        require_safetensors(folder)
        from transformers import pipeline

        with quiet_transformers():
            # No `local_files_only`: it would reach Whisper's `generate`, which refuses it. Of a
            # folder nothing is fetched.
            opened = pipeline(
                "automatic-speech-recognition",
                model=str(folder.resolve()),
                device="cpu",
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
    except Exception as error:
        LOGGER.warning("RLHF_SPEECH_MODEL cannot be opened: %s", error)
        raise Unavailable(
            f"The speech model {name} of RLHF_SPEECH_MODEL cannot be opened: {first_line(error)}"
        ) from error
    return opened


def read_wave(content: bytes, rate: int) -> Any:
    """A WAV recording as float32 samples of one channel, -1 to 1, at `rate` samples a second."""
    import numpy as np

    kinds = {1: (np.uint8, 128.0, 128.0), 2: (np.int16, 0.0, 32_768.0), 4: (np.int32, 0.0, 2.0**31)}
    try:
        with wave.open(io.BytesIO(content)) as sound:
            check_format(sound)
            kind, zero, scale = kinds[sound.getsampwidth()]
            own_rate, channels = sound.getframerate(), sound.getnchannels()
            raw = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError, KeyError) as error:
        raise InvalidInput("The recording is no WAV file of 8, 16 or 32 bits.") from error
    whole = len(raw) - len(raw) % (channels * np.dtype(kind).itemsize)
    samples = (np.frombuffer(raw[:whole], dtype=kind).astype(np.float32) - zero) / scale
    samples = samples.reshape(-1, channels).mean(axis=1)
    if own_rate != rate:
        from math import gcd

        from scipy.signal import resample_poly

        divisor = gcd(own_rate, rate)
        samples = resample_poly(samples, rate // divisor, own_rate // divisor)
    return samples.astype(np.float32)
