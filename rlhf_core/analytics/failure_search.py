"""Searching for groups of failures: which answers are looked at, and what is said of a group.

A group is made of answers that people called bad, so their approval says nothing of it. Therefore
half of the prompts choose the groups; answers to the other half, good and bad, are then assigned to
the nearest group, and their approval is compared.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.agreement import Interval
from rlhf_core.analytics.clustering import (
    Array,
    assign,
    compare_approval,
    find_groups,
    find_words,
)
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.raw_rows import SLICES, row_conditions
from rlhf_core.errors import InvalidInput, NotEnoughData
from rlhf_core.store.bulk import in_slices
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_good
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import AlikeBy, RaterKind

MIN_BAD = 20
"""Fewer bad answers are quicker read than grouped."""
MAX_TEXTS = 20_000
FEW_GOOD = 20
FALSE_ALARMS = 0.05
"""How often a search calls any group worse than the rest that is not."""

Embed = Callable[[Sequence[str]], Array]


@dataclass(frozen=True)
class SearchParams:
    """What is searched. Texts are grouped by `alike_by`; groups below `min_size` are not reported.

    The newest `max_bad` bad answers are grouped, and at most `max_others` answers to the other half
    of the prompts tell their approval.
    """

    filters: Filters = field(default_factory=Filters)
    alike_by: AlikeBy = AlikeBy.COMPLETION
    min_size: int = 10
    max_bad: int = 5_000
    max_others: int = 4_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("min_size", 4, 1_000), ("max_bad", MIN_BAD, MAX_TEXTS), ("max_others", 0, MAX_TEXTS)
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise InvalidInput(
                    f"{name} {getattr(self, name)}: choose from {low} to {high:,}.", field=name
                )

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are stored with a job."""
        plain = asdict(self)
        for name in ("since", "until"):
            day = plain["filters"][name]
            plain["filters"][name] = None if day is None else day.isoformat()
        return plain


def parse_search(plain: Mapping[str, Any]) -> SearchParams:
    """The parameters that `to_json` wrote; absent ones are the defaults.

    Raises:
        InvalidInput: a name is unknown, or a value is not of its field.
    """
    try:
        filters: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list | tuple) else value
            for name, value in plain.get("filters", {}).items()
        }
        for name in ("since", "until"):
            if filters.get(name) is not None:
                filters[name] = date.fromisoformat(filters[name])
        filters["rater_kinds"] = tuple(RaterKind(one) for one in filters.get("rater_kinds", ()))
        rest = {name: value for name, value in plain.items() if name != "filters"}
        if "alike_by" in rest:
            rest["alike_by"] = AlikeBy(rest["alike_by"])
        return SearchParams(filters=Filters(**filters), **rest)
    except InvalidInput:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"The search's parameters cannot be read: {error}.") from error


@dataclass(frozen=True)
class JudgedAnswer:
    """An answer with its approval: the share of those who called it good, of good and bad ones."""

    interaction_id: uuid.UUID
    prompt_hash: str
    approval: float
    prompt: str
    completion: str

    @property
    def chooses(self) -> bool:
        """Whether its prompt belongs to the half that makes the groups."""
        return self.prompt_hash[-1] < _MIDDLE


_MIDDLE = "8"  # of the last hexadecimal digit of a prompt's hash


@dataclass(frozen=True)
class FoundGroup:
    """A group: the bad answers in it (with the distance to its centre), the nearest first.

    Approval (0..1, with 95 % intervals) is that of `num_held_out` answers which did not choose it.
    """

    members: tuple[tuple[uuid.UUID, float], ...]
    words: tuple[str, ...]
    approval: Interval | None
    rest: Interval | None
    difference: Interval | None
    is_worse: bool
    num_held_out: int
    stability: float | None


@dataclass(frozen=True)
class Found:
    """What a search found. Outliers are bad answers in no group."""

    groups: tuple[FoundGroup, ...]
    num_items: int
    num_outliers: int
    stability: float | None


def read_bad(db: Session, params: SearchParams) -> list[JudgedAnswer]:
    """The newest answers that more raters call bad than good."""
    good, bad = _counts()
    newest = sa.func.max(FEEDBACK.c.occurred_at)
    query = (
        _judged(params.filters)
        .having(bad > good)
        .order_by(newest.desc(), FEEDBACK.c.interaction_id)
        .limit(params.max_bad)
    )
    return _with_texts(db, query)


def read_others(db: Session, params: SearchParams) -> list[JudgedAnswer]:
    """Answers, good and bad, to prompts that choose no groups; whole prompts, left to chance."""
    good, bad = _counts()
    last_digit = sa.func.substr(SLICES.c.prompt_hash, 32, 1)
    query = (
        _judged(params.filters)
        .where(last_digit >= _MIDDLE)
        .having(bad != good)
        .order_by(SLICES.c.prompt_hash, FEEDBACK.c.interaction_id)
        .limit(params.max_others)
    )
    return _with_texts(db, query)


