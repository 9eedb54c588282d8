"""Where a rater is: the item on screen, its queue, and the ways to the next and back.

A callback gets the place as an argument, and what comes for an item that has been left already (a
key pressed twice, a click before the next item shows) is dropped with a word: it would judge what
nobody has read. It asks again who is signed in, for it runs before the page's own guard.
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
from pages._ui.messages import show_error
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound, RlhfError
from rlhf_core.feedback.assignment import next_to_rate
from rlhf_core.feedback.drafts import FeedbackDraft, explain
from rlhf_core.feedback.raters import lock_own_rater
from rlhf_core.feedback.service import StoredFeedback, submit_feedback
from rlhf_core.feedback.step_labels import are_steps_judged
from rlhf_core.feedback.unsent import drop_unsent
from rlhf_core.feedback.views import InteractionView, MyFeedback, get_interaction
from rlhf_core.queues.leases import claim_next, finish_claim
from rlhf_core.queues.views import QueueView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import QueueSubject

SHOWN = "rating_shown"  # (item, occasion) on screen; None while another one is on its way
LEFT = "rating_left"  # the item that was left last, and when ...
HEADED = "rating_headed"  # ... and the one shown after it (None: to be found)
MOVED = "rating_moved"  # this run wrote the address itself: it is not what the browser sent
LATE_S = 5.0  # so far behind may a browser be
SEEN_AT = "rating_seen_at"
TRAIL = "rating_trail"
FAILURE = "rating_failure"
FRESH = "rating_fresh"
NOWHERE = uuid.UUID(int=0)

Spot = tuple[uuid.UUID, int]  # an item and the occasion on which it is rated


@dataclass(frozen=True)
class Place:
    """An item on screen, and the queue that it is rated in."""

    item: InteractionView
    queue: QueueView | None

    @property
    def spot(self) -> Spot:
        """What the address names."""
        return self.item.id, self.item.occasion

    @property
    def is_about_steps(self) -> bool:
        """Whether the queue asks for labels of steps, not for a judgement of the whole."""
        return self.queue is not None and self.queue.subject is QueueSubject.STEPS

    @property
    def is_judged(self) -> bool:
        """Whether the rater gave the judgement that is asked for."""
        return are_steps_judged(self.item) if self.is_about_steps else self.item.is_rated

    @property
    def key(self) -> str:
        """What the keys of this item's widgets end in; another one after an undo."""
        item_id, occasion = self.spot
        return f"{item_id.hex}_{occasion}_{st.session_state.get(FRESH, {}).get(item_id, 0)}"


def find_place(actor: Actor, queue: QueueView | None) -> Place | None:
    """The item that the address names, so that a reload stays on it; else the next to rate."""
    wanted = st.query_params.get("item")
    has_moved = st.session_state.pop(MOVED, False)
    if wanted is not None:
        try:
            occasion = int(st.query_params.get("occasion", 0))
            item_id = uuid.UUID(wanted)
        except ValueError:
            raise NotFound("The address names no item; it may be cut off.") from None
        spot: Spot | None = item_id, occasion
        left, left_at = st.session_state.get(LEFT, (None, 0.0))
        if spot == left and time.monotonic() - left_at < LATE_S:
            spot = st.session_state.get(HEADED)  # sent before the browser knew the new address
        elif spot == st.session_state.get(HEADED) and not has_moved:
            forget_left()  # it knows: from now on it means what it names, after "Back" too
    else:
        spot = None
    if spot is not None:
        item_id, occasion = spot
        with get_store().glancing() as db:
            return Place(get_interaction(db, item_id, actor=actor, occasion=occasion), queue)
    if queue is None:
        with get_store().glancing() as db:
            item = next_to_rate(db, actor=actor)
        return None if item is None else Place(item, queue)
    with get_store().writing() as db:
        claim = claim_next(db, queue.id, actor=actor)
        if claim is None:
            return None
        item = get_interaction(db, claim.interaction_id, actor=actor, occasion=claim.occasion)
        return Place(item, queue)


def note_shown(place: Place | None) -> None:
    """Remember what is on screen from now on, name it in the address, and start the clock."""
    if place is None:
        st.session_state[SHOWN] = None
        return
    _write_address(place.spot)
    st.session_state[HEADED] = place.spot
    if st.session_state.get(SEEN_AT, (None,))[0] != place.spot:
        st.session_state[SEEN_AT] = (place.spot, time.monotonic())
    st.session_state[SHOWN] = place.spot


def point_to(spot: Spot | None) -> None:
    """Let the address name an item; None: the next to rate."""
    forget_left()
    _write_address(spot)


def forget_left() -> None:
    """Take the address at its word: it was not sent by a browser that is behind."""
    st.session_state.pop(LEFT, None)


def _write_address(spot: Spot | None) -> None:
    st.query_params.pop("occasion", None)
    if spot is None:
        st.query_params.pop("item", None)
        return
    st.query_params["item"] = str(spot[0])
    if spot[1]:
        st.query_params["occasion"] = str(spot[1])


def is_left(place: Place) -> bool:
    """Whether another item is on its way to the screen already; says that the key was too early."""
    if st.session_state.get(SHOWN) == place.spot:
        return False
    notify("Not counted: the next item was not on screen yet.", icon=":material/info:")
    return True


