"""An expert's veto: one person's word that keeps a version from users until it is withdrawn."""

import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, Forbidden, NotFound
from rlhf_core.gates.views import VetoView
from rlhf_core.registry.reasons import clean_reason
from rlhf_core.registry.service import get_version
from rlhf_core.store.tables import Account, Model, ModelVersion, VersionVeto
from rlhf_core.store.upsert import changed_rows
from rlhf_core.vocabulary import Role


def list_vetoes(db: Session, version_id: uuid.UUID, *, actor: Actor) -> list[VetoView]:
    """All vetoes against a version, the latest first; withdrawn ones too."""
    require(actor, Permission.READ_MODELS)
    return load_vetoes(db, version_id)


def set_veto(db: Session, version_id: uuid.UUID, *, actor: Actor, reason: str) -> VetoView:
    """Speak against a version. A person has one veto against it at a time.

    Raises:
        NotFound: there is no such version.
        InvalidInput: no reason is given.
        Conflict: the person's veto stands already.
    """
    require(actor, Permission.ADJUDICATE)
    hold_model(db, version_id=version_id)
    version = get_version(db, version_id, actor=actor)
    text = clean_reason(reason)
    standing = [one for one in load_vetoes(db, version_id) if one.withdrawn_at is None]
    if any(one.account_id == actor.account_id for one in standing):
        raise Conflict(f"Your veto against {version.name} stands already.")
    veto_id = new_id()
    db.execute(
        sa.insert(VersionVeto).values(
            id=veto_id,
            version_id=version_id,
            account_id=actor.account_id,
            reason=text,
            created_at=utcnow(),
        )
    )
    record_event(
        db, actor=actor, action="model.veto", target_kind="model_version", target_id=version_id,
        details={"model": version.model_name, "number": version.number, "reason": text},
    )  # fmt: skip
    return next(one for one in load_vetoes(db, version_id) if one.id == veto_id)


def withdraw_veto(db: Session, veto_id: uuid.UUID, *, actor: Actor, reason: str) -> VetoView:
    """Take a veto back: one's own, or as an admin anybody's. The reason is in the audit.

    Raises:
        NotFound: there is no such veto.
        Forbidden: it is another person's.
        Conflict: it is withdrawn already.
    """
    require(actor, Permission.ADJUDICATE)
    text = clean_reason(reason)
    row = db.execute(
        sa.select(VersionVeto.version_id, VersionVeto.account_id).where(VersionVeto.id == veto_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no veto {veto_id}.")
    if row.account_id != actor.account_id and actor.role is not Role.ADMIN:
        raise Forbidden("Only who gave a veto, or an admin, may withdraw it.")
    changed = db.execute(
        sa.update(VersionVeto)
        .where(VersionVeto.id == veto_id, VersionVeto.withdrawn_at.is_(None))
        .values(withdrawn_at=utcnow())
    )
    if changed_rows(changed) != 1:
        raise Conflict("This veto is withdrawn already.")
    version = get_version(db, row.version_id, actor=actor)
    record_event(
        db, actor=actor, action="model.withdraw_veto", target_kind="model_version",
        target_id=row.version_id,
        details={"model": version.model_name, "number": version.number, "reason": text},
    )  # fmt: skip
    return next(one for one in load_vetoes(db, row.version_id) if one.id == veto_id)


def load_vetoes(db: Session, version_id: uuid.UUID) -> list[VetoView]:
    """As `list_vetoes`, for those who were asked already."""
    columns = (
        VersionVeto.id, VersionVeto.version_id, VersionVeto.account_id, Account.name,
        VersionVeto.reason, VersionVeto.created_at, VersionVeto.withdrawn_at,
    )  # fmt: skip
    rows = db.execute(
        sa.select(*columns)
        .outerjoin(Account, Account.id == VersionVeto.account_id)
        .where(VersionVeto.version_id == version_id)
        .order_by(VersionVeto.created_at.desc(), VersionVeto.id.desc())
    )
    return [VetoView(*row) for row in rows]


def hold_model(
    db: Session, *, name: str | None = None, version_id: uuid.UUID | None = None
) -> None:
    """Hold the model, by its name or by one of its versions, until the caller commits.

    A veto and a promotion at the same moment come one after the other: who promotes sees it.
    """
    if name is None:
        of_version = sa.select(ModelVersion.model_id).where(ModelVersion.id == version_id)
        is_meant = Model.id == of_version.scalar_subquery()
    else:
        is_meant = Model.name == name
    db.execute(sa.select(Model.id).where(is_meant).with_for_update(key_share=True))