def find_failures(
    bad: Sequence[JudgedAnswer],
    others: Sequence[JudgedAnswer],
    *,
    params: SearchParams,
    embed: Embed,
) -> Found:
    """Group the bad answers of one half of the prompts, and see who of the other half joins.

    Raises:
        NotEnoughData: there are fewer than `MIN_BAD` bad answers.
    """
    if len(bad) < MIN_BAD:
        raise NotEnoughData(have=len(bad), need=MIN_BAD, what="answers that people called bad")
    everything = list({answer.interaction_id: answer for answer in (*bad, *others)}.values())
    vectors = embed([_text_of(answer, params.alike_by) for answer in everything])
    place = {answer.interaction_id: number for number, answer in enumerate(everything)}

    def vectors_of(answers: Sequence[JudgedAnswer]) -> Array:
        return vectors[[place[answer.interaction_id] for answer in answers]]

    groups = find_groups(
        vectors_of([answer for answer in bad if answer.chooses]),
        mean=_mean_of_good(vectors_of([one for one in others if one.approval > 0.5])),
        min_size=-(-params.min_size // 2),  # half of the answers choose
        seed=params.seed,
    )
    labels, distances = assign(vectors_of(bad), groups)
    held_out, _ = assign(vectors_of(others), groups)
    words = find_words(
        [_text_of(answer, params.alike_by) for answer in bad],
        labels.tolist(),
        [_text_of(answer, params.alike_by) for answer in others],
    )
    found = []
    for number, group_words in enumerate(words):
        members = sorted(
            (float(distance), answer.interaction_id)
            for answer, label, distance in zip(bad, labels, distances, strict=True)
            if label == number
        )
        if len(members) >= params.min_size:
            ids = tuple((one, distance) for distance, one in members)
            told = _tell_approval(others, held_out == number, num_groups=len(groups))
            found.append(FoundGroup(ids, tuple(group_words), *told, groups.stability[number]))
    found.sort(key=lambda group: -len(group.members))
    known = [(len(one.members), one.stability) for one in found if one.stability is not None]
    total = sum(size for size, _ in known)
    return Found(
        groups=tuple(found),
        num_items=len(bad),
        num_outliers=len(bad) - sum(len(group.members) for group in found),
        stability=sum(size * value for size, value in known) / total if total else None,
    )


def _mean_of_good(vectors: Array) -> Array:
    """What answers have in common; that of bad ones would hold their fault, if they share one.

    Towards zero where there are few: the mean of a handful is about these answers.
    """
    total: Array = vectors.sum(axis=0) / (len(vectors) + FEW_GOOD)
    return total


def _tell_approval(
    others: Sequence[JudgedAnswer], is_inside: Array, *, num_groups: int
) -> tuple[Interval | None, Interval | None, Interval | None, bool, int]:
    """The fields of `FoundGroup` from `approval` to `num_held_out`."""
    sides: tuple[list[tuple[str, float]], list[tuple[str, float]]] = ([], [])
    for answer, is_in in zip(others, is_inside.tolist(), strict=True):
        sides[0 if is_in else 1].append((answer.prompt_hash, answer.approval))
    # of many groups one looks bad by chance: the share of false alarms is dealt out among them
    *_, strict = compare_approval(*sides, confidence=1 - FALSE_ALARMS / num_groups)
    is_worse = strict is not None and strict.high < 0
    return *compare_approval(*sides), is_worse, len(sides[0])


def _counts() -> tuple[Any, Any]:
    return sa.func.count().filter(is_good(FEEDBACK)), sa.func.count().filter(is_bad(FEEDBACK))


def _judged(filters: Filters) -> sa.Select[Any]:
    good, bad = _counts()
    return (
        sa.select(
            FEEDBACK.c.interaction_id,
            SLICES.c.prompt_hash,
            good.label("num_good"),
            bad.label("num_bad"),
        )
        .join(SLICES, SLICES.c.id == FEEDBACK.c.interaction_id)
        .where(FEEDBACK.c.step_id.is_(None), *row_conditions(filters))
        .group_by(FEEDBACK.c.interaction_id, SLICES.c.prompt_hash)
    )


def _with_texts(db: Session, query: sa.Select[Any]) -> list[JudgedAnswer]:
    rows = db.execute(query).all()
    texts: dict[uuid.UUID, tuple[str, str]] = {}
    for part in in_slices(row.interaction_id for row in rows):
        found = sa.select(Interaction.id, Interaction.prompt, Interaction.completion)
        for row in db.execute(found.where(Interaction.id.in_(part))):
            texts[row.id] = (row.prompt, row.completion)
    return [
        JudgedAnswer(
            row.interaction_id, row.prompt_hash, row.num_good / (row.num_good + row.num_bad),
            *texts[row.interaction_id],
        )
        for row in rows
        if row.interaction_id in texts
    ]  # fmt: skip


def _text_of(answer: JudgedAnswer, alike_by: AlikeBy) -> str:
    match alike_by:
        case AlikeBy.COMPLETION:
            return answer.completion
        case AlikeBy.PROMPT:
            return answer.prompt