def draw_failure() -> None:
    """What could not be saved, and why; shown once."""
    error = st.session_state.pop(FAILURE, None)
    if error is not None:
        show_error(error)


def change(work: Callable[[Any, Actor], None]) -> bool:
    """Do `work` in a transaction of the person signed in; whether that went well.

    Else the reason is kept for `draw_failure`, and nothing that was typed is lost. Of two tabs of
    a person at once one waits for the other, and so reads what that wrote.
    """
    actor = require_page(Permission.RATE)
    try:
        with get_store().writing() as db:
            lock_own_rater(db, actor=actor)  # first of all locks, as in leasing
            work(db, actor)
    except ValidationError as error:
        st.session_state[FAILURE] = explain(error)
        return False
    except RlhfError as error:
        st.session_state[FAILURE] = error
        return False
    return True


def submit(db: Any, place: Place, actor: Actor, **said: Any) -> StoredFeedback | None:
    """Store what is said of the item on screen, for the occasion on which it is shown.

    None where it only takes away, and there is nothing to take away from.
    """
    if all(value in (None, "", [], {}) for value in said.values()):
        mine = read_mine(db, place, actor)
        if mine is None:
            return None
        said = {"comment": mine.comment or "", **said}  # says what stands: a draft says something
    draft = FeedbackDraft(occasion=place.item.occasion, **said)
    return submit_feedback(db, place.item.id, draft, actor=actor)


def read_mine(db: Any, place: Place, actor: Actor) -> MyFeedback | None:
    """The rater's feedback as it is now: what is on screen may be older."""
    item = get_interaction(db, place.item.id, actor=actor, occasion=place.item.occasion)
    return item.my_feedback


def judge(place: Place, shown: str, **said: Any) -> None:
    """Store a judgement of the whole with the texts typed, and go to the next item: a callback."""
    if is_left(place):
        return
    spot, seen_at = st.session_state.get(SEEN_AT, (None, 0.0))
    if spot == place.spot and not place.item.is_rated:
        said["duration_s"] = round(time.monotonic() - seen_at, 1)
    following: list[Spot | None] = []

    def work(db: Any, actor: Actor) -> None:
        stored = submit(db, place, actor, **said)
        drop_unsent(db, place.item.id, actor=actor)
        following.append(finish(db, place, actor, stored and stored.id))

    if change(work):
        notify(f"Saved: {shown}")
        leave(place, following[0])


def finish(
    db: Any, place: Place, actor: Actor, feedback_id: uuid.UUID | None = None
) -> Spot | None:
    """Count the item as done in its queue, and take the next one of it; None outside of queues.

    A queue that was closed or given to others meanwhile never costs the judgement.
    """
    if place.queue is None:
        return None
    with suppress(NotFound, Forbidden, InvalidInput):
        finish_claim(
            db,
            actor=actor,
            queue_id=place.queue.id,
            interaction_id=place.item.id,
            feedback_id=feedback_id,
        )
    with suppress(NotFound, Forbidden, Conflict):
        claim = claim_next(db, place.queue.id, actor=actor)
        return None if claim is None else (claim.interaction_id, claim.occasion)
    return None


def leave(place: Place, to: Spot | None) -> None:
    """Show another item; None: the next one to rate."""
    st.session_state.setdefault(TRAIL, []).append(place.spot)
    st.session_state[SHOWN] = None
    point_to(to)
    st.session_state[LEFT] = place.spot, time.monotonic()
    st.session_state[HEADED], st.session_state[MOVED] = to, True


def find_next(place: Place) -> Spot | None:
    """The item after this one, which is given back, or counted where it is judged.

    Raises RlhfError.
    """
    actor = require_page(Permission.RATE)
    if place.queue is None:
        with get_store().glancing() as db:
            found = next_to_rate(db, actor=actor, after=place.item.id)
        return None if found is None else (found.id, 0)
    with get_store().writing() as db:
        if place.is_judged:  # perhaps elsewhere: a lease on it would come back for ever
            mine = None if place.is_about_steps else place.item.my_feedback
            return finish(db, place, actor, mine and mine.id)
        claim = claim_next(db, place.queue.id, actor=actor, after=place.item.id)
    return None if claim is None else (claim.interaction_id, claim.occasion)


def find_former(place: Place | None) -> Spot | None:
    """The item that was on screen before this one, or was rated before it. Raises RlhfError."""
    trail: list[Spot] = st.session_state.get(TRAIL, [])
    while trail and place is not None and trail[-1] == place.spot:
        trail.pop()
    if trail:
        return trail.pop()
    actor = require_page(Permission.RATE)
    here = NOWHERE if place is None else place.item.id
    with get_store().glancing() as db:
        found = next_to_rate(db, actor=actor, before=here)
    return None if found is None else (found.id, 0)


def refresh(item_id: uuid.UUID) -> None:
    """Let the widgets of an item show again what is stored: it was changed behind them."""
    fresh = st.session_state.setdefault(FRESH, {})
    fresh[item_id] = fresh.get(item_id, 0) + 1
