"""What leaves a session: queues, their items, and what a rater was given."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rlhf_core.accounts.permissions import Actor
from rlhf_core.vocabulary import QueueItemKind, QueueOrder, QueueSubject, Role

DEFAULT_ASPECTS = ("accuracy", "helpfulness", "safety", "tone")
DEFAULT_LEASE_S = 1_800


@dataclass(frozen=True)
class ChosenItem:
    """An interaction (or a pair of them) that is to be in a queue, and why.

    `selection_probability` is the probability with which it came in; None where it was not left to
    chance. `gold_answer` holds the known answer: `rating` and `thumb` of a completion, or `labels`,
    a list of (position, label) of its steps.
    """

    interaction_id: uuid.UUID
    other_interaction_id: uuid.UUID | None = None
    kind: QueueItemKind = QueueItemKind.NORMAL
    reason: str | None = None
    selection_probability: float | None = None
    gold_answer: dict[str, Any] | None = None


@dataclass(frozen=True)
class QueueView:
    """A queue. An item of it is done when `overlap` raters judged it there.

    `aspects` is what raters judge besides the whole. `assignee_ids` are accounts; with none of them
    the queue is everyone's. `num_items` leaves out the repeats. In a blind queue raters see neither
    which model answered nor which items have a known answer.
    """

    id: uuid.UUID
    name: str
    instructions: str | None
    subject: QueueSubject
    aspects: tuple[str, ...]
    order: QueueOrder
    overlap: int
    gold_rate: float
    repeat_rate: float
    assignee_ids: tuple[uuid.UUID, ...]
    is_blind: bool
    lease_s: int
    num_items: int
    num_gold: int
    num_repeats: int
    created_by: uuid.UUID | None
    created_at: datetime
    closed_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Whether items of it are given out."""
        return self.closed_at is None

    def is_for(self, actor: Actor) -> bool:
        """Whether the actor may rate in it."""
        return not self.assignee_ids or actor.account_id in self.assignee_ids


@dataclass(frozen=True)
class Assignable:
    """A person whom a queue can be assigned to."""

    account_id: uuid.UUID
    name: str
    role: Role
    is_disabled: bool = False


@dataclass(frozen=True)
class Claim:
    """An item that is this rater's until `expires_at`; what they submit later is kept too.

    `occasion` is that of the feedback: 1 where the item is shown a second time on purpose. In a
    blind queue `kind` never says that the answer is known.
    """

    assignment_id: uuid.UUID
    item_id: uuid.UUID
    interaction_id: uuid.UUID
    other_interaction_id: uuid.UUID | None
    kind: QueueItemKind
    occasion: int
    expires_at: datetime
