"""The job that trains a reward model: freeze the rows, train on them, register the version."""

import shutil
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.artifacts import ArtifactInfo, write_artifact
from rlhf_core.config import get_settings
from rlhf_core.dataset.builder import ScoresParams, count_scores
from rlhf_core.dataset.readiness import find_shortage
from rlhf_core.dataset.rows_file import stage_scores
from rlhf_core.dataset.service import DatasetVersionView, freeze_version, load_scores
from rlhf_core.errors import InvalidInput
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.service import JobView, enqueue_job, list_jobs
from rlhf_core.registry.service import REWARD_MODEL, register_version
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.rewards.sbert import SbertParams
from rlhf_core.store.tables import ModelVersion
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import JobKind, JobState, ModelKind

DEFAULT_DATASET = "ratings"
FOLDER = "models"
START_S = 5.0  # a process, and the encoder in it
TEXTS_A_SECOND = 30.0  # long texts on two busy cores, before a run has measured it
MEANINGFUL_TEXTS = 100  # embedded by a run, for its speed to say anything
FIT_S_A_ROW = 0.004


@dataclass(frozen=True)
class TrainSbertParams:
    """What a run is asked for. `dataset` and `model` are names; they are made where new.

    `source`: learn only from interactions of this source; None is all.
    """

    dataset: str = DEFAULT_DATASET
    model: str = REWARD_MODEL
    source: str | None = None
    threshold: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.learner_params()  # refuses what the learner would
        for field in ("dataset", "model"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value.strip() or len(value) > 200:
                raise InvalidInput(f"{field}: give a name of 1 to 200 characters.", field=field)

    def learner_params(self) -> SbertParams:
        """The part that the learner knows."""
        return SbertParams(threshold=self.threshold, seed=self.seed)

    def dedup_key(self) -> str:
        """Equal requests share it: one is under way at a time."""
        wanted = f"{self.dataset}\n{self.model}\n{self.source}\n{self.threshold:g}\n{self.seed}"
        return f"{JobKind.TRAIN_SBERT.value}:{uuid.uuid5(uuid.NAMESPACE_OID, wanted)}"


@dataclass(frozen=True)
class RunCost:
    """What a run cost, kept in its result: the next one's duration is estimated from it."""

    encoder: str
    num_rows: int
    num_prompts: int
    num_embedded: int
    embedding_s: float
    took_s: float


def parse_params(params: dict[str, Any]) -> TrainSbertParams:
    """The parameters of a job; InvalidInput names a field that is unknown or of another type."""
    known = TrainSbertParams.__dataclass_fields__
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise InvalidInput(
            f"Unknown parameter {unknown[0]!r}: choose from {', '.join(known)}.", field=unknown[0]
        )
    try:
        return TrainSbertParams(**params)
    except TypeError as error:
        raise InvalidInput(f"A parameter is of the wrong type: {error}.") from error


def enqueue_train_sbert(db: Session, *, actor: Actor, params: TrainSbertParams) -> JobView:
    """Queue a run; Conflict while an equal one is queued or running."""
    return enqueue_job(
        db,
        actor=actor,
        kind=JobKind.TRAIN_SBERT,
        params=asdict(params),
        dedup_key=params.dedup_key(),
    )


def find_under_way(db: Session, params: TrainSbertParams) -> JobView | None:
    """The queued or running run with equal parameters, which a second one has to wait for."""
    jobs = list_jobs(
        db, states=[JobState.QUEUED, JobState.RUNNING], kind=JobKind.TRAIN_SBERT, limit=1_000
    )
    return next((job for job in jobs if job.dedup_key == params.dedup_key()), None)


def estimate_duration_s(db: Session, *, num_rows: int, num_prompts: int) -> float:
    """About how long a run on so many rows takes, from what earlier runs cost on this machine.

    Texts that an earlier run embedded are known; the rest takes as long as it took then.
    """
    jobs = list_jobs(db, states=[JobState.SUCCEEDED], kind=JobKind.TRAIN_SBERT, limit=50)
    results = [job.result or {} for job in jobs]
    costs = [RunCost(**result["cost"]) for result in results if result.get("cost")]
    costs = [cost for cost in costs if cost.encoder == get_settings().encoder]
    known_rows = max((cost.num_rows for cost in costs), default=0)
    known_prompts = max((cost.num_prompts for cost in costs), default=0)
    speed = next(
        (
            cost.num_embedded / cost.embedding_s
            for cost in costs
            if cost.num_embedded >= MEANINGFUL_TEXTS and cost.embedding_s > 0
        ),
        TEXTS_A_SECOND,
    )
    fresh = max(0, num_rows - known_rows) + max(0, num_prompts - known_prompts)
    return START_S + fresh / speed + num_rows * FIT_S_A_ROW


def run_train_sbert(context: JobContext) -> dict[str, Any]:
    """Run it. A job registers one version, also when it is taken up again after a kill."""
    params = parse_params(context.params)
    registered = _find_registered(context)
    if registered is not None:
        return _tell(registered)
    tracker = context.tracker
    tracker.progress(0.0, "Reading the ratings")
    wanted = ScoresParams(source=params.source)
    with context.store.reading() as db:
        counts = count_scores(db, params=wanted, threshold=params.threshold)
        shortage = find_shortage(counts, threshold=params.threshold)
        if shortage is not None:
            raise shortage
        staged = stage_scores(db, params=wanted)
    with context.store.writing() as db:
        frozen = freeze_version(db, actor=context.actor, name=params.dataset, staged=staged)
    _log_dataset(context, frozen.version, was_created=frozen.was_created)

    report, artifact, cost = _train(context, params, frozen.version)
    with context.store.writing() as db:
        version = register_version(
            db,
            actor=context.actor,
            model_name=params.model,
            kind=ModelKind.REWARD_SBERT,
            report=report,
            artifact=artifact,
            job_id=context.job_id,
            dataset_version_id=frozen.version.id,
            dataset_hash=frozen.version.content_hash,
        )
    tracker.log(f"Registered as {version.name}. Promote it on the page Models to let it serve.")
    return {**_tell(version), "cost": asdict(cost)}


def _train(
    context: JobContext, params: TrainSbertParams, dataset: DatasetVersionView
) -> tuple[TrainReport, ArtifactInfo, RunCost]:
    from rlhf_core.encoder.cache import CachedEncoder
    from rlhf_core.encoder.model import load_encoder
    from rlhf_core.rewards.sbert import train

    settings = get_settings()
    rows = load_scores(dataset)
    context.tracker.progress(0.0, "Loading the sentence encoder")
    encoder = CachedEncoder(load_encoder(settings.encoder), settings.embedding_dir)
    reports: list[TrainReport] = []
    started_at = time.monotonic()

    def fill(folder: Path) -> None:
        reports.append(
            train(
                rows,
                params=params.learner_params(),
                encoder=encoder,
                out_dir=folder,
                tracker=context.tracker,
            )
        )

    target = settings.artifact_dir / FOLDER / f"{context.job_id}-{context.attempt}"
    _remove_earlier_attempts(target)
    artifact = write_artifact(target, fill)
    took_s = time.monotonic() - started_at
    context.tracker.log(
        f"Trained in {took_s:.1f} s; {encoder.num_computed} texts were embedded anew, the others "
        "were known from earlier runs."
    )
    cost = RunCost(
        encoder=settings.encoder,
        num_rows=dataset.num_rows,
        num_prompts=dataset.num_groups,
        num_embedded=encoder.num_computed,
        embedding_s=reports[0].details["seconds"]["embedding"],
        took_s=took_s,
    )
    return reports[0], artifact, cost


def _remove_earlier_attempts(target: Path) -> None:
    """Drop what attempts of this job wrote and could not register before they were killed."""
    job = target.name.rpartition("-")[0]
    for path in target.parent.glob(f"{job}-*"):
        shutil.rmtree(path, ignore_errors=True)


def _log_dataset(context: JobContext, version: DatasetVersionView, *, was_created: bool) -> None:
    state = "frozen" if was_created else "as frozen before, nothing has changed since"
    context.tracker.log(
        f"Dataset {version.name}, {state}: {version.num_rows} rated completions of "
        f"{version.num_groups} prompts, {version.card['num_ratings']} ratings."
    )
    if version.left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in version.left_out.items())
        context.tracker.log(f"Left out: {reasons}.")


def _find_registered(context: JobContext) -> ModelVersionView | None:
    """The version that an attempt of this job registered before it could say so."""
    with context.store.reading() as db:
        found = load_versions(db, ModelVersion.job_id == context.job_id)
    return found[0] if found else None


def _tell(version: ModelVersionView) -> dict[str, Any]:
    metrics = version.metrics
    message = f"Trained {version.name}"
    if "auc" in metrics:
        message += (
            f": AUC {metrics['auc']:.3f} on prompts not seen, {metrics['length_only_auc']:.3f} by "
            "length alone"
        )
    return {
        "message": message + ".",
        "model": version.model_name,
        "version": version.number,
        "version_id": str(version.id),
        "dataset": version.dataset,
        "metrics": metrics,
    }
