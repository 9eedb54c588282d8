"""Kinds by version, whole examinations, and what each version says of stored interactions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Migrate up."""
    _move_kind("models", "model_versions", "models.id = model_versions.model_id")
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.add_column(sa.Column("details", JSON, nullable=True))
        batch_op.add_column(sa.Column("created_by", sa.Uuid(), nullable=True))
        batch_op.create_foreign_key(
            op.f("fk_evaluations_created_by"),
            "accounts",
            ["created_by"],
            ["id"],
            ondelete="SET NULL",
        )
        batch_op.create_index(batch_op.f("ix_evaluations_created_by"), ["created_by"])
    op.create_table(
        "interaction_rewards",
        sa.Column("interaction_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("reward", sa.Double(), nullable=False),
        sa.Column("scored_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["interaction_id"],
            ["interactions.id"],
            name=op.f("fk_interaction_rewards_interaction_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.id"],
            name=op.f("fk_interaction_rewards_model_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "interaction_id", "model_version_id", name=op.f("pk_interaction_rewards")
        ),
    )
    with op.batch_alter_table("interaction_rewards", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_interaction_rewards_model_version_id"), ["model_version_id"]
        )
    # Nothing ever wrote these two: the rewards of all versions lie in the new table.
    with op.batch_alter_table("interactions", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("fk_interactions_reward_version_id"), type_="foreignkey")
        batch_op.drop_column("reward_version_id")
        batch_op.drop_column("reward")


def downgrade() -> None:
    """Migrate down; a model that has no version keeps no kind, so it goes."""
    with op.batch_alter_table("interactions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("reward", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("reward_version_id", sa.Uuid(), nullable=True))
        batch_op.create_foreign_key(
            op.f("fk_interactions_reward_version_id"),
            "model_versions",
            ["reward_version_id"],
            ["id"],
            ondelete="SET NULL",
        )
    op.drop_table("interaction_rewards")
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_evaluations_created_by"))
        batch_op.drop_constraint(op.f("fk_evaluations_created_by"), type_="foreignkey")
        batch_op.drop_column("created_by")
        batch_op.drop_column("details")
    op.execute("DELETE FROM models WHERE id NOT IN (SELECT model_id FROM model_versions)")
    _move_kind("model_versions", "models", "model_versions.model_id = models.id")


def _move_kind(source: str, target: str, condition: str) -> None:
    """Move the column `kind`; of several versions of a model the first one's counts."""
    first = "ORDER BY number LIMIT 1" if source == "model_versions" else ""
    with op.batch_alter_table(target, schema=None) as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(length=32), nullable=True))
    op.execute(
        f"UPDATE {target} SET kind = (SELECT kind FROM {source} WHERE {condition} {first})"  # noqa: S608 - names of our own
    )
    with op.batch_alter_table(target, schema=None) as batch_op:
        batch_op.alter_column("kind", existing_type=sa.String(length=32), nullable=False)
    with op.batch_alter_table(source, schema=None) as batch_op:
        batch_op.drop_column("kind")
