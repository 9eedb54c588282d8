"""Which completions are compared now, and what a choice does: stored before the next ones show.

A callback gets the place as an argument. What comes for completions that have been left already is
dropped with a word: it would judge what nobody has read.
"""

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import streamlit as st
from pydantic import ValidationError

from pages._ui.guard import require_page
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound, RlhfError
from rlhf_core.feedback.comparison_reasons import drop_unsent_reason, keep_unsent_reason
from rlhf_core.feedback.comparison_tasks import (
    ComparisonTask,
    find_compared_before,
    get_task,
    next_to_compare,
)
from rlhf_core.feedback.comparisons import submit_best
from rlhf_core.feedback.drafts import PreferenceDraft, explain
from rlhf_core.feedback.service import UndoneComparison, undo_last
from rlhf_core.queues.leases import claim_next, finish_claim, holds_pair, skip_claim
from rlhf_core.queues.views import Claim, QueueView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Choice

SHOWN = "compare_shown"  # the spot on screen; None while others are on their way
SEEN_AT = "compare_seen_at"
STRENGTH = "compare_strength"
TRAIL = "compare_trail"
FRESH = "compare_fresh"
FAILURE = "compare_failure"
MOST = "compare_most"

Spot = tuple[tuple[uuid.UUID, ...], int]  # the completions by id, and the occasion


@dataclass(frozen=True)
class Place:
    """The completions on screen, and the queue that they are compared in, if they are of one."""

    task: ComparisonTask
    queue: QueueView | None

    @property
    def spot(self) -> Spot:
        """What the address names."""
        return tuple(sorted(self.task.shown_ids)), self.task.occasion

    @property
    def key(self) -> str:
        """What the keys of the widgets end in; another one after an undo."""
        ids, occasion = self.spot
        fresh = st.session_state.get(FRESH, {}).get(ids, 0)
        return f"{''.join(one.hex[-8:] for one in ids)}_{occasion}_{fresh}"


def find_place(actor: Actor, queue: QueueView | None) -> Place | None:
    """The completions that the address names, so that a reload stays on them; else the next ones.

    Completions that are no item of the queue (one came back to them) are compared outside of it,
    blind: who writes the address must not choose whether the models show.

    Raises:
        NotFound: the address names none, or they are gone.
    """
    named = _named_spot()
    if named is not None:
        ids, occasion = named
        with get_store().reading() as db:
            if queue is not None and not holds_pair(db, queue.id, ids, actor=actor):
                queue = None
            is_blind = queue is None or queue.is_blind
            task = get_task(db, ids, actor=actor, occasion=occasion, is_blind=is_blind)
        return Place(task, queue)
    if queue is None:
        with get_store().reading() as db:
            found = next_to_compare(db, actor=actor, most=chosen_most())
        return None if found is None else Place(found, queue)
    with get_store().writing() as db:
        claim = claim_next(db, queue.id, actor=actor)
        if claim is None:
            return None
        ids, occasion = _spot_of(claim)
        task = get_task(db, ids, actor=actor, occasion=occasion, is_blind=queue.is_blind)
        return Place(task, queue)


def _named_spot() -> Spot | None:
    """What the address names; one item alone is of the page Rate, from which one came."""
    wanted = st.query_params.get("item")
    if wanted is None:
        return None
    try:
        occasion = int(st.query_params.get("occasion", 0))
        ids = tuple(sorted(uuid.UUID(part) for part in wanted.split(".")))
    except ValueError:
        raise NotFound("The address names no completions; it may be cut off.") from None
    return (ids, occasion) if len(ids) > 1 else None


def chosen_most() -> int:
    """How many completions are compared at once."""
    return int(st.session_state.get(MOST) or 2)


def note_shown(place: Place | None) -> None:
    """Remember what is on screen from now on, name it in the address, and start the clock."""
    st.session_state[SHOWN] = None if place is None else place.spot
    if place is None:
        return
    point_to(place.spot)
    if st.session_state.get(SEEN_AT, (None,))[0] != place.spot:
        st.session_state[SEEN_AT] = (place.spot, time.monotonic())


def point_to(spot: Spot | None) -> None:
    """Let the address name completions; None: the next ones."""
    for name in ("item", "occasion"):
        st.query_params.pop(name, None)
    if spot is not None:
        ids, occasion = spot
        st.query_params["item"] = ".".join(str(one) for one in ids)
        if occasion:
            st.query_params["occasion"] = str(occasion)


def strength_of(place: Place) -> int | None:
    """By how much, as chosen now; else as said before."""
    spot, strength = st.session_state.get(STRENGTH, (None, None))
    mine = place.task.mine
    return strength if spot == place.spot else mine and mine.strength


def set_strength(place: Place, strength: int) -> None:
    """Choose by how much, or choose it away; a callback."""
    if st.session_state.get(SHOWN) == place.spot:
        chosen = None if strength_of(place) == strength else strength
        st.session_state[STRENGTH] = (place.spot, chosen)
    else:
        _too_early()


def judge(place: Place, best_id: uuid.UUID | None, choice: Choice, shown: str) -> None:
    """Store which completion is best (None: `choice`), and go on to the next ones; a callback."""
    if st.session_state.get(SHOWN) != place.spot:
        _too_early()
        return
    following: list[Spot | None] = []
    strength = None if best_id is None else strength_of(place)

    def work(db: Any, actor: Actor) -> None:
        _submit(db, place, actor, best_id, choice, strength)
        drop_unsent_reason(db, place.task.shown_ids, actor=actor)
        following.append(_finish(db, place, actor))

    if _change(work):
        notify(f"Saved: {shown}")
        leave(place, following[0])


def leave(place: Place, to: Spot | None) -> None:
    """Show other completions; None: the next ones."""
    st.session_state.setdefault(TRAIL, []).append(place.spot)
    st.session_state[SHOWN] = None
    point_to(to)


