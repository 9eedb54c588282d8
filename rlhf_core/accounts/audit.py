"""The audit: who did what to which thing. Written in the transaction of the deed itself."""

from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.clock import utcnow
from rlhf_core.store.tables import AuditEvent


def record_event(
    db: Session,
    *,
    actor: Actor,
    action: str,
    target_kind: str | None = None,
    target_id: object = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Add one event, such as `action="account.create"`. Never put a secret into `details`.

    The command line and the jobs have no account: their events carry `by` in the details.
    """
    if actor.account_id is None:
        details = {"by": actor.name, **(details or {})}
    db.add(
        AuditEvent(
            at=utcnow(),
            account_id=actor.account_id,
            action=action,
            target_kind=target_kind,
            target_id=None if target_id is None else str(target_id),
            details=details,
        )
    )
