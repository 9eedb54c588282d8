"""Who may do what: one table. Pages hide what is not allowed; services refuse it."""

import uuid
from dataclasses import dataclass
from enum import StrEnum

from rlhf_core.errors import Forbidden
from rlhf_core.vocabulary import Role


class Permission(StrEnum):
    """One thing that can be allowed. Also the scopes of API tokens."""

    RATE = "rate"
    READ_INTERACTIONS = "read_interactions"
    READ_ANALYTICS = "read_analytics"
    WRITE_INTERACTIONS = "write_interactions"
    SCORE = "score"
    IMPORT_DATA = "import_data"
    EXPORT_DATA = "export_data"
    MANAGE_QUEUES = "manage_queues"
    ADJUDICATE = "adjudicate"
    MANAGE_ALERTS = "manage_alerts"
    MANAGE_DATASETS = "manage_datasets"
    RUN_JOBS = "run_jobs"
    READ_MODELS = "read_models"
    PROMOTE_MODELS = "promote_models"
    OVERRIDE_GATES = "override_gates"
    MANAGE_ACCOUNTS = "manage_accounts"
    READ_AUDIT = "read_audit"


_RATER = frozenset({Permission.RATE, Permission.READ_INTERACTIONS})
_ANALYST = _RATER | {
    Permission.READ_ANALYTICS,
    Permission.READ_MODELS,
    Permission.EXPORT_DATA,
    Permission.ADJUDICATE,
    Permission.MANAGE_ALERTS,
}
_TRAINER = _ANALYST | {
    Permission.WRITE_INTERACTIONS,
    Permission.SCORE,
    Permission.IMPORT_DATA,
    Permission.MANAGE_QUEUES,
    Permission.MANAGE_DATASETS,
    Permission.RUN_JOBS,
    Permission.PROMOTE_MODELS,
}
_ADMIN = frozenset(Permission)

ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.RATER: _RATER,
    Role.ANALYST: _ANALYST,
    Role.TRAINER: _TRAINER,
    Role.ADMIN: _ADMIN,
}


@dataclass(frozen=True)
class Actor:
    """Who calls. `scopes` narrows an API token to fewer permissions than its account's role.

    `account_id` is None for the command line and for jobs, which act for the machine's owner.
    """

    name: str
    role: Role
    account_id: uuid.UUID | None = None
    scopes: frozenset[Permission] | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the role allows it and, for a token, its scopes too."""
        allowed = permission in ROLE_PERMISSIONS[self.role]
        return allowed and (self.scopes is None or permission in self.scopes)


SYSTEM = Actor(name="system", role=Role.ADMIN)
"""The machine's owner: the command line and the jobs."""


def require(actor: Actor, permission: Permission) -> None:
    """Raise Forbidden unless the actor has the permission."""
    if not actor.may(permission):
        raise Forbidden(
            f"{actor.name} may not {permission.value.replace('_', ' ')}: "
            f"the role is {actor.role.value}"
            + ("" if actor.scopes is None else f", the token's scopes {sorted(actor.scopes)}")
            + "; ask an admin."
        )
