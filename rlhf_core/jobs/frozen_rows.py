"""The frozen rows that a training run learns from: found, or frozen now and noted for a retry."""

import json

from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.readiness import check_readiness, find_obstacle
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import DatasetVersionView, freeze_version, get_version
from rlhf_core.dataset.splits import SplitParams
from rlhf_core.jobs.context import JobContext
from rlhf_core.vocabulary import Split

MIN_ROWS_TO_SPLIT = 200
"""With fewer rows, rows frozen by a run keep none for an examination: learning needs them all."""
NOTE = "dataset.json"


def find_rows(
    context: JobContext,
    *,
    name: str,
    number: int | None,
    rows: DatasetParams,
    test_percent: float,
) -> DatasetVersionView:
    """The version `number` of `name`; None freezes what there is now as `rows` says.

    What an attempt froze, the next one learns from too. Raises NotEnoughData or TrainingFailed
    where the feedback does not suffice.
    """
    note = context.work_dir / NOTE
    if number is None and note.exists():
        number = int(json.loads(note.read_text())["number"])
    if number is not None:
        with context.store.reading() as db:
            version = get_version(db, name, number, actor=context.actor)
        context.tracker.log(
            f"Dataset {version.name}: {version.num_rows} rows of {version.num_groups} prompts."
        )
        return version
    version = _freeze(context, name, rows, test_percent)
    fresh = note.with_suffix(".new")
    fresh.write_text(json.dumps({"number": version.number}))
    fresh.replace(note)
    return version


def _freeze(
    context: JobContext, name: str, rows: DatasetParams, test_percent: float
) -> DatasetVersionView:
    context.tracker.progress(0.0, "Reading the feedback")
    with context.store.reading() as db:
        ready = check_readiness(db, actor=context.actor, params=rows)
        shortage = find_obstacle(ready.counts, rows)
        if shortage is not None:
            raise shortage
        percent = test_percent if ready.have >= MIN_ROWS_TO_SPLIT else 0.0
        staged = stage_rows(db, params=rows, split=SplitParams(test_percent=percent))
        if percent and staged.card["parts"].get(Split.TRAIN.value, 0) < ready.need:
            context.tracker.log("The prompts are too alike to be parted: none is kept back.")
            staged = stage_rows(db, params=rows)
    with context.store.writing() as db:
        frozen = freeze_version(db, actor=context.actor, name=name, staged=staged)
    version = frozen.version
    state = "frozen" if frozen.was_created else "as frozen before, nothing has changed since"
    context.tracker.log(
        f"Dataset {version.name}, {state}: {version.num_rows} rows of {version.num_groups} prompts."
    )
    if version.left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in version.left_out.items())
        context.tracker.log(f"Left out: {reasons}.")
    return version
