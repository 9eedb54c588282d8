"""What reward models say of stored interactions: written by the scoring job, read by everybody."""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import utcnow
from rlhf_core.registry.service import find_production
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import Interaction, InteractionReward
from rlhf_core.store.upsert import dialect_insert

IDS_A_STATEMENT = 500


@dataclass(frozen=True)
class ScoringState:
    """How far the stored interactions are scored by a version. `mean` is None with none scored."""

    num_interactions: int
    num_scored: int
    mean: float | None
    scored_at: datetime | None

    @property
    def num_missing(self) -> int:
        """How many have no reward yet."""
        return self.num_interactions - self.num_scored


@dataclass(frozen=True)
class Unscored:
    """An interaction to score."""

    interaction_id: uuid.UUID
    prompt: str
    completion: str


def find_rewards(
    db: Session,
    interaction_ids: Collection[uuid.UUID],
    *,
    actor: Actor,
    version_id: uuid.UUID | None = None,
) -> dict[uuid.UUID, float]:
    """The rewards of these interactions by a version, by default the one in production.

    What was not scored is absent.
    """
    require(actor, Permission.READ_INTERACTIONS)
    if version_id is None:
        production = find_production(db)
        if production is None:
            return {}
        version_id = production.id
    wanted = list(interaction_ids)
    found: dict[uuid.UUID, float] = {}
    for start in range(0, len(wanted), IDS_A_STATEMENT):
        rows = db.execute(
            sa.select(InteractionReward.interaction_id, InteractionReward.reward).where(
                InteractionReward.model_version_id == version_id,
                InteractionReward.interaction_id.in_(wanted[start : start + IDS_A_STATEMENT]),
            )
        )
        found.update((row.interaction_id, row.reward) for row in rows)
    return found


def get_scoring_state(db: Session, version_id: uuid.UUID, *, actor: Actor) -> ScoringState:
    """How many stored interactions this version has scored, and when last."""
    require(actor, Permission.READ_MODELS)
    total = db.scalar(sa.select(sa.func.count()).select_from(Interaction)) or 0
    row = db.execute(
        sa.select(
            sa.func.count(),
            sa.func.avg(InteractionReward.reward),
            sa.func.max(InteractionReward.scored_at),
        ).where(InteractionReward.model_version_id == version_id)
    ).one()
    return ScoringState(
        num_interactions=total,
        num_scored=row[0],
        mean=None if row[1] is None else float(row[1]),
        scored_at=row[2],
    )


def count_to_score(db: Session, version_id: uuid.UUID, *, only_missing: bool) -> int:
    """How many interactions `list_to_score` would give in all."""
    query = sa.select(sa.func.count()).select_from(Interaction)
    return db.scalar(query.where(*_conditions(version_id, only_missing))) or 0


def list_to_score(
    db: Session,
    version_id: uuid.UUID,
    *,
    after: uuid.UUID | None,
    limit: int,
    only_missing: bool,
) -> list[Unscored]:
    """The next interactions to score, by id; `after` is the last one of the page before."""
    conditions = _conditions(version_id, only_missing)
    if after is not None:
        conditions.append(Interaction.id > after)
    query = (
        sa.select(Interaction.id, Interaction.prompt, Interaction.completion)
        .where(*conditions)
        .order_by(Interaction.id)
        .limit(limit)
    )
    return [Unscored(*row) for row in db.execute(query)]


def store_rewards(
    db: Session, version_id: uuid.UUID, rewards: Mapping[uuid.UUID, float], *, actor: Actor
) -> None:
    """Keep the rewards; a reward by the same version is replaced. Deleted interactions drop out."""
    require(actor, Permission.RUN_JOBS)
    if not rewards:
        return
    alive = set(db.scalars(sa.select(Interaction.id).where(Interaction.id.in_(rewards))))
    now = utcnow()
    rows = [
        {
            "interaction_id": interaction_id,
            "model_version_id": version_id,
            "reward": reward,
            "scored_at": now,
        }
        for interaction_id, reward in rewards.items()
        if interaction_id in alive
    ]
    if rows:
        statement = dialect_insert(db, table_of(InteractionReward)).values(rows)
        changed = {name: statement.excluded[name] for name in ("reward", "scored_at")}
        db.execute(
            statement.on_conflict_do_update(
                index_elements=["interaction_id", "model_version_id"], set_=changed
            )
        )


def _conditions(version_id: uuid.UUID, only_missing: bool) -> list[sa.ColumnElement[bool]]:
    """Only interactions with text, and where asked only those without a reward."""
    conditions: list[sa.ColumnElement[bool]] = [sa.func.trim(Interaction.completion) != ""]
    if only_missing:
        known = sa.exists().where(
            InteractionReward.interaction_id == Interaction.id,
            InteractionReward.model_version_id == version_id,
        )
        conditions.append(~known)
    return conditions
