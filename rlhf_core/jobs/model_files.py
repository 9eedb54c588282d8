"""The files of the models that a run makes: kept from attempt to attempt, then registered or gone.

A model that was finished before the run was killed is not trained again. What a run writes into
the artifact folder and does not register is removed.
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from rlhf_core.artifacts import MANIFEST, ArtifactInfo, open_artifact, write_artifact
from rlhf_core.config import get_settings
from rlhf_core.errors import RlhfError
from rlhf_core.jobs.context import JobContext
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.store.tables import ModelVersion
from rlhf_core.training import TrainReport

FOLDER = "models"
KEPT_MODEL = "model"
KEPT_REPORT = "report.json"


def model_dir(context: JobContext, role: str) -> Path:
    """Where in the artifact folder this attempt writes its model of that role."""
    return get_settings().artifact_dir / FOLDER / f"{context.job_id}-{context.attempt}-{role}"


def find_registered(context: JobContext) -> ModelVersionView | None:
    """The version that an attempt of this job registered before it could say so."""
    with context.store.reading() as db:
        found = load_versions(db, ModelVersion.job_id == context.job_id)
    return found[0] if found else None


def remove_unregistered(context: JobContext) -> None:
    """Drop the models that this run, or an attempt before it, wrote and did not register."""
    root = get_settings().artifact_dir
    with context.store.reading() as db:
        wanted = ModelVersion.artifact_path.like(f"{FOLDER}/{context.job_id}-%")
        registered = set(db.scalars(sa.select(ModelVersion.artifact_path).where(wanted)))
    for path in (root / FOLDER).glob(f"{context.job_id}-*"):
        if path.relative_to(root).as_posix() not in registered:
            shutil.rmtree(path, ignore_errors=True)


def clean_up(context: JobContext) -> None:
    """Drop the files of a failed attempt; not where its commit went through as the line broke."""
    with suppress(RlhfError):  # the database is away: the next attempt looks again
        if find_registered(context) is None:
            remove_unregistered(context)


def make_kept(
    kept: Path,
    make: Callable[[Path], TrainReport],
    *,
    label: str,
    log: Callable[[str], None],
) -> TrainReport:
    """The model in the folder `kept`: what an earlier attempt finished, else `make(folder)` now."""
    report = _find_kept(kept, label, log)
    if report is None:
        shutil.rmtree(kept / KEPT_MODEL, ignore_errors=True)
        reports: list[TrainReport] = []
        artifact = write_artifact(kept / KEPT_MODEL, lambda part: reports.append(make(part)))
        report = replace(reports[0], artifact_dir=artifact.path)
        _note_kept(kept, report, artifact.manifest_sha256)
    return report


def copy_kept(kept: Path, folder: Path) -> None:
    """Put the files of a kept model into `folder`, without using their room twice if possible."""
    shutil.copytree(
        kept / KEPT_MODEL,
        folder,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(MANIFEST),
        copy_function=_link_or_copy,
    )


def publish_kept(kept: Path, target: Path) -> ArtifactInfo:
    """Make an artifact of a kept model."""
    return write_artifact(target, lambda folder: copy_kept(kept, folder))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copy2(source, target)


def _find_kept(kept: Path, label: str, log: Callable[[str], None]) -> TrainReport | None:
    try:
        note = json.loads((kept / KEPT_REPORT).read_text())
        open_artifact(kept / KEPT_MODEL, note["manifest_sha256"])
        report = TrainReport(**{**note["report"], "artifact_dir": kept / KEPT_MODEL})
    except FileNotFoundError:
        return None
    except (RlhfError, OSError, ValueError, KeyError, TypeError) as error:
        log(f"{label} is trained again, what was kept is damaged: {error}")
        return None
    log(f"{label} was finished before the run was interrupted.")
    return report


def _note_kept(kept: Path, report: TrainReport, manifest_sha256: str) -> None:
    """Write the note last and whole: a model without one was not finished."""
    plain = plain_report(report)
    fresh = kept / f"{KEPT_REPORT}.new"
    fresh.write_text(json.dumps({"manifest_sha256": manifest_sha256, "report": plain}))
    fresh.replace(kept / KEPT_REPORT)


def plain_report(report: TrainReport) -> dict[str, Any]:
    """The report as JSON, without its folder."""
    from rlhf_core.jobs.run import to_plain

    plain: dict[str, Any] = to_plain({**asdict(report), "artifact_dir": ""})
    return plain
