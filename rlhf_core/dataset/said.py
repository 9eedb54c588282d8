"""What people said, as narrow rows in an order that keeps together what belongs together.

No text is read here, apart from its being empty: a database sorts these rows in little memory.
Whoever withdrew consent to training or was erased is not heard, neither as the rater nor as the
person who asked; both are said with the row, so that it can be counted.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.reasons import Reason
from rlhf_core.store.queries.answers import is_whole
from rlhf_core.store.tables import (
    Adjudication,
    Comparison,
    Consent,
    Erasure,
    FailureClusterMember,
    Feedback,
    Interaction,
    Rater,
    ReasoningStep,
)
from rlhf_core.vocabulary import DEMO_SOURCE, AdjudicationDecision, Choice, ConsentState

CONSENT_PURPOSE = "training"
BLANKS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())  # as `str.strip`
ROWS_A_FETCH = 2_000


class Said(NamedTuple):
    """One feedback row on a completion.

    `refusal` says why nothing of this interaction may give a row, `unheard` why this rater's word
    does not count; None where it does.
    """

    interaction_id: UUID
    group: str
    refusal: str | None
    is_empty: int
    feedback_id: UUID
    rater_id: UUID
    unheard: str | None
    rating: int | None
    thumb: int | None
    has_correction: int


class StepSaid(NamedTuple):
    """One feedback row on a step."""

    interaction_id: UUID
    group: str
    refusal: str | None
    position: int
    step_id: UUID
    rater_id: UUID
    unheard: str | None
    label: int | None
    thumb: int | None


class Vote(NamedTuple):
    """One comparison; `group` is that of the left side."""

    group: str
    comparison_id: UUID
    left_id: UUID
    right_id: UUID
    is_other_prompt: int
    refusal: str | None
    is_empty: int
    rater_id: UUID
    unheard: str | None
    choice: Choice
    strength: int | None


def read_said(
    db: Session, params: DatasetParams, *, by_prompt: bool = False, corrections_only: bool = False
) -> Iterator[Said]:
    """Feedback on completions by interaction and rater; `by_prompt`: by prompt before all."""
    corrected = is_filled(Feedback.correction)
    # By prompt, interactions come first in the join: read by the index of the prompts, they need
    # no sorting, which SQLite would do in memory. Those without feedback are dropped here.
    is_meant = corrected if corrections_only else sa.true()
    on_completion = sa.and_(Feedback.step_id.is_(None), is_meant)
    said_of = Feedback.interaction_id == Interaction.id
    query = sa.select(
        Interaction.id,
        Interaction.prompt_hash,
        refusal(params, Interaction).label("refusal"),
        _flag(~is_filled(Interaction.completion)),
        Feedback.id,
        Feedback.rater_id,
        _unheard(params, Feedback.withdrawn_at).label("unheard"),
        Feedback.rating,
        Feedback.thumb,
        _flag(corrected),
    )
    if by_prompt:
        ordered = (
            query.select_from(Interaction)
            .outerjoin(Feedback, sa.and_(said_of, on_completion))
            .outerjoin(Rater, Rater.id == Feedback.rater_id)
            .order_by(Interaction.prompt_hash, Interaction.id, Feedback.rater_id, Feedback.occasion)
        )
    else:
        ordered = (
            query.select_from(Feedback)
            .join(Interaction, said_of)
            .join(Rater, Rater.id == Feedback.rater_id)
            .where(on_completion)
            .order_by(Feedback.interaction_id, Feedback.rater_id, Feedback.occasion)
        )
    said = map(Said._make, _stream(db, ordered))
    yield from (row for row in said if row.feedback_id is not None)


def read_steps_said(db: Session, params: DatasetParams) -> Iterator[StepSaid]:
    """Feedback on steps by interaction, position and rater."""
    query = (
        sa.select(
            Interaction.id,
            Interaction.prompt_hash,
            refusal(params, Interaction).label("refusal"),
            ReasoningStep.position,
            ReasoningStep.id,
            Feedback.rater_id,
            _unheard(params, Feedback.withdrawn_at).label("unheard"),
            Feedback.label,
            Feedback.thumb,
        )
        .select_from(Feedback)
        .join(ReasoningStep, ReasoningStep.id == Feedback.step_id)
        .join(Interaction, Interaction.id == Feedback.interaction_id)
        .join(Rater, Rater.id == Feedback.rater_id)
        .order_by(
            Feedback.interaction_id, ReasoningStep.position, Feedback.rater_id, Feedback.occasion
        )
    )
    yield from map(StepSaid._make, _stream(db, query))


def read_votes(db: Session, params: DatasetParams) -> Iterator[Vote]:
    """Comparisons by prompt and pair, whichever side was left.

    The left sides come first in the join, as in `read_said` by prompt.
    """
    left, right = aliased(Interaction), aliased(Interaction)
    sides = (Comparison.left_interaction_id, Comparison.right_interaction_id)
    first = sa.case((sides[0] < sides[1], sides[0]), else_=sides[1])
    second = sa.case((sides[0] < sides[1], sides[1]), else_=sides[0])
    refused = sa.func.coalesce(refusal(params, left), refusal(params, right))
    if params.adjudicated_first:
        excluded = sa.or_(*(side.in_(_excluded()) for side in sides))
        refused = sa.func.coalesce(refused, sa.case((excluded, Reason.EXCLUDED.value)))
    query = (
        sa.select(
            left.prompt_hash,
            Comparison.id,
            *sides,
            _flag(left.prompt_hash != right.prompt_hash),
            refused.label("refusal"),
            _flag(sa.or_(~is_filled(left.completion), ~is_filled(right.completion))),
            Comparison.rater_id,
            _unheard(params, Comparison.withdrawn_at).label("unheard"),
            Comparison.choice,
            Comparison.strength,
        )
        .select_from(left)
        .outerjoin(Comparison, sides[0] == left.id)
        .outerjoin(right, right.id == sides[1])
        .outerjoin(Rater, Rater.id == Comparison.rater_id)
        .order_by(left.prompt_hash, first, second, Comparison.rater_id, Comparison.id)
    )
    votes = map(Vote._make, _stream(db, query))
    yield from (vote for vote in votes if vote.comparison_id is not None)


def read_prompts(db: Session, params: DatasetParams) -> Iterator[tuple[str, UUID, str | None]]:
    """`(group, interaction, refusal)` of every interaction, by prompt, oldest first."""
    query = sa.select(
        Interaction.prompt_hash, Interaction.id, refusal(params, Interaction).label("refusal")
    ).order_by(Interaction.prompt_hash, Interaction.id)
    yield from _stream(db, query)


def refusal(params: DatasetParams, table: Any) -> sa.ColumnElement[str | None]:
    """What speaks against an interaction as a whole, in the order of `Reason`; else NULL.

    `table` is `Interaction` or an alias of it. The period is that of the interaction.
    """
    filters = params.filters
    checks: list[tuple[sa.ColumnElement[bool], str]] = []
    for wanted, column, reason in (
        (filters.source, table.source, Reason.OTHER_SOURCE),
        (filters.action_type, table.action_type, Reason.OTHER_ACTION),
        (filters.model_name, table.model_name, Reason.OTHER_MODEL),
    ):
        if wanted is not None:
            checks.append((column.is_distinct_from(wanted), reason.value))
    if filters.since is not None:
        checks.append((table.occurred_at < filters.since, Reason.OTHER_PERIOD.value))
    if filters.until is not None:
        checks.append((table.occurred_at >= filters.until, Reason.OTHER_PERIOD.value))
    if filters.cluster_id is not None:
        members = sa.select(FailureClusterMember.interaction_id).where(
            FailureClusterMember.cluster_id == filters.cluster_id
        )
        checks.append((table.id.not_in(members), Reason.OTHER_CLUSTER.value))
    checks.append((~is_whole(table), Reason.PARTIAL.value))
    if _leaves_out_demo(params):
        checks.append((sa.and_(table.is_demo, _is_any_real()), Reason.DEMO.value))
    checks.append((table.user_pseudonym.in_(withdrew()), Reason.CONSENT.value))
    checks.append((table.user_pseudonym.in_(erased()), Reason.ERASED.value))
    return sa.case(*checks, else_=None)


def count_refusals(db: Session) -> int:
    """How often people said no so far: withdrawals of consent to training, and erasures."""
    withdrawn = sa.select(sa.func.count()).where(
        Consent.purpose == CONSENT_PURPOSE, Consent.state == ConsentState.WITHDRAWN
    )
    erased = sa.select(sa.func.count()).select_from(Erasure)
    return (db.scalar(withdrawn) or 0) + (db.scalar(erased) or 0)


def pick_unheard(unheard: Sequence[str | None]) -> str:
    """Why nobody was heard: each of these had a reason of their own."""
    if all(reason == Reason.WITHDRAWN for reason in unheard):
        return Reason.WITHDRAWN
    order = (Reason.CONSENT, Reason.ERASED, Reason.DEMO, Reason.OTHER_RATERS)
    return next(reason for reason in order if reason in unheard)


def is_filled(column: Any) -> sa.ColumnElement[bool]:
    """Whether a text holds more than blanks; NULL does not."""
    return sa.func.coalesce(sa.func.trim(column, BLANKS), "") != ""


def _unheard(params: DatasetParams, withdrawn_at: Any) -> sa.ColumnElement[str | None]:
    """Why a rater's word does not count; a demo rater's word on real data is demo data."""
    checks: list[tuple[sa.ColumnElement[bool], str]] = [
        (withdrawn_at.is_not(None), Reason.WITHDRAWN.value),
        (Rater.pseudonym.in_(withdrew()), Reason.CONSENT.value),
        (Rater.pseudonym.in_(erased()), Reason.ERASED.value),
    ]
    if _leaves_out_demo(params):
        checks.append((sa.and_(Rater.is_demo, _is_any_real()), Reason.DEMO.value))
    if params.filters.rater_kind is not None:
        checks.append((Rater.rater_kind != params.filters.rater_kind, Reason.OTHER_RATERS.value))
    return sa.case(*checks, else_=None)


def _leaves_out_demo(params: DatasetParams) -> bool:
    """Whether demo data gives no row as soon as there is other data."""
    return not params.filters.include_demo and params.filters.source != DEMO_SOURCE


def _is_any_real() -> sa.ColumnElement[bool]:
    """Whether there is any interaction but those of the demo."""
    real = aliased(Interaction)
    return sa.exists().where(sa.not_(real.is_demo)).select_from(real)


def withdrew() -> sa.Select[tuple[str]]:
    """Pseudonyms whose newest word on training is no."""
    newest = (
        sa.select(
            Consent.pseudonym,
            Consent.state,
            sa.func.row_number()
            .over(
                partition_by=Consent.pseudonym,
                order_by=[Consent.recorded_at.desc(), Consent.id.desc()],
            )
            .label("place"),
        )
        .where(Consent.purpose == CONSENT_PURPOSE)
        .subquery()
    )
    return sa.select(newest.c.pseudonym).where(
        newest.c.place == 1, newest.c.state == ConsentState.WITHDRAWN
    )


def erased() -> sa.Select[tuple[str]]:
    """Pseudonyms whose erasure was asked for, done or not."""
    return sa.select(Erasure.pseudonym)


def _excluded() -> sa.Select[UUID]:
    """Interactions that an adjudicator took out."""
    return sa.select(Adjudication.interaction_id).where(
        Adjudication.step_id.is_(None),
        Adjudication.superseded_at.is_(None),
        Adjudication.decision == AdjudicationDecision.EXCLUDED,
    )


def _flag(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.case((condition, 1), else_=0)


def _stream(db: Session, query: sa.Select[*tuple[Any, ...]]) -> Iterator[Any]:
    """Rows as they are asked for; the cursor closes when the reader stops."""
    with db.execute(query.execution_options(yield_per=ROWS_A_FETCH)) as result:
        yield from result
