"""The model that serves: loaded from verified files, swapped when the alias moves."""

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from rlhf_core.artifacts import open_artifact
from rlhf_core.config import get_settings
from rlhf_core.encoder.cache import CachedEncoder
from rlhf_core.encoder.model import SentenceEncoder, load_encoder
from rlhf_core.errors import RlhfError, Unavailable
from rlhf_core.registry.service import REWARD_MODEL, find_production
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.rewards.base import RewardModel
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import ModelKind

LOGGER = logging.getLogger(__name__)
RETRY_AFTER_S = 10.0
"""How long a version that could not be loaded is left alone: its files may be restored."""


class Loaded(Protocol):
    """A version in memory."""

    @property
    def version_id(self) -> uuid.UUID:
        """Which version it is."""

    @property
    def name(self) -> str:
        """What people call it, such as `reward v3`."""


Model = TypeVar("Model", bound=Loaded)


@dataclass(frozen=True)
class LoadedModel:
    """A version in memory. Requests hold it, so that a swap ends none of them."""

    version_id: uuid.UUID
    name: str
    model: RewardModel

    def score(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float | None]:
        """The reward of each pair, P(good) in 0..1; None where the model gave no finite number.

        Raises Unavailable where it gave none at all.
        """
        found = self.model.score(prompts, completions)
        scores = [float(score) if math.isfinite(score) else None for score in found]
        if scores and all(score is None for score in scores):
            raise Unavailable(f"{self.name} gave no number; train and promote another version.")
        return scores


def load_version(version: ModelVersionView, *, is_caching: bool = False) -> LoadedModel:
    """Verify the files of a version, load it and score one pair, which warms everything.

    `is_caching`: embeddings are kept on the disk, for work on texts that come again. Raises
    InvalidInput or Unavailable naming what is wrong with the files or the encoder.
    """
    folder = open_artifact(version.folder, version.manifest_sha256)
    model = open_model(version.kind, folder, is_caching=is_caching)
    loaded = LoadedModel(version.id, version.name, model)
    loaded.score(["Is it warm?"], ["It is warm."])
    return loaded


def open_model(kind: ModelKind, folder: Path, *, is_caching: bool = False) -> RewardModel:
    """The reward model in a verified folder; the settings' encoder is loaded where it needs one.

    Raises InvalidInput for files that are no such model, or that fit another encoder.
    """
    from rlhf_core.rewards.ensemble import read_ensemble
    from rlhf_core.rewards.loading import load_model

    inner = kind
    if kind is ModelKind.REWARD_ENSEMBLE:
        inner = read_ensemble(folder).member_kind
    encoder: SentenceEncoder | None = None
    if inner is ModelKind.REWARD_SBERT:
        settings = get_settings()
        encoder = load_encoder(settings.encoder)
        if is_caching:
            encoder = CachedEncoder(encoder, settings.embedding_dir)
    return load_model(kind, folder, encoder=encoder)


class ModelSlot(Generic[Model]):
    """Holds the `production` version of a model, and follows the alias at each `refresh()`.

    A version that cannot be loaded leaves the one before in place; `problem` then says so.
    """

    def __init__(
        self,
        store: Store,
        load: Callable[[ModelVersionView], Model],
        *,
        model_name: str = REWARD_MODEL,
    ) -> None:
        self._store = store
        self._model_name = model_name
        self._load = load
        self._lock = threading.Lock()
        self._failed: uuid.UUID | None = None
        self._retry_at = 0.0
        self._refreshed_at = -math.inf
        self.current: Model | None = None
        self.problem: str | None = "The model is being loaded."

    def refresh(self, *, at_most_every_s: float = 0.0) -> None:
        """Look where the alias points and load that version if it is another. Never raises."""
        with self._lock:
            if time.monotonic() < self._refreshed_at + at_most_every_s:
                return
            try:
                with self._store.reading() as db:
                    wanted = find_production(db, self._model_name)
            except Exception as error:  # noqa: BLE001 - no trouble of the database ends serving
                self.problem = say(error)
            else:
                self._follow(wanted)
            self._refreshed_at = time.monotonic()

    def _follow(self, wanted: ModelVersionView | None) -> None:
        if wanted is None:
            self.current = None
            self.problem = "No model is promoted yet."
        elif self.current is not None and self.current.version_id == wanted.id:
            self.problem = None
        elif self._failed != wanted.id or time.monotonic() >= self._retry_at:
            self._swap(wanted)

    def _swap(self, wanted: ModelVersionView) -> None:
        if self.current is None:
            self.problem = f"{wanted.name} is being loaded; try again in a moment."
        try:
            loaded = self._load(wanted)
        except Exception as error:  # noqa: BLE001 - no file of a new version may end the old one
            self._failed, self._retry_at = wanted.id, time.monotonic() + RETRY_AFTER_S
            still = "" if self.current is None else f" {self.current.name} serves on."
            self.problem = f"{wanted.name} cannot be served: {say(error)}{still}"
            LOGGER.error(self.problem)
        else:
            self.current, self.problem, self._failed = loaded, None, None
            LOGGER.info("%s serves", wanted.name)


def say(error: Exception) -> str:
    """What went wrong, for people."""
    return str(error) if isinstance(error, RlhfError) else f"{type(error).__name__}: {error}"
