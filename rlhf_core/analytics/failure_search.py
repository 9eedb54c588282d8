"""Searching for groups of failures: which answers are looked at, and what is said of a group.

A group is made of answers that people called bad, so their approval says nothing of it. Therefore
half of the prompts choose the groups; answers to the other half, good and bad, are then assigned to
the nearest group, and their approval is compared.

Sentences are grouped, not whole texts: those are alike by what they are about, whereas a fault is
one thing among others that a text says. Whoever says a sentence of a group belongs to it, so a text
may belong to several.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

import numpy as np
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
from rlhf_core.analytics.text_parts import Parts, cut_all
from rlhf_core.errors import InvalidInput, NotEnoughData
from rlhf_core.store.bulk import in_slices
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_good
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import AlikeBy, RaterKind

MIN_BAD = 20
"""Fewer bad answers are quicker read than grouped."""
MAX_TEXTS = 20_000
MAX_GROUPED = 10_000
"""Sentences that make groups; of more, so many are drawn by chance."""
FEW_GOOD = 20
FALSE_ALARMS = 0.05
"""How often a search by texts of one kind calls any group worse than the rest that is not."""

Embed = Callable[[Sequence[str]], Array]


@dataclass(frozen=True)
class SearchParams:
    """What is searched. Texts are grouped by `alike_by`; groups below `min_size` are not reported.

    By both means prompts by themselves, and completions by themselves.

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
    `alike_by` is what its members share: a sentence of prompts, or of completions.
    """

    members: tuple[tuple[uuid.UUID, float], ...]
    words: tuple[str, ...]
    approval: Interval | None
    rest: Interval | None
    difference: Interval | None
    is_worse: bool
    num_held_out: int
    stability: float | None
    alike_by: AlikeBy


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
    is_both = params.alike_by is AlikeBy.BOTH
    kinds = (AlikeBy.PROMPT, AlikeBy.COMPLETION) if is_both else (params.alike_by,)
    cuts = [
        cut_all([_text_of(answer, kind) for answer in answers])
        for kind in kinds
        for answers in (bad, others)
    ]
    vectors = embed([text for parts in cuts for text in parts.texts])
    each = np.split(vectors, np.cumsum([len(parts) for parts in cuts])[:-1])
    found: list[FoundGroup] = []
    for at, kind in enumerate(kinds):
        two = slice(2 * at, 2 * at + 2)
        found += _find_alike(bad, others, cuts[two], each[two], kind=kind, params=params)
    found.sort(key=lambda group: -len(group.members))
    known = [(len(one.members), one.stability) for one in found if one.stability is not None]
    total = sum(size for size, _ in known)
    return Found(
        groups=tuple(found),
        num_items=len(bad),
        num_outliers=len(bad) - len({one for group in found for one, _ in group.members}),
        stability=sum(size * value for size, value in known) / total if total else None,
    )


def _find_alike(
    bad: Sequence[JudgedAnswer],
    others: Sequence[JudgedAnswer],
    cuts: Sequence[Parts],
    vectors: Sequence[Array],
    *,
    kind: AlikeBy,
    params: SearchParams,
) -> list[FoundGroup]:
    """The groups by texts of one kind: `cuts` and `vectors` are of the bad answers and others."""
    parts, other_parts = cuts
    ours, theirs = vectors
    chooses = np.array([answer.chooses for answer in bad])[parts.owners]
    is_good = np.array([answer.approval > 0.5 for answer in others], dtype=bool)
    groups = find_groups(
        _draw(ours[chooses], params.seed),
        mean=_mean_of_good(theirs[is_good[other_parts.owners]]),
        min_size=-(-params.min_size // 2),  # half of the answers choose
        seed=params.seed,
    )
    labels, distances = assign(ours, groups)
    other_labels, _ = assign(theirs, groups)
    words = find_words(parts.texts, labels.tolist(), other_parts.texts)
    found = []
    for number, group_words in enumerate(words):
        members = _find_members(bad, parts, np.where(labels == number, distances, np.inf))
        if len(members) >= params.min_size:
            is_inside = np.zeros(len(others), dtype=bool)
            is_inside[other_parts.owners[other_labels == number]] = True
            told = _tell_approval(others, is_inside, num_groups=len(groups))
            found.append(
                FoundGroup(members, tuple(group_words), *told, groups.stability[number], kind)
            )
    return found


def _draw(vectors: Array, seed: int) -> Array:
    """At most `MAX_GROUPED` of them: the time to group them grows with their square."""
    if len(vectors) <= MAX_GROUPED:
        return vectors
    drawn = np.random.default_rng(seed).choice(len(vectors), MAX_GROUPED, replace=False)
    return vectors[np.sort(drawn)]


def _find_members(
    answers: Sequence[JudgedAnswer], parts: Parts, distances: Array
) -> tuple[tuple[uuid.UUID, float], ...]:
    """The answers that have a part at a finite distance, with the least one, the nearest first."""
    nearest = np.full(len(answers), np.inf)
    np.minimum.at(nearest, parts.owners, distances)
    members = sorted(
        (distance, answer.interaction_id)
        for distance, answer in zip(nearest.tolist(), answers, strict=True)
        if distance < np.inf
    )
    return tuple((one, distance) for distance, one in members)


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


def _text_of(answer: JudgedAnswer, kind: AlikeBy) -> str:
    return answer.prompt if kind is AlikeBy.PROMPT else answer.completion
