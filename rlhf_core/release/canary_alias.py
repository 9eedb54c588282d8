"""The alias `canary`: it names the treatment while a deployment runs, and nothing afterwards."""

import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.clock import new_id, utcnow
from rlhf_core.store.tables import ModelAlias, ModelAliasChange
from rlhf_core.store.upsert import insert_if_absent
from rlhf_core.vocabulary import Alias


def point_canary(
    db: Session, model_id: uuid.UUID, version_id: uuid.UUID | None, *, actor: Actor, reason: str
) -> None:
    """Let the alias name the version, or none; nothing changes where it does already.

    The caller holds the model's row: no other deployment moves the alias meanwhile.
    """
    insert_if_absent(
        db, ModelAlias,
        [{"model_id": model_id, "alias": Alias.CANARY, "revision": 0, "updated_at": utcnow()}],
    )  # fmt: skip
    is_canary = sa.and_(ModelAlias.model_id == model_id, ModelAlias.alias == Alias.CANARY)
    now = utcnow()
    before = db.execute(
        sa.select(ModelAlias.version_id, ModelAlias.revision).where(is_canary).with_for_update()
    ).one()
    if before.version_id == version_id:
        return
    db.execute(
        sa.update(ModelAlias)
        .where(is_canary)
        .values(version_id=version_id, revision=before.revision + 1, updated_at=now)
    )
    db.add(
        ModelAliasChange(
            id=new_id(),
            model_id=model_id,
            alias=Alias.CANARY,
            revision=before.revision + 1,
            from_version_id=before.version_id,
            to_version_id=version_id,
            reason=reason,
            changed_by=actor.account_id,
            changed_at=now,
        )
    )
    db.flush()
