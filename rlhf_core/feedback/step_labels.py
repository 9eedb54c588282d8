"""Labelling the steps of a way to an answer: where is the first wrong one?"""

import uuid

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id
from rlhf_core.errors import NotFound
from rlhf_core.feedback.drafts import FeedbackDraft
from rlhf_core.feedback.service import submit_feedback
from rlhf_core.feedback.views import InteractionView, StepView, get_interaction

GOOD, WRONG = 1, -1


def label_first_wrong(
    db: Session, interaction_id: uuid.UUID, position: int, *, actor: Actor, occasion: int = 0
) -> int:
    """Label this step wrong and those before it good; how many labels changed.

    A step before it that the actor labelled neutral stays so. Undo takes all of it back at once.

    Raises:
        NotFound: no such interaction, or it has no such step.
    """
    require(actor, Permission.RATE)
    view = get_interaction(db, interaction_id, actor=actor, occasion=occasion)
    if not 0 <= position < len(view.steps):
        raise NotFound(f"Interaction {interaction_id} has no step {position}.")
    bulk_id = new_id()
    num_changed = 0
    for step in view.steps[: position + 1]:
        wanted = WRONG if step.position == position else GOOD
        if step.my_label == wanted or (wanted == GOOD and step.my_label == 0):
            continue
        draft = FeedbackDraft(step=step.position, label=wanted, occasion=occasion)
        submit_feedback(db, interaction_id, draft, actor=actor, bulk_id=bulk_id)
        num_changed += 1
    return num_changed


def find_first_wrong(steps: tuple[StepView, ...]) -> int | None:
    """The position of the first step that the rater labelled wrong."""
    return next((step.position for step in steps if step.my_label == WRONG), None)


def are_steps_judged(view: InteractionView) -> bool:
    """Whether the rater labelled every step, or every one up to the first wrong one."""
    wrong = find_first_wrong(view.steps)
    needed = view.steps if wrong is None else view.steps[:wrong]
    return bool(view.steps) and all(step.my_label is not None for step in needed)
