"""Gates, vetoes, comparisons of versions; canaries with their plan; what was served in an arm."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Migrate up."""
    op.create_table(
        "gate_rules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("params", JSON, nullable=False),
        sa.Column("is_required", sa.Boolean(), nullable=False),
        sa.Column("is_on", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["accounts.id"],
            name=op.f("fk_gate_rules_created_by"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_gate_rules_model_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_rules")),
        sa.UniqueConstraint("model_id", "kind", name=op.f("uq_gate_rules_model_id_kind")),
    )
    with op.batch_alter_table("gate_rules", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_gate_rules_created_by"), ["created_by"], unique=False)

    op.create_table(
        "version_comparisons",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("queue_id", sa.Uuid(), nullable=True),
        sa.Column("split", sa.String(length=32), nullable=False),
        sa.Column("num_rows", sa.Integer(), nullable=False),
        sa.Column("version_ids", JSON, nullable=False),
        sa.Column("result", JSON, nullable=False),
        sa.Column("artifact_path", sa.String(length=500), nullable=True),
        sa.Column("manifest_sha256", sa.String(length=64), nullable=True),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["accounts.id"],
            name=op.f("fk_version_comparisons_created_by"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"],
            ["dataset_versions.id"],
            name=op.f("fk_version_comparisons_dataset_version_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_version_comparisons_job_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["models.id"],
            name=op.f("fk_version_comparisons_model_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["queue_id"],
            ["rating_queues.id"],
            name=op.f("fk_version_comparisons_queue_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_version_comparisons")),
    )
    with op.batch_alter_table("version_comparisons", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_version_comparisons_created_by"), ["created_by"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_version_comparisons_dataset_version_id"),
            ["dataset_version_id"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_version_comparisons_job_id"), ["job_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_version_comparisons_model_id"), ["model_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_version_comparisons_queue_id"), ["queue_id"], unique=False
        )

    op.create_table(
        "version_vetoes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name=op.f("fk_version_vetoes_account_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["model_versions.id"],
            name=op.f("fk_version_vetoes_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_version_vetoes")),
    )
    with op.batch_alter_table("version_vetoes", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_version_vetoes_account_id"), ["account_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_version_vetoes_version_id"), ["version_id"], unique=False
        )

    for column in (
        sa.Column("kind", sa.String(length=32), server_default="canary", nullable=False),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.Column("control_prompt", sa.Text(), nullable=True),
        sa.Column("treatment_prompt", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("deployments", column)
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.add_column(sa.Column("ended_by", sa.Uuid(), nullable=True))
        batch_op.create_index(batch_op.f("ix_deployments_ended_by"), ["ended_by"], unique=False)
        batch_op.create_foreign_key(
            batch_op.f("fk_deployments_ended_by"),
            "accounts",
            ["ended_by"],
            ["id"],
            ondelete="SET NULL",
        )

    op.add_column(
        "served_log",
        sa.Column("is_error", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    for column in (
        sa.Column("details", JSON, nullable=True),
        sa.Column("chosen_index", sa.Integer(), nullable=True),
        sa.Column("chosen_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("served_log", column)
    op.drop_index("ix_served_log_deployment_id", "served_log")
    op.create_index("ix_served_log_deployment_time", "served_log", ["deployment_id", "served_at"])


def downgrade() -> None:
    """Migrate down."""

    with op.batch_alter_table("served_log", schema=None) as batch_op:
        batch_op.drop_index("ix_served_log_deployment_time")
        batch_op.create_index(
            batch_op.f("ix_served_log_deployment_id"), ["deployment_id"], unique=False
        )
        batch_op.drop_column("chosen_at")
        batch_op.drop_column("chosen_index")
        batch_op.drop_column("details")
        batch_op.drop_column("is_error")

    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_deployments_ended_by"))
        batch_op.drop_column("checked_at")
        batch_op.drop_column("ended_by")
        batch_op.drop_column("end_reason")
        batch_op.drop_column("reason")
        batch_op.drop_column("treatment_prompt")
        batch_op.drop_column("control_prompt")
        batch_op.drop_column("revision")
        batch_op.drop_column("kind")

    with op.batch_alter_table("version_vetoes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_version_vetoes_version_id"))
        batch_op.drop_index(batch_op.f("ix_version_vetoes_account_id"))

    op.drop_table("version_vetoes")
    with op.batch_alter_table("version_comparisons", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_version_comparisons_queue_id"))
        batch_op.drop_index(batch_op.f("ix_version_comparisons_model_id"))
        batch_op.drop_index(batch_op.f("ix_version_comparisons_job_id"))
        batch_op.drop_index(batch_op.f("ix_version_comparisons_dataset_version_id"))
        batch_op.drop_index(batch_op.f("ix_version_comparisons_created_by"))

    op.drop_table("version_comparisons")
    with op.batch_alter_table("gate_rules", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_gate_rules_created_by"))

    op.drop_table("gate_rules")
