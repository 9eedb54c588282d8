"""Who rates. Ids from outside are stored as keyed pseudonyms only."""

import uuid
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.clock import new_id
from rlhf_core.config import get_settings
from rlhf_core.privacy.pseudonyms import FINGERPRINT, check_key, make_pseudonym
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import Rater, StoreFact
from rlhf_core.store.upsert import insert_if_absent
from rlhf_core.vocabulary import RaterKind

# built once: building a statement takes longer than running it
_RATER = table_of(Rater)
of_pseudonym = sa.select(_RATER.c.id).where(
    _RATER.c.pseudonym == sa.bindparam("pseudonym", type_=sa.String)
)
_lock = (
    sa.select(_RATER.c.id)
    .where(_RATER.c.id == sa.bindparam("rater", type_=sa.Uuid))
    .with_for_update(key_share=True)
)
_lock_by_pseudonym = of_pseudonym.with_for_update(key_share=True)

T = TypeVar("T")

_checked_databases: set[tuple[sa.URL, bytes]] = set()


def find_or_create_rater(
    db: Session, *, external_id: str | None, rater_kind: RaterKind, actor: Actor
) -> uuid.UUID:
    """The rater of this id outside; without one, the rater that is the actor's account.

    A rater keeps the kind it was first seen with. Two callers at once get the same rater.
    """
    if external_id is None:
        pseudonym, account_id = account_pseudonym(actor), actor.account_id
    else:
        pseudonym, account_id = outside_pseudonym(db, external_id), None
    return create_rater(db, pseudonym, rater_kind=rater_kind, account_id=account_id, actor=actor)


def create_rater(
    db: Session,
    pseudonym: str,
    *,
    rater_kind: RaterKind,
    account_id: uuid.UUID | None = None,
    actor: Actor,
) -> uuid.UUID:
    """The rater with this pseudonym, made where it is missing."""
    known = _find(db, pseudonym)
    if known is not None:
        return known
    row = {
        "id": new_id(),
        "pseudonym": pseudonym,
        "rater_kind": rater_kind,
        "account_id": account_id,
    }
    insert_if_absent(db, Rater, [row])
    made: uuid.UUID = db.scalars(of_pseudonym, {"pseudonym": pseudonym}).one()
    return made


def lock_own_rater(db: Session, *, actor: Actor) -> None:
    """Let one of two requests of the actor at once wait for the other, until it commits.

    Before reading what is written back as a whole: without it the later one writes what it read,
    and drops what the earlier one added. The actor's rater is made where it is missing.
    """
    pseudonym = account_pseudonym(actor)
    locked = db.scalar(_lock_by_pseudonym, {"pseudonym": pseudonym})
    if locked is not None:
        _known(db)[pseudonym] = locked
        _locked(db).add(locked)
        return
    rater_id = find_or_create_rater(db, external_id=None, rater_kind=RaterKind.SME, actor=actor)
    lock_rater(db, rater_id)


def lock_rater(db: Session, rater_id: uuid.UUID) -> None:
    """As `lock_own_rater`, of a rater who is known."""
    if rater_id not in _locked(db):
        db.execute(_lock, {"rater": rater_id})
        _locked(db).add(rater_id)


def find_rater(db: Session, *, actor: Actor) -> uuid.UUID | None:
    """The rater that is the actor's account; None before its first feedback."""
    return _find(db, account_pseudonym(actor))


def _find(db: Session, pseudonym: str) -> uuid.UUID | None:
    """The rater with this pseudonym; asked once a transaction, as one judgement asks often."""
    known = _known(db)
    if pseudonym not in known:
        found = db.scalar(of_pseudonym, {"pseudonym": pseudonym})
        if found is None:
            return None
        known[pseudonym] = found
    return known[pseudonym]


def _known(db: Session) -> dict[str, uuid.UUID]:
    return _noted(db, "raters known", {})


def _locked(db: Session) -> set[uuid.UUID]:
    return _noted(db, "raters locked", set())


def _noted(db: Session, name: str, empty: T) -> T:
    """What is noted under this name in the session, which is one transaction.

    Nothing within a savepoint: its end may take back what was noted.
    """
    return empty if db.in_nested_transaction() else db.info.setdefault(name, empty)


def account_pseudonym(actor: Actor) -> str:
    """The pseudonym of the actor's own rater.

    It begins with `a_`, and those of ids outside with `u_`: no id that a program sends can be
    mistaken for an account.
    """
    return f"a_{actor.name[:60]}" if actor.account_id is None else f"a_{actor.account_id.hex}"


def outside_pseudonym(db: Session, external_id: str) -> str:
    """The keyed pseudonym of an id outside.

    Raises:
        Conflict: this database was filled with another key.
    """
    key = get_settings().read_secret_key()
    database = (db.get_bind().engine.url, key)  # a URL is hashable
    if database not in _checked_databases:
        was_known = db.get(StoreFact, FINGERPRINT) is not None
        check_key(db, key)
        if was_known:  # a fingerprint written just now may be rolled back
            _checked_databases.add(database)
    return make_pseudonym(external_id, key)
