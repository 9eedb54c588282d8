"""Raw rows into plain values ready to insert: all checking and hashing, away from the database.

Only numbers, texts and None come out, so that this work can be done in another process.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from pydantic import ValidationError

from rlhf_core.clock import new_hex_ids, to_moment_text
from rlhf_core.errors import RlhfError
from rlhf_core.feedback.drafts import (
    ComparisonDraft,
    InteractionDraft,
    explain,
    prompt_hash,
)
from rlhf_core.interchange.bundle import (
    Bundle,
    ComparisonItem,
    FeedbackItem,
    Key,
    ParseRow,
    RawRow,
)
from rlhf_core.interchange.decode import decode_object
from rlhf_core.privacy.pseudonyms import is_pseudonym, make_pseudonym
from rlhf_core.vocabulary import RaterKind

KeyPair = tuple[str, str]
KEPT_PSEUDONYMS = 50_000
IDS_AT_ONCE = 1_000

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class PreparedInteraction(NamedTuple):
    """`row` is in the order of `INTERACTION_COLUMNS`, `steps` in that of `STEP_COLUMNS`."""

    key: KeyPair
    row: tuple[Any, ...]
    steps: tuple[tuple[Any, ...], ...]


class PreparedFeedback(NamedTuple):
    """`occasion` is None where the next free one is meant; `reach` is the end of the last span."""

    id: str
    key: KeyPair
    target: KeyPair
    step: int | None
    rater: KeyPair
    occasion: int | None
    reach: int
    values: tuple[Any, ...]
    aspects: tuple[tuple[str, int], ...]
    spans: tuple[tuple[Any, ...], ...]


class PreparedComparison(NamedTuple):
    """`values` is in the order of `COMPARISON_VALUES`."""

    id: str
    key: KeyPair
    left: KeyPair
    right: KeyPair
    rater: KeyPair
    occasion: int | None
    values: tuple[Any, ...]


class PreparedLine(NamedTuple):
    """What one line stores. `reason` is set instead where it is refused."""

    number: int
    reason: str | None
    interactions: tuple[PreparedInteraction, ...] = ()
    feedback: tuple[PreparedFeedback, ...] = ()
    comparisons: tuple[PreparedComparison, ...] = ()

    @property
    def num_rows(self) -> int:
        """About how many database rows it makes."""
        count = len(self.interactions) + len(self.feedback) + len(self.comparisons)
        for item in self.interactions:
            count += len(item.steps)
        return count


INTERACTION_COLUMNS = (
    "id", "source", "external_id", "chat_id", "message_id", "turn", "user_pseudonym", "context",
    "prompt", "prompt_hash", "completion", "action_type", "action_data", "model_name", "language",
    "extra", "is_demo", "occurred_at", "created_at",
)  # fmt: skip
STEP_COLUMNS = ("id", "interaction_id", "position", "kind", "content", "external_id")
FEEDBACK_VALUES = (
    "thumb", "rating", "label", "comment", "correction", "duration_s", "extra", "occurred_at",
)  # fmt: skip
COMPARISON_VALUES = (
    "choice", "strength", "reason", "is_blind", "duration_s", "extra", "occurred_at",
)  # fmt: skip


@dataclass
class Preparer:
    """Turns rows of one file into prepared lines.

    `keeps_pseudonyms`: ids that are pseudonyms already stay (files that this product exported).
    `now` is the moment of the import as text: when things happened that name no time.
    """

    parse: ParseRow
    key: bytes
    now: str
    keeps_pseudonyms: bool = False

    def __post_init__(self) -> None:
        self._pseudonyms: dict[str, str] = {}
        self._ids = _endless_ids()

    def prepare(self, number: int, raw: RawRow) -> PreparedLine:
        """The prepared line, or the reason why it is refused."""
        try:
            bundle = self.parse(raw)
            return PreparedLine(number, None, *self._prepare(bundle))
        except ValidationError as error:
            return PreparedLine(number, _reason(error, raw))
        except RlhfError as error:
            return PreparedLine(number, str(error))
        except OverflowError:
            return PreparedLine(number, "occurred_at: lies outside the years 1 to 9999")
        except RecursionError:
            return PreparedLine(number, "is nested too deep")

    def _prepare(
        self, bundle: Bundle
    ) -> tuple[
        tuple[PreparedInteraction, ...],
        tuple[PreparedFeedback, ...],
        tuple[PreparedComparison, ...],
    ]:
        users = {key: draft.user for key, draft in bundle.interactions if draft.user is not None}
        seen: dict[KeyPair, int] = {}
        return (
            tuple([self._interaction(key, draft) for key, draft in bundle.interactions]),
            tuple([self._feedback(item, users, seen) for item in bundle.feedback]),
            tuple([self._comparison(item) for item in bundle.comparisons]),
        )

    def _interaction(self, key: Key, draft: InteractionDraft) -> PreparedInteraction:
        own = next(self._ids)
        moments = [item.occurred_at for item in draft.feedback if item.occurred_at is not None]
        occurred_at = draft.occurred_at or min(moments, default=None)
        row = (
            own,
            key.source,
            key.external_id,
            draft.chat_id,
            draft.message_id,
            draft.turn,
            None if draft.user is None else self._pseudonym(draft.user),
            _to_json([m.model_dump() for m in draft.context]) if draft.context else None,
            draft.prompt,
            prompt_hash(draft.prompt),
            draft.completion,
            draft.action_type,
            _to_json(draft.action_data),
            draft.model_name,
            draft.language,
            _to_json(draft.extra),
            0,
            self._moment(occurred_at),
            self.now,
        )
        steps = tuple(  # of a list: a generator takes longer
            [
                (next(self._ids), own, position, step.kind, step.content, step.external_id)
                for position, step in enumerate(draft.steps)
            ]
        )
        return PreparedInteraction(_pair(key), row, steps)

    def _feedback(
        self, item: FeedbackItem, users: dict[Key, str], seen: dict[KeyPair, int]
    ) -> PreparedFeedback:
        draft = item.draft
        target = _pair(item.target)
        name = draft.rater
        if name is None and draft.rater_kind is RaterKind.END_USER:
            name = users.get(item.target)
        rater = self._rater(name, draft.rater_kind, item.source)
        values = (
            draft.thumb,
            draft.rating,
            draft.label,
            draft.comment,
            draft.correction,
            draft.duration_s,
            _to_json(draft.extra),
            self._moment(draft.occurred_at),
        )
        aspects = tuple(draft.aspects.items())
        spans = tuple([(s.start_at, s.end_at, s.tag, s.note) for s in draft.spans])
        occasion = draft.occasion if "occasion" in draft.model_fields_set else None
        external_id = draft.external_id
        if external_id is None:
            said = values if draft.occurred_at is not None else values[:-1]
            external_id = _content_id(target, draft.step, rater, occasion, said, aspects, spans)
            # two raters without a name may say the same of one completion
            again = seen.get((item.source, external_id), 0)
            seen[item.source, external_id] = again + 1
            if again:
                external_id = f"{external_id}:{again}"
        own = next(self._ids)
        return PreparedFeedback(
            id=own,
            key=(item.source, external_id),
            target=target,
            step=draft.step,
            rater=rater,
            occasion=occasion,
            reach=max([span[1] for span in spans], default=0),
            values=values,
            aspects=aspects,
            spans=tuple([(next(self._ids), own, *span) for span in spans]),
        )

    def _comparison(self, item: ComparisonItem) -> PreparedComparison:
        draft: ComparisonDraft = item.draft
        left, right = _pair(item.left), _pair(item.right)
        rater = self._rater(draft.rater, draft.rater_kind, item.source)
        values = (
            draft.choice.value,
            draft.strength,
            draft.reason,
            int(draft.is_blind),
            draft.duration_s,
            _to_json(draft.extra),
            self._moment(draft.occurred_at),
        )
        occasion = draft.occasion if "occasion" in draft.model_fields_set else None
        external_id = draft.external_id
        if external_id is None:
            said = values if draft.occurred_at is not None else values[:-1]
            external_id = _content_id(left, right, rater, occasion, said)
        return PreparedComparison(
            id=next(self._ids),
            key=(item.source, external_id),
            left=left,
            right=right,
            rater=rater,
            occasion=occasion,
            values=values,
        )

    def _moment(self, moment: datetime | None) -> str:
        return self.now if moment is None else to_moment_text(moment)

    def _rater(self, name: str | None, kind: RaterKind, source: str) -> KeyPair:
        # str(): `marshal` takes no member of an Enum, and `value` is slow
        return self._pseudonym(name or f"anonymous rater of {source}"), str(kind)

    def _pseudonym(self, name: str) -> str:
        known = self._pseudonyms.get(name)
        if known is None:
            if len(self._pseudonyms) >= KEPT_PSEUDONYMS:
                self._pseudonyms.clear()
            kept = self.keeps_pseudonyms and is_pseudonym(name)
            known = self._pseudonyms[name] = name if kept else make_pseudonym(name, self.key)
        return known


def _pair(key: Key) -> KeyPair:
    return key.source, key.external_id


def _endless_ids() -> Iterator[str]:
    while True:
        yield from new_hex_ids(IDS_AT_ONCE)


def _to_json(value: Any) -> str | None:
    return None if value is None else _encode(value)


def _content_id(*parts: Any) -> str:
    # ascii(): several times faster than JSON, and the same text with every version of Python
    return f"content:{hashlib.blake2b(ascii(parts).encode(), digest_size=16).hexdigest()}"


def _reason(error: ValidationError, raw: RawRow) -> str:
    """The first broken rule; for what is no JSON, the decoder's sentence."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] != "json_invalid" or not isinstance(raw, bytes):
        return str(explain(error))
    try:
        decode_object(raw)
    except RlhfError as refused:
        return str(refused)
    # Python reads it and Pydantic does not: half of a pair such as "\ud83d"
    return "contains a lone surrogate; send valid UTF-8"


# `_make` without its check of the length, which takes longer than all the rest of it
_as_interaction = partial(tuple.__new__, PreparedInteraction)
_as_feedback = partial(tuple.__new__, PreparedFeedback)
_as_comparison = partial(tuple.__new__, PreparedComparison)


def as_plain(line: PreparedLine) -> tuple[Any, ...]:
    """The line in values that `marshal` takes."""
    return (
        line.number,
        line.reason,
        tuple(map(tuple, line.interactions)),
        tuple(map(tuple, line.feedback)),
        tuple(map(tuple, line.comparisons)),
    )


def from_plain(line: tuple[Any, ...]) -> PreparedLine:
    """What `as_plain` made plain."""
    number, reason, interactions, feedback, comparisons = line
    return PreparedLine(
        number,
        reason,
        tuple(map(_as_interaction, interactions)),
        tuple(map(_as_feedback, feedback)),
        tuple(map(_as_comparison, comparisons)),
    )
