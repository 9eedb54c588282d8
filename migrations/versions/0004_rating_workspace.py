"""Queues of comparisons, texts typed and not yet sent, bulk ratings, the history of comparisons."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
ONE = sa.text("other_interaction_id IS NULL")
PAIR = sa.text("other_interaction_id IS NOT NULL")


def upgrade() -> None:
    """Migrate up."""
    with op.batch_alter_table("rating_queues", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("subject", sa.String(length=32), nullable=False, server_default="completions")
        )
    op.execute("UPDATE rating_queues SET subject = 'steps' WHERE filters IS NOT NULL")
    op.execute("UPDATE rating_queues SET filters = NULL")
    with op.batch_alter_table("rating_queue_items", schema=None) as batch_op:
        batch_op.add_column(sa.Column("other_interaction_id", sa.Uuid(), nullable=True))
        batch_op.create_foreign_key(
            op.f("fk_rating_queue_items_other_interaction_id"),
            "interactions",
            ["other_interaction_id"],
            ["id"],
            ondelete="CASCADE",
        )
        batch_op.drop_constraint(
            op.f("uq_rating_queue_items_queue_id_interaction_id_kind"), type_="unique"
        )
        batch_op.create_index(
            batch_op.f("ix_rating_queue_items_other_interaction_id"), ["other_interaction_id"]
        )
    op.create_index(
        "uq_rating_queue_items_one",
        "rating_queue_items",
        ["queue_id", "interaction_id", "kind"],
        unique=True,
        sqlite_where=ONE,
        postgresql_where=ONE,
    )
    op.create_index(
        "uq_rating_queue_items_pair",
        "rating_queue_items",
        ["queue_id", "interaction_id", "other_interaction_id", "kind"],
        unique=True,
        sqlite_where=PAIR,
        postgresql_where=PAIR,
    )
    op.create_table(
        "unsent_texts",
        sa.Column("rater_id", sa.Uuid(), nullable=False),
        sa.Column("interaction_id", sa.Uuid(), nullable=False),
        sa.Column("field", sa.String(length=32), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["interaction_id"],
            ["interactions.id"],
            name=op.f("fk_unsent_texts_interaction_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["rater_id"], ["raters.id"], name=op.f("fk_unsent_texts_rater_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "rater_id", "interaction_id", "field", name=op.f("pk_unsent_texts")
        ),
    )
    op.create_index(op.f("ix_unsent_texts_interaction_id"), "unsent_texts", ["interaction_id"])
    for table in ("feedback", "feedback_revisions"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("bulk_id", sa.Uuid(), nullable=True))
    with op.batch_alter_table("comparisons", schema=None) as batch_op:
        batch_op.add_column(sa.Column("revision", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "comparison_revisions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("comparison_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("before", JSON, nullable=False),
        sa.Column("changed_by", sa.Uuid(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("undoes", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["changed_by"],
            ["accounts.id"],
            name=op.f("fk_comparison_revisions_changed_by"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["comparison_id"],
            ["comparisons.id"],
            name=op.f("fk_comparison_revisions_comparison_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparison_revisions")),
        sa.UniqueConstraint(
            "comparison_id",
            "revision",
            name=op.f("uq_comparison_revisions_comparison_id_revision"),
        ),
    )
    op.create_index(
        op.f("ix_comparison_revisions_changed_by"), "comparison_revisions", ["changed_by"]
    )


def downgrade() -> None:
    """Migrate down. Below, a queue holds no pairs and a comparison has no history."""
    op.drop_table("comparison_revisions")
    with op.batch_alter_table("comparisons", schema=None) as batch_op:
        batch_op.drop_column("revision")
    for table in ("feedback_revisions", "feedback"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column("bulk_id")
    op.drop_table("unsent_texts")
    _delete_queues_of_pairs()
    op.drop_index("uq_rating_queue_items_pair", table_name="rating_queue_items")
    op.drop_index("uq_rating_queue_items_one", table_name="rating_queue_items")
    with op.batch_alter_table("rating_queue_items", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rating_queue_items_other_interaction_id"))
        batch_op.drop_constraint(
            op.f("fk_rating_queue_items_other_interaction_id"), type_="foreignkey"
        )
        batch_op.drop_column("other_interaction_id")
        batch_op.create_unique_constraint(
            op.f("uq_rating_queue_items_queue_id_interaction_id_kind"),
            ["queue_id", "interaction_id", "kind"],
        )
    op.execute("UPDATE rating_queues SET filters = NULL")
    op.execute(
        """UPDATE rating_queues SET filters = '{"about": "steps"}' WHERE subject = 'steps'"""
    )
    with op.batch_alter_table("rating_queues", schema=None) as batch_op:
        batch_op.drop_column("subject")


def _delete_queues_of_pairs() -> None:
    """With all that names them: while a migration runs, SQLite follows no foreign key."""
    queues = "SELECT id FROM rating_queues WHERE subject = 'comparisons'"
    items = f"SELECT id FROM rating_queue_items WHERE queue_id IN ({queues})"  # noqa: S608
    for table in ("feedback", "comparisons", "adjudications"):
        op.execute(f"UPDATE {table} SET queue_id = NULL WHERE queue_id IN ({queues})")  # noqa: S608
    op.execute(f"DELETE FROM rating_assignments WHERE queue_item_id IN ({items})")  # noqa: S608
    op.execute(f"DELETE FROM rating_queue_items WHERE queue_id IN ({queues})")  # noqa: S608
    op.execute(f"DELETE FROM rating_queue_members WHERE queue_id IN ({queues})")  # noqa: S608
    op.execute("DELETE FROM rating_queues WHERE subject = 'comparisons'")