def go_on(place: Place) -> None:
    """Skip these completions, or leave those that were judged before; a callback."""
    if st.session_state.get(SHOWN) != place.spot:
        _too_early()
        return
    if place.queue is None and "queue" in st.query_params:
        leave(place, None)  # what one came back to is not of the queue: go on in it
        return
    found: list[Spot | None] = []

    def work(db: Any, actor: Actor) -> None:
        found.append(_find_next(db, place, actor))

    if not _change(work):
        return
    if found[0] is None or found[0] == place.spot:
        notify("There is nothing else to compare.", icon=":material/info:")
    else:
        leave(place, found[0])


def go_back(place: Place | None) -> None:
    """Show what was on screen before these, or was compared before them; a callback."""
    trail: list[Spot] = st.session_state.get(TRAIL, [])
    while trail and place is not None and trail[-1] == place.spot:
        trail.pop()
    if trail:
        point_to(trail.pop())
        return
    found: list[tuple[uuid.UUID, ...] | None] = []
    before = None if place is None else place.task.shown_ids

    def work(db: Any, actor: Actor) -> None:
        found.append(find_compared_before(db, actor=actor, before=before))

    if not _change(work):
        return
    if found[0] is None:
        notify("You have compared nothing before this.", icon=":material/info:")
    else:
        point_to((found[0], 0))


def undo() -> None:
    """Take back one's last action, and show the completions that it was about; a callback."""
    undone = []

    def work(db: Any, actor: Actor) -> None:
        undone.append(undo_last(db, actor=actor))

    if not _change(work):
        return
    match undone[0]:
        case None:
            notify("There is nothing to undo: the last ten actions can be taken back.",
                   icon=":material/info:")  # fmt: skip
        case UndoneComparison(interaction_ids=ids, occasion=occasion):
            notify("Undone", icon=":material/undo:")
            spot = tuple(sorted(ids)), occasion
            fresh = st.session_state.setdefault(FRESH, {})
            fresh[spot[0]] = fresh.get(spot[0], 0) + 1
            st.session_state.pop(STRENGTH, None)
            point_to(spot)
        case _:
            notify("Undone: what you said last was on the page Rate.", icon=":material/undo:")


def keep_reason(place: Place) -> None:
    """Keep the reason as typed, so that a reload loses nothing; a callback."""
    if st.session_state.get(SHOWN) != place.spot:
        return  # it went with the choice
    typed = typed_reason(place)
    mine = place.task.mine
    unsent = None if typed == ((mine and mine.reason) or "") else typed
    _change(lambda db, actor: keep_unsent_reason(db, place.task.shown_ids, unsent, actor=actor))


def typed_reason(place: Place) -> str:
    """The reason as it stands on screen."""
    return (st.session_state.get(f"reason_{place.key}") or "").strip()


def _submit(
    db: Any,
    place: Place,
    actor: Actor,
    best_id: uuid.UUID | None,
    choice: Choice,
    strength: int | None,
) -> None:
    task = place.task
    said = {"duration_s": _seconds(place)} if task.mine is None else {}
    draft = PreferenceDraft(
        choice=choice,
        strength=strength,
        reason=typed_reason(place) or None,
        occasion=task.occasion,
        is_blind=task.is_blind,
        extra={"side_seed": task.side_seed, "shown": [str(one) for one in task.shown_ids]},
        **said,
    )
    queue_id = None if place.queue is None else place.queue.id
    submit_best(db, task.shown_ids, best_id, draft, actor=actor, queue_id=queue_id)


def _seconds(place: Place) -> float | None:
    spot, seen_at = st.session_state.get(SEEN_AT, (None, 0.0))
    return round(time.monotonic() - seen_at, 1) if spot == place.spot else None


def _finish(db: Any, place: Place, actor: Actor) -> Spot | None:
    """Count the pair as done in its queue, and take the next one of it; None outside of queues.

    A queue that was closed or given to others meanwhile never costs the judgement.
    """
    if place.queue is None:
        return None
    one, other = place.spot[0]
    with suppress(NotFound, Forbidden, InvalidInput):
        finish_claim(
            db, actor=actor, queue_id=place.queue.id, interaction_id=one, other_interaction_id=other
        )
    with suppress(NotFound, Forbidden, Conflict):
        claim = claim_next(db, place.queue.id, actor=actor)
        return None if claim is None else _spot_of(claim)
    return None


def _find_next(db: Any, place: Place, actor: Actor) -> Spot | None:
    if place.queue is None:
        found = next_to_compare(db, actor=actor, after=place.task.shown_ids, most=chosen_most())
        return None if found is None else (tuple(sorted(found.shown_ids)), 0)
    if place.task.mine is None:
        one, other = place.spot[0]
        skip_claim(
            db, actor=actor, queue_id=place.queue.id, interaction_id=one, other_interaction_id=other
        )
    claim = claim_next(db, place.queue.id, actor=actor)
    return None if claim is None else _spot_of(claim)


def _spot_of(claim: Claim) -> Spot:
    ids = [claim.interaction_id, claim.other_interaction_id]
    return tuple(sorted(one for one in ids if one is not None)), claim.occasion


def _too_early() -> None:
    notify("Not counted: the next pair was not on screen yet.", icon=":material/info:")


def _change(work: Callable[[Any, Actor], None]) -> bool:
    """Do `work` in a transaction of the person signed in; whether that went well."""
    actor = require_page(Permission.RATE)
    try:
        with get_store().writing() as db:
            work(db, actor)
    except ValidationError as error:
        st.session_state[FAILURE] = explain(error)
        return False
    except RlhfError as error:
        st.session_state[FAILURE] = error
        return False
    return True
