"""What end users allow. Their ids come from outside and are kept as keyed pseudonyms only."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.config import get_settings
from rlhf_core.errors import Forbidden, InvalidInput
from rlhf_core.privacy.pseudonyms import check_key, make_pseudonym
from rlhf_core.store.tables import Consent
from rlhf_core.vocabulary import ConsentState

FEEDBACK_PURPOSE = "feedback"
TRAINING_PURPOSE = "training"
PURPOSES = (FEEDBACK_PURPOSE, TRAINING_PURPOSE)
SOURCE = "opt-out"
MAX_USER_CHARS = 200


def opt_out(db: Session, *, actor: Actor, user: str) -> bool:
    """Take no more feedback of this user, and let nothing of theirs train; False: it was so before.

    `user` is the id outside. What they said before stays where people see it, but no dataset that
    is built from now on holds it.
    """
    return _record(db, actor=actor, user=user, state=ConsentState.WITHDRAWN)


def opt_in(db: Session, *, actor: Actor, user: str) -> bool:
    """Take an opt-out back; False where none stands."""
    return _record(db, actor=actor, user=user, state=ConsentState.GRANTED)


def is_opted_out(db: Session, *, user: str) -> bool:
    """Whether the user (the id outside) opted out."""
    return find_consent(db, _pseudonym_of(db, user)) is ConsentState.WITHDRAWN


def list_opted_out(db: Session) -> frozenset[str]:
    """The pseudonyms of all who opted out."""
    words = db.execute(
        sa.select(Consent.pseudonym, Consent.state)
        .where(Consent.purpose == FEEDBACK_PURPOSE)
        .order_by(Consent.recorded_at, Consent.id)
    )
    newest = {pseudonym: state for pseudonym, state in words}
    return frozenset(own for own, state in newest.items() if state is ConsentState.WITHDRAWN)


def count_words(db: Session) -> int:
    """How often people have said yes or no so far: another number, and somebody said a new word."""
    return db.scalar(sa.select(sa.func.count()).select_from(Consent)) or 0


def refuse_opted_out(state: ConsentState | None) -> None:
    """Raise Forbidden where this, a person's `standing_word`, takes the feedback back."""
    if state is ConsentState.WITHDRAWN:
        raise Forbidden(
            "This user opted out of giving feedback: nothing was stored; send none of theirs."
        )


def standing_word(pseudonym: sa.ColumnElement[str] | str) -> sa.ScalarSelect[ConsentState]:
    """The newest word of this person on feedback: NULL where there is none."""
    return (
        sa.select(Consent.state)
        .where(Consent.pseudonym == pseudonym, Consent.purpose == FEEDBACK_PURPOSE)
        .order_by(Consent.recorded_at.desc(), Consent.id.desc())
        .limit(1)
        .scalar_subquery()
    )


def _record(db: Session, *, actor: Actor, user: str, state: ConsentState) -> bool:
    require(actor, Permission.WRITE_INTERACTIONS)
    if not user.strip() or len(user) > MAX_USER_CHARS:
        raise InvalidInput(
            f"user: an id of 1 to {MAX_USER_CHARS} characters is needed.", field="user"
        )
    pseudonym = _pseudonym_of(db, user)
    standing = find_consent(db, pseudonym)
    if standing is state or (standing is None and state is ConsentState.GRANTED):
        return False
    now = utcnow()
    rows = [
        {
            "id": new_id(),
            "pseudonym": pseudonym,
            "purpose": purpose,
            "state": state,
            "source": SOURCE,
            "recorded_at": now,
        }
        for purpose in PURPOSES
    ]
    db.execute(sa.insert(Consent), rows)
    record_event(
        db,
        actor=actor,
        action=f"consent.{state.value}",
        target_kind="person",
        target_id=pseudonym,
        details={"purposes": list(PURPOSES)},
    )
    return True


def find_consent(db: Session, pseudonym: str) -> ConsentState | None:
    """The newest word of this person on feedback."""
    return db.scalar(sa.select(standing_word(pseudonym)))


def _pseudonym_of(db: Session, user: str) -> str:
    key = get_settings().read_secret_key()
    check_key(db, key)
    return make_pseudonym(user, key)
