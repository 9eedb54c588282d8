"""Rollups an hour, a rater, an aspect, of failures; clusters of failures; messages of alerts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
KIND = sa.Enum(
    "sme",
    "end_user",
    "model",
    name="raterkind",
    native_enum=False,
    create_constraint=True,
    length=32,
)
DECISION = sa.Enum(
    "resolved",
    "excluded",
    name="adjudicationdecision",
    native_enum=False,
    create_constraint=True,
    length=32,
)
CHOICE = sa.Enum(
    "left",
    "right",
    "tie",
    "both_bad",
    name="choice",
    native_enum=False,
    create_constraint=True,
    length=32,
)
PAIR_REFERENCES = (
    ("first_interaction_id", "interactions", "CASCADE"),
    ("second_interaction_id", "interactions", "CASCADE"),
    ("adjudicator_id", "accounts", "SET NULL"),
)


def upgrade() -> None:
    """Migrate up. No release before this one made counts: the days of all rows are marked."""
    op.create_table(
        "aspect_rollups",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("rater_kind", KIND, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("num_rating_1", sa.Integer(), nullable=False),
        sa.Column("num_rating_2", sa.Integer(), nullable=False),
        sa.Column("num_rating_3", sa.Integer(), nullable=False),
        sa.Column("num_rating_4", sa.Integer(), nullable=False),
        sa.Column("num_rating_5", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint(
            "day",
            "rater_kind",
            "name",
            "source",
            "action_type",
            "model_name",
            name=op.f("pk_aspect_rollups"),
        ),
    )
    op.create_table(
        "bad_exchange_rollups",
        sa.Column("pattern_hash", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.Column("rater_kind", KIND, nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=False),
        sa.Column("interaction_id", sa.Uuid(), nullable=False),
        sa.Column("num_bad", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "pattern_hash",
            "day",
            "source",
            "model_name",
            "rater_kind",
            name=op.f("pk_bad_exchange_rollups"),
        ),
    )
    with op.batch_alter_table("bad_exchange_rollups", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_bad_exchange_rollups_day"), ["day"], unique=False)
    op.create_table(
        "bad_exchanges",
        sa.Column("pattern_hash", sa.String(length=32), nullable=False),
        sa.Column("num_bad", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("pattern_hash", name=op.f("pk_bad_exchanges")),
    )
    with op.batch_alter_table("bad_exchanges", schema=None) as batch_op:
        batch_op.create_index(
            "ix_bad_exchanges_frequent",
            ["num_bad"],
            unique=False,
            sqlite_where=sa.text("num_bad > 2"),
            postgresql_where=sa.text("num_bad > 2"),
        )
    op.create_table(
        "feedback_hour_rollups",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("hour", sa.SmallInteger(), nullable=False),
        sa.Column("rater_kind", KIND, nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.Column("num_feedback", sa.Integer(), nullable=False),
        sa.Column("num_thumbs_up", sa.Integer(), nullable=False),
        sa.Column("num_thumbs_neutral", sa.Integer(), nullable=False),
        sa.Column("num_thumbs_down", sa.Integer(), nullable=False),
        sa.Column("num_rating_1", sa.Integer(), nullable=False),
        sa.Column("num_rating_2", sa.Integer(), nullable=False),
        sa.Column("num_rating_3", sa.Integer(), nullable=False),
        sa.Column("num_rating_4", sa.Integer(), nullable=False),
        sa.Column("num_rating_5", sa.Integer(), nullable=False),
        sa.Column("num_good", sa.Integer(), nullable=False),
        sa.Column("num_neutral", sa.Integer(), nullable=False),
        sa.Column("num_bad", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day",
            "hour",
            "rater_kind",
            "source",
            "action_type",
            "model_name",
            name=op.f("pk_feedback_hour_rollups"),
        ),
    )
    op.create_table(
        "user_sessions",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("user_pseudonym", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("num_interactions", sa.Integer(), nullable=False),
        sa.Column("num_events", sa.Integer(), nullable=False),
        sa.Column("num_feedback", sa.Integer(), nullable=False),
        sa.Column("num_good", sa.Integer(), nullable=False),
        sa.Column("num_neutral", sa.Integer(), nullable=False),
        sa.Column("num_bad", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "bucket", "user_pseudonym", "source", "number", name=op.f("pk_user_sessions")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session_rollups",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("num_sessions", sa.Integer(), nullable=False),
        sa.Column("num_with_feedback", sa.Integer(), nullable=False),
        sa.Column("num_interactions", sa.Integer(), nullable=False),
        sa.Column("sum_duration_s", sa.Double(), nullable=False),
        sa.Column("num_single", sa.Integer(), nullable=False),
        sa.Column("num_under_60", sa.Integer(), nullable=False),
        sa.Column("num_under_300", sa.Integer(), nullable=False),
        sa.Column("num_under_900", sa.Integer(), nullable=False),
        sa.Column("num_under_1800", sa.Integer(), nullable=False),
        sa.Column("num_under_3600", sa.Integer(), nullable=False),
        sa.Column("num_longer", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "source", "action_type", "model_name", name=op.f("pk_session_rollups")
        ),
    )
    op.create_table(
        "session_path_rollups",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("num_sessions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day", "source", "number", name=op.f("pk_session_path_rollups")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_occurred_at"), ["occurred_at"], unique=False)
    op.create_index(
        "ix_feedback_step_time",
        "feedback",
        ["occurred_at"],
        unique=False,
        sqlite_where=sa.text("step_id IS NOT NULL"),
        postgresql_where=sa.text("step_id IS NOT NULL"),
    )
    op.create_table(
        "rater_rollups",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("rater_kind", KIND, nullable=False),
        sa.Column("rater_id", sa.Uuid(), nullable=False),
        sa.Column("num_feedback", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint(
            "day",
            "rater_kind",
            "rater_id",
            "source",
            "action_type",
            "model_name",
            name=op.f("pk_rater_rollups"),
        ),
    )
    op.create_table(
        "rater_day_rollups",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("rater_kind", KIND, nullable=False),
        sa.Column("rater_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("num_feedback", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "rater_kind", "rater_id", "source", name=op.f("pk_rater_day_rollups")
        ),
    )
    op.create_table(
        "step_answer_rollups",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("first_wrong", sa.Integer(), nullable=False),
        sa.Column("num_answers", sa.Integer(), nullable=False),
        sa.Column("num_good", sa.Integer(), nullable=False),
        sa.Column("num_bad", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint(
            "day",
            "first_wrong",
            "source",
            "action_type",
            "model_name",
            name=op.f("pk_step_answer_rollups"),
        ),
    )
    op.create_table(
        "failure_clusterings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("params", JSON, nullable=False),
        sa.Column("num_items", sa.Integer(), nullable=False),
        sa.Column("num_outliers", sa.Integer(), nullable=False),
        sa.Column("stability", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_failure_clusterings_job_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_failure_clusterings")),
    )
    with op.batch_alter_table("failure_clusterings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_failure_clusterings_job_id"), ["job_id"], unique=False)
    op.create_table(
        "alert_deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("alert_id", sa.Uuid(), nullable=True),
        sa.Column("channel", sa.String(length=32), nullable=False),
        sa.Column("target", sa.String(length=500), nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.Column("num_attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.String(length=500), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["alert_id"],
            ["alerts.id"],
            name=op.f("fk_alert_deliveries_alert_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_deliveries")),
    )
    with op.batch_alter_table("alert_deliveries", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_alert_deliveries_alert_id"), ["alert_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_alert_deliveries_next_attempt_at"), ["next_attempt_at"], unique=False
        )
    op.create_table(
        "failure_clusters",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("clustering_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("words", JSON, nullable=False),
        sa.Column("figures", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["clustering_id"],
            ["failure_clusterings.id"],
            name=op.f("fk_failure_clusters_clustering_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_failure_clusters")),
        sa.UniqueConstraint(
            "clustering_id", "number", name=op.f("uq_failure_clusters_clustering_id_number")
        ),
    )
    op.create_table(
        "failure_cluster_members",
        sa.Column("cluster_id", sa.Uuid(), nullable=False),
        sa.Column("interaction_id", sa.Uuid(), nullable=False),
        sa.Column("distance", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_id"],
            ["failure_clusters.id"],
            name=op.f("fk_failure_cluster_members_cluster_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["interaction_id"],
            ["interactions.id"],
            name=op.f("fk_failure_cluster_members_interaction_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "cluster_id", "interaction_id", name=op.f("pk_failure_cluster_members")
        ),
    )
    with op.batch_alter_table("failure_cluster_members", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_failure_cluster_members_interaction_id"),
            ["interaction_id"],
            unique=False,
        )
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("resolved_by", sa.Uuid(), nullable=True))
        batch_op.add_column(sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.create_index(batch_op.f("ix_alerts_resolved_by"), ["resolved_by"], unique=False)
        batch_op.create_foreign_key(
            batch_op.f("fk_alerts_resolved_by"),
            "accounts",
            ["resolved_by"],
            ["id"],
            ondelete="SET NULL",
        )
    op.execute("DELETE FROM feedback_rollups")
    with op.batch_alter_table("feedback_rollups", schema=None) as batch_op:
        batch_op.add_column(sa.Column("num_good", sa.Integer(), nullable=False))
        batch_op.add_column(sa.Column("num_neutral", sa.Integer(), nullable=False))
        batch_op.add_column(sa.Column("num_bad", sa.Integer(), nullable=False))
    op.drop_table("step_rollups")
    op.create_table(
        "step_rollups",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=100), nullable=False),
        sa.Column("rater_kind", KIND, nullable=False),
        sa.Column("num_good", sa.Integer(), nullable=False),
        sa.Column("num_neutral", sa.Integer(), nullable=False),
        sa.Column("num_wrong", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint(
            "day",
            "position",
            "kind",
            "rater_kind",
            "source",
            "action_type",
            "model_name",
            name=op.f("pk_step_rollups"),
        ),
    )
    _create_pair_adjudications()
    _mark_all_days()


def downgrade() -> None:
    """Migrate down."""
    _drop_pair_adjudications()
    op.drop_table("step_rollups")
    op.create_table(
        "step_rollups",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("num_good", sa.Integer(), nullable=False),
        sa.Column("num_neutral", sa.Integer(), nullable=False),
        sa.Column("num_wrong", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "source", "action_type", "model_name", "position", name=op.f("pk_step_rollups")
        ),
    )
    with op.batch_alter_table("feedback_rollups", schema=None) as batch_op:
        batch_op.drop_column("num_bad")
        batch_op.drop_column("num_neutral")
        batch_op.drop_column("num_good")
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_alerts_resolved_by"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_alerts_resolved_by"))
        batch_op.drop_column("ended_at")
        batch_op.drop_column("resolved_by")
    with op.batch_alter_table("failure_cluster_members", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_failure_cluster_members_interaction_id"))
    op.drop_table("failure_cluster_members")
    op.drop_table("failure_clusters")
    with op.batch_alter_table("alert_deliveries", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_alert_deliveries_next_attempt_at"))
        batch_op.drop_index(batch_op.f("ix_alert_deliveries_alert_id"))
    op.drop_table("alert_deliveries")
    with op.batch_alter_table("failure_clusterings", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_failure_clusterings_job_id"))
    op.drop_table("failure_clusterings")
    op.drop_table("step_answer_rollups")
    op.drop_table("rater_day_rollups")
    op.drop_table("rater_rollups")
    op.drop_index("ix_feedback_step_time", table_name="feedback")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_events_occurred_at"))
    op.drop_table("session_path_rollups")
    op.drop_table("session_rollups")
    op.drop_table("user_sessions")
    op.drop_table("feedback_hour_rollups")
    with op.batch_alter_table("bad_exchanges", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_bad_exchanges_frequent",
            sqlite_where=sa.text("num_bad > 2"),
            postgresql_where=sa.text("num_bad > 2"),
        )
    op.drop_table("bad_exchanges")
    with op.batch_alter_table("bad_exchange_rollups", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_bad_exchange_rollups_day"))
    op.drop_table("bad_exchange_rollups")
    op.drop_table("aspect_rollups")


def _mark_all_days() -> None:
    if op.get_bind().dialect.name == "sqlite":
        day, now = "substr(occurred_at, 1, 10)", "strftime('%Y-%m-%d %H:%M:%S.000000', 'now')"
    else:
        day, now = "CAST(occurred_at AT TIME ZONE 'UTC' AS date)", "now()"
    for table in ("interactions", "feedback", "events"):
        op.execute(
            f"INSERT INTO rollup_dirty_days (day, marked_at) "  # noqa: S608
            f"SELECT DISTINCT {day}, {now} FROM {table} WHERE true ON CONFLICT DO NOTHING"
        )


def _create_pair_adjudications() -> None:
    op.create_table(
        "pair_adjudications",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("first_interaction_id", sa.Uuid(), nullable=False),
        sa.Column("second_interaction_id", sa.Uuid(), nullable=False),
        sa.Column("adjudicator_id", sa.Uuid(), nullable=True),
        sa.Column("decision", DECISION, nullable=False),
        sa.Column("choice", CHOICE, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True),
        *(
            sa.ForeignKeyConstraint(
                [column],
                [f"{table}.id"],
                name=op.f(f"fk_pair_adjudications_{column}"),
                ondelete=ondelete,
            )
            for column, table, ondelete in PAIR_REFERENCES
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pair_adjudications")),
    )
    for column, _, _ in PAIR_REFERENCES:
        op.create_index(op.f(f"ix_pair_adjudications_{column}"), "pair_adjudications", [column])


def _drop_pair_adjudications() -> None:
    op.drop_table("pair_adjudications")
