"""Calls the learners: one model, or an ensemble of them, each member kept once it is made.

A member that was finished before the run was killed is not trained again; one that was under way
goes on from its last checkpoint, where its learner makes some.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.artifacts import ArtifactInfo, write_artifact
from rlhf_core.config import get_settings
from rlhf_core.errors import TrainingFailed
from rlhf_core.examples import Example
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.model_files import copy_kept, make_kept, model_dir
from rlhf_core.jobs.train_params import LEARNER_KINDS, TrainRewardParams
from rlhf_core.training import Sample, Tracker, TrainReport
from rlhf_core.vocabulary import JobKind

if TYPE_CHECKING:
    from rlhf_core.encoder.cache import CachedEncoder


@dataclass(frozen=True)
class Assignment:
    """One model to make of rows. `role` names it among the models of a run (`model`, `judge`).

    `begin` and `end` are where in the whole run's progress, 0..1, the work on it lies.
    """

    role: str
    rows: Sequence[Example]
    begin: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class Trained:
    """A model that was made, not registered yet."""

    report: TrainReport
    artifact: ArtifactInfo
    took_s: float


class PartTracker:
    """Passes on what a member reports, as its part of the whole run, under its own name."""

    def __init__(self, tracker: Tracker, *, begin: float, end: float, label: str) -> None:
        self._tracker = tracker
        self._begin = begin
        self._share = end - begin
        self._label = label

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far this part is."""
        said = f"{self._label}: {message}" if self._label and message else message
        self._tracker.progress(self._begin + self._share * min(1.0, max(0.0, fraction)), said)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Record the numbers under the part's name."""
        named = {f"{self._label} {name}".strip(): value for name, value in values.items()}
        self._tracker.metrics(step, named)

    def log(self, text: str) -> None:
        """Append to the run's log."""
        self._tracker.log(f"{self._label}: {text}" if self._label else text)

    def samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Show what the run's own policy answers; a part's steps would be taken for the run's."""
        if not self._label:
            self._tracker.samples(step, samples)

    def should_stop(self) -> bool:
        """Whether the run was asked to end."""
        return self._tracker.should_stop()


class Trainer:
    """Makes the models of one run. Loads the sentence encoder at most once, where it is needed."""

    def __init__(self, context: JobContext, params: TrainRewardParams) -> None:
        self._context = context
        self._params = params
        self._encoder: CachedEncoder | None = None

    @property
    def has_encoder(self) -> bool:
        """Whether the sentence encoder was needed."""
        return self._encoder is not None

    @property
    def num_embedded(self) -> int:
        """Texts that were embedded anew."""
        return self._encoder.num_computed if self._encoder else 0

    def encoder(self) -> "CachedEncoder":
        """The sentence encoder of the settings, with its cache."""
        if self._encoder is None:
            from rlhf_core.encoder.cache import CachedEncoder
            from rlhf_core.encoder.model import load_encoder

            settings = get_settings()
            self._encoder = CachedEncoder(load_encoder(settings.encoder), settings.embedding_dir)
        return self._encoder

    def train(self, work: Assignment) -> Trained:
        """Train and write the files. What the learner raises goes through; nothing is left then."""
        started_at = time.monotonic()
        reports: list[TrainReport] = []
        artifact = write_artifact(
            model_dir(self._context, work.role),
            lambda folder: reports.append(self._fill(work, folder)),
        )
        report = replace(reports[0], artifact_dir=artifact.path)
        return Trained(report, artifact, time.monotonic() - started_at)

    def _fill(self, work: Assignment, folder: Path) -> TrainReport:
        first, count = self._params.seed, self._params.seeds
        if count == 1 and not self._params.with_judge:
            return self._learn(work, first, folder, label="", place=(0, 1))
        name = "" if work.role == "model" else work.role
        if count == 1:
            return self._make_member(work, first, folder, label=name, place=(0, 1))

        from rlhf_core.rewards.ensemble import train_ensemble

        def train_one(seed: int, part: Path) -> TrainReport:
            label = f"{name} seed {seed}".strip()
            return self._make_member(work, seed, part, label=label, place=(seed - first, count))

        return train_ensemble(
            train_one,
            range(first, first + count),
            folder,
            member_kind=LEARNER_KINDS[self._params.learner],
        )

    def _make_member(
        self, work: Assignment, seed: int, folder: Path, *, label: str, place: tuple[int, int]
    ) -> TrainReport:
        """A member's files in `folder`: those kept from an earlier attempt, else trained now."""
        kept = self._checkpoints(work.role, seed)
        report = make_kept(
            kept,
            lambda part: self._learn(work, seed, part, label=label, place=place),
            label=label,
            log=self._context.tracker.log,
        )
        copy_kept(kept, folder)
        return replace(report, artifact_dir=folder)

    def _checkpoints(self, role: str, seed: int) -> Path:
        return self._context.work_dir / f"{role}-{seed}"

    def _learn(
        self, work: Assignment, seed: int, out_dir: Path, *, label: str, place: tuple[int, int]
    ) -> TrainReport:
        number, count = place
        share = (work.end - work.begin) / count
        begin = work.begin + number * share
        tracker = PartTracker(self._context.tracker, begin=begin, end=begin + share, label=label)
        report = self._call(work, seed, out_dir, tracker)
        if tracker.should_stop():  # what a learner returns then may be half a model
            raise TrainingFailed("Stopped on request; the run goes on from its last checkpoint.")
        return report

    def _call(self, work: Assignment, seed: int, out_dir: Path, tracker: Tracker) -> TrainReport:
        params: Any = self._params.learner_params(seed=seed)
        rows: Any = work.rows
        work_dir = self._checkpoints(work.role, seed) / "checkpoints"
        match self._params.learner:
            case JobKind.TRAIN_SBERT:
                from rlhf_core.rewards.sbert import train

                tracker.progress(0.0, "Loading the sentence encoder")
                return train(
                    rows, params=params, encoder=self.encoder(), out_dir=out_dir, tracker=tracker
                )
            case JobKind.TRAIN_TRANSFORMER:
                from rlhf_core.rewards.transformer import train_transformer

                work_dir.mkdir(parents=True, exist_ok=True)
                return train_transformer(
                    rows, params=params, out_dir=out_dir, work_dir=work_dir, tracker=tracker
                )
            case _:
                from rlhf_core.rewards.steps import train_steps

                work_dir.mkdir(parents=True, exist_ok=True)
                return train_steps(
                    rows, params=params, out_dir=out_dir, work_dir=work_dir, tracker=tracker
                )
