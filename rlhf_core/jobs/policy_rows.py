"""The rows that a policy's training run learns from, and the prompts it is examined on."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.readiness import MIN_ROWS
from rlhf_core.dataset.said import read_prompts
from rlhf_core.dataset.service import DatasetVersionView, load_rows
from rlhf_core.dataset.texts import in_batches, load_texts
from rlhf_core.errors import NotEnoughData
from rlhf_core.examples import Example, PromptOnly, SftExample
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.frozen_rows import find_rows
from rlhf_core.jobs.policy_params import TrainPolicyParams
from rlhf_core.vocabulary import DEMO_SOURCE, DatasetPurpose, JobKind, Split

NOTE = "interactions.json"


@dataclass(frozen=True)
class PolicyRows:
    """What is learned from, and `test`: prompts that are kept for the examination.

    `dataset` is None where every interaction is taken; `content_hash` says of which rows.
    """

    rows: Sequence[Example]
    test: Sequence[PromptOnly]
    dataset: DatasetVersionView | None
    content_hash: str

    @property
    def is_demo(self) -> bool:
        """Whether all of it is the demo world's, where no frozen dataset says so."""
        sources = {row.segments.get("source") for row in self.rows}
        return self.dataset is None and sources == {DEMO_SOURCE}


def find_policy_rows(context: JobContext, params: TrainPolicyParams) -> PolicyRows:
    """The rows of the run; what an attempt read, the next one learns from too."""
    if params.learner is JobKind.TRAIN_STARTER:
        rows = find_all_texts(context, params.rows)
        return PolicyRows(rows, (), None, hash_texts(rows))
    dataset = find_rows(
        context,
        name=params.dataset_name,
        number=params.number,
        rows=params.rows,
        test_percent=params.test_percent,
    )
    learned = [
        row for part in (Split.TRAIN, Split.VALIDATION) for row in load_rows(dataset, split=part)
    ]
    test = only_prompts(load_rows(dataset, split=Split.TEST))
    return PolicyRows(learned, test, dataset, dataset.content_hash)


def only_prompts(rows: Iterable[Example]) -> list[PromptOnly]:
    """The prompts of any rows, each once, in their order."""
    found: dict[str, PromptOnly] = {}
    for row in rows:
        if row.group not in found:
            own = row.interaction_id if hasattr(row, "interaction_id") else ""
            found[row.group] = PromptOnly(row.prompt, row.group, own, row.segments)
    return list(found.values())


def find_all_texts(context: JobContext, params: DatasetParams) -> list[SftExample]:
    """Every interaction that may be learned from, good or bad, rated or not.

    Raises NotEnoughData where there are too few.
    """
    note = context.work_dir / NOTE
    context.tracker.progress(0.0, "Reading the interactions")
    with context.store.reading() as db:
        rows = read_all_texts(db, params)
    if note.exists():  # whoever said no since then is not among them any more
        known = set(json.loads(note.read_text()))
        rows = [row for row in rows if row.interaction_id in known]
    need = MIN_ROWS[DatasetPurpose.SFT]
    if len(rows) < need:
        raise NotEnoughData(have=len(rows), need=need, what="interactions")
    fresh = note.with_suffix(".new")
    fresh.write_text(json.dumps([row.interaction_id for row in rows]))
    fresh.replace(note)
    context.tracker.log(f"{len(rows)} interactions, rated or not.")
    return rows


def read_all_texts(db: Session, params: DatasetParams) -> list[SftExample]:
    """Every interaction with a completion that the filters allow, by prompt, the oldest first.

    Nobody who withdrew their consent to training, or was erased, is among them.
    """
    wanted = [(group, own) for group, own, refused in read_prompts(db, params) if refused is None]
    found: list[SftExample] = []
    for batch in in_batches(wanted):
        texts = load_texts(db, [own for _, own in batch])
        found += [
            SftExample(
                prompt=texts[own].prompt,
                completion=texts[own].completion,
                group=group,
                interaction_id=str(own),
                segments=texts[own].segments,
            )
            for group, own in batch
            if own in texts and texts[own].completion.strip()
        ]
    return found


def hash_texts(rows: Sequence[SftExample]) -> str:
    """A hash of prompts and completions in their order, in hex."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row.prompt, row.completion]).encode() + b"\n")
    return digest.hexdigest()
