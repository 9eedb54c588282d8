"""Rows for training, built from feedback in the database; nothing is left out uncounted."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import assert_never

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.dataset.pairs import build_pairs
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.reasons import Reason, Tally
from rlhf_core.dataset.said import read_prompts
from rlhf_core.dataset.scored import build_scores, build_sft, build_unpaired
from rlhf_core.dataset.steps import build_steps
from rlhf_core.dataset.texts import in_batches, load_texts
from rlhf_core.dataset.voices import Voices
from rlhf_core.examples import Example, PromptOnly
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import DatasetPurpose

PREVIEW_ROWS = 20


@dataclass(frozen=True)
class BuiltRows:
    """`rows` are read from the database while they are iterated, once, in a fixed order.

    `left_out` counts by reason what was said and gave no row: completions, pairs, corrections,
    prompts. It and `voices` are complete after the last row.
    """

    rows: Iterator[Example]
    left_out: dict[str, int]
    voices: Voices = field(default_factory=Voices)


@dataclass(frozen=True)
class FilterValues:
    """What the filters can be set to, each in alphabetical order."""

    sources: list[str]
    action_types: list[str]
    model_names: list[str]


def build_rows(db: Session, *, params: DatasetParams, with_text: bool = True) -> BuiltRows:
    """The rows of any purpose.

    Memory does not grow with the rows, but for `MergeRule.WEIGHTED`, which learns from all answers
    first. `with_text=False`: texts, segments and aspects of scores and thumbs may stay empty, for
    who only counts.
    """
    tally, voices = Tally(), Voices()
    return BuiltRows(
        rows=_until_counted(_pick(db, params, tally, voices, with_text), tally),
        left_out=tally.left_out,
        voices=voices,
    )


def preview_rows(
    db: Session, *, actor: Actor, params: DatasetParams, limit: int = PREVIEW_ROWS
) -> list[Example]:
    """The first rows that `build_rows` would give."""
    require(actor, Permission.MANAGE_DATASETS)
    rows = build_rows(db, params=params).rows
    return list(islice(rows, limit))


def list_filter_values(db: Session) -> FilterValues:
    """What interactions can be filtered by."""
    return FilterValues(
        sources=list_sources(db),
        action_types=_distinct(db, Interaction.action_type),
        model_names=_distinct(db, Interaction.model_name),
    )


def list_sources(db: Session) -> list[str]:
    """The sources that interactions came from, in alphabetical order."""
    return _distinct(db, Interaction.source)


def _pick(
    db: Session, params: DatasetParams, tally: Tally, voices: Voices, with_text: bool
) -> Iterator[Example]:
    match params.purpose:
        case DatasetPurpose.SCORES:
            return build_scores(db, params, tally, voices, with_text=with_text)
        case DatasetPurpose.PREFERENCES:
            return build_pairs(db, params, tally, voices)
        case DatasetPurpose.UNPAIRED:
            return build_unpaired(db, params, tally, voices, with_text=with_text)
        case DatasetPurpose.PROMPTS:
            return _build_prompts(db, params, tally)
        case DatasetPurpose.STEPS:
            return build_steps(db, params, tally, voices)
        case DatasetPurpose.SFT:
            return build_sft(db, params, tally, voices)
        case _:
            assert_never(params.purpose)


def _until_counted(rows: Iterator[Example], tally: Tally) -> Iterator[Example]:
    yield from rows
    tally.close()


def _build_prompts(db: Session, params: DatasetParams, tally: Tally) -> Iterator[PromptOnly]:
    """One row a prompt, with the first interaction that asked it and may be used."""
    for batch in in_batches(_first_of_each(db, params, tally)):
        texts = load_texts(db, [own for _, own in batch])
        for group, own in batch:
            if own in texts:
                yield PromptOnly(
                    prompt=texts[own].prompt,
                    group=group,
                    interaction_id=str(own),
                    segments=texts[own].segments,
                )


def _first_of_each(
    db: Session, params: DatasetParams, tally: Tally
) -> Iterator[tuple[str, uuid.UUID]]:
    last = None
    for group, own, refused in read_prompts(db, params):
        if refused is not None:
            tally.count(refused)
        elif group == last:
            tally.count(Reason.REPEATED)
        else:
            last = group
            yield group, own


def _distinct(db: Session, column: sa.orm.InstrumentedAttribute[str | None]) -> list[str]:
    query = sa.select(column).where(column.is_not(None)).distinct().order_by(column)
    return [value for value in db.scalars(query) if value is not None]
