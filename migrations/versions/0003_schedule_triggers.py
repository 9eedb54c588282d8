"""What starts a schedule beside its cron, from when on it counts, and the job it started last."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Migrate up. No release before this one could write a schedule."""
    op.execute("DELETE FROM schedules")
    with op.batch_alter_table("schedules", schema=None) as batch_op:
        batch_op.add_column(sa.Column("trigger", sa.String(length=32), nullable=False))
        batch_op.add_column(sa.Column("effective_at", sa.DateTime(timezone=True), nullable=False))
        batch_op.add_column(sa.Column("last_job_id", sa.Uuid(), nullable=True))
        batch_op.create_foreign_key(
            op.f("fk_schedules_last_job_id"), "jobs", ["last_job_id"], ["id"], ondelete="SET NULL"
        )
        batch_op.create_index(batch_op.f("ix_schedules_last_job_id"), ["last_job_id"])


def downgrade() -> None:
    """Migrate down. The schema below knows no other trigger than cron."""
    op.execute("DELETE FROM schedules WHERE trigger <> 'cron'")
    with op.batch_alter_table("schedules", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_schedules_last_job_id"))
        batch_op.drop_constraint(op.f("fk_schedules_last_job_id"), type_="foreignkey")
        batch_op.drop_column("last_job_id")
        batch_op.drop_column("effective_at")
        batch_op.drop_column("trigger")
