"""Rows of completions in steps, each step called right or wrong by people."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.dataset.merge import learn_weights, merge_answers
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.reasons import Reason, Tally
from rlhf_core.dataset.said import StepSaid, pick_unheard, read_steps_said
from rlhf_core.dataset.texts import has_any, in_batches, load_step_rulings, load_texts
from rlhf_core.dataset.voices import Voices
from rlhf_core.examples import SteppedCompletion
from rlhf_core.store.queries.verdicts import MIDDLE, is_split
from rlhf_core.store.tables import Adjudication, ReasoningStep
from rlhf_core.vocabulary import DisputeRule, MergeRule

Answers = dict[UUID, float]
BATCH = 100  # interactions, of many steps each


def build_steps(
    db: Session, params: DatasetParams, tally: Tally, voices: Voices
) -> Iterator[SteppedCompletion]:
    """One row an interaction of which at least one step was called right or wrong.

    A step on which as many say right as wrong has no label; `DisputeRule.DROP` leaves out the
    whole interaction. A neutral label is none.
    """
    weights = _learn_from_all(db, params) if params.merge is MergeRule.WEIGHTED else {}
    rules = params.adjudicated_first and has_any(db, Adjudication)
    said = read_steps_said(db, params)
    things = (list(rows) for _, rows in groupby(said, key=attrgetter("interaction_id")))
    for batch in in_batches(things, BATCH):
        ids = [rows[0].interaction_id for rows in batch]
        rulings = load_step_rulings(db, ids) if rules else {}
        texts, contents = load_texts(db, ids), _load_contents(db, ids)
        for rows in batch:
            own = rows[0].interaction_id
            ruling = rulings.get(own, {})
            reason = _refuse(rows, ruling) or _find_reason(rows, params, ruling)
            if reason is not None:
                tally.count(reason)
                continue
            labels = _label(rows, params, weights, ruling)
            steps = contents.get(own, {})
            if not any(label is not None for label in labels.values()):
                tally.count(Reason.SPLIT)
            elif own in texts and not any(content.strip() for content in steps.values()):
                tally.count(Reason.EMPTY)
            elif own in texts:
                for answers in _answers_by_step(rows).values():
                    voices.hear(answers)
                yield SteppedCompletion(
                    prompt=texts[own].prompt,
                    completions=tuple(steps.values()),
                    labels=tuple(labels.get(position) for position in steps),
                    group=rows[0].group,
                    interaction_id=str(own),
                    segments=texts[own].segments,
                )


def _refuse(rows: Sequence[StepSaid], ruling: Mapping[UUID | None, int | None]) -> str | None:
    if rows[0].refusal is not None:
        return rows[0].refusal
    if ruling.get(None):
        return Reason.EXCLUDED
    if all(row.unheard is not None for row in rows):
        return pick_unheard([row.unheard for row in rows])
    return None


def _find_reason(
    rows: Sequence[StepSaid], params: DatasetParams, ruling: Mapping[UUID | None, int | None]
) -> str | None:
    by_step = _answers_by_step(rows)
    decided = {row.step_id for row in rows if ruling.get(row.step_id)}
    if not decided and not by_step:
        return Reason.NO_LABEL
    raters = {rater for answers in by_step.values() for rater in answers}
    if not decided and len(raters) < params.filters.min_raters:
        return Reason.FEW_RATERS
    if params.disputes is DisputeRule.DROP:
        for (_, step_id), answers in by_step.items():
            num_right = sum(answer > MIDDLE for answer in answers.values())
            num_wrong = sum(answer < MIDDLE for answer in answers.values())
            if step_id not in ruling and is_split(num_right, num_wrong):
                return Reason.DISPUTE
    return None


def _label(
    rows: Sequence[StepSaid],
    params: DatasetParams,
    weights: Mapping[UUID, float],
    ruling: Mapping[UUID | None, int | None],
) -> dict[int, bool | None]:
    """Labels by position; an adjudicator's goes before those of the raters."""
    labels: dict[int, bool | None] = {}
    for (position, _), answers in _answers_by_step(rows).items():
        merged = merge_answers(answers, params.merge, weights)
        labels[position] = None if merged == MIDDLE else merged > MIDDLE
    for row in rows:
        if row.step_id in ruling:
            decided = ruling[row.step_id]
            labels[row.position] = decided > 0 if decided else None
    return labels


def _answers_by_step(rows: Sequence[StepSaid]) -> dict[tuple[int, UUID], Answers]:
    """By position and step: what each rater says, 1 for right and 0 for wrong."""
    said: dict[tuple[int, UUID], dict[UUID, list[int]]] = {}
    for row in rows:
        label = row.label if row.label is not None else row.thumb
        if row.unheard is None and label:
            step = said.setdefault((row.position, row.step_id), {})
            step.setdefault(row.rater_id, []).append(int(label > 0))
    return {
        step: {rater: sum(all_) / len(all_) for rater, all_ in by_rater.items()}
        for step, by_rater in said.items()
    }


def _load_contents(db: Session, interaction_ids: Sequence[UUID]) -> dict[UUID, dict[int, str]]:
    """The steps of each interaction by position, in order."""
    query = (
        sa.select(ReasoningStep.interaction_id, ReasoningStep.position, ReasoningStep.content)
        .where(ReasoningStep.interaction_id.in_(interaction_ids))
        .order_by(ReasoningStep.interaction_id, ReasoningStep.position)
    )
    found: dict[UUID, dict[int, str]] = {}
    for own, position, content in db.execute(query):
        found.setdefault(own, {})[position] = content
    return found


def _learn_from_all(db: Session, params: DatasetParams) -> dict[UUID, float]:
    def answers() -> Iterator[tuple[UUID, UUID, int]]:
        said = read_steps_said(db, params)
        for _, rows in groupby(said, key=attrgetter("interaction_id")):
            usable = [row for row in rows if row.refusal is None]
            for (_, step_id), by_rater in _answers_by_step(usable).items():
                for rater, answer in by_rater.items():
                    yield step_id, rater, int(answer > MIDDLE)

    return learn_weights(answers())
