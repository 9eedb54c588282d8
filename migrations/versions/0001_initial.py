"""Create all tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Migrate up."""
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column(
            "role",
            sa.Enum(
                "rater",
                "analyst",
                "trainer",
                "admin",
                name="role",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("password_hash", sa.String(length=300), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("name", name=op.f("uq_accounts_name")),
    )
    op.create_table(
        "consents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("pseudonym", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "granted",
                "withdrawn",
                name="consentstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("is_demo", sa.Boolean(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consents")),
    )
    with op.batch_alter_table("consents", schema=None) as batch_op:
        batch_op.create_index(
            "ix_consents_person", ["pseudonym", "purpose", "recorded_at"], unique=False
        )

    op.create_table(
        "feedback_rollups",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.Column(
            "rater_kind",
            sa.Enum(
                "sme",
                "end_user",
                "model",
                name="raterkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("num_feedback", sa.Integer(), nullable=False),
        sa.Column("num_thumbs_up", sa.Integer(), nullable=False),
        sa.Column("num_thumbs_neutral", sa.Integer(), nullable=False),
        sa.Column("num_thumbs_down", sa.Integer(), nullable=False),
        sa.Column("num_rating_1", sa.Integer(), nullable=False),
        sa.Column("num_rating_2", sa.Integer(), nullable=False),
        sa.Column("num_rating_3", sa.Integer(), nullable=False),
        sa.Column("num_rating_4", sa.Integer(), nullable=False),
        sa.Column("num_rating_5", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day",
            "source",
            "action_type",
            "model_name",
            "rater_kind",
            name=op.f("pk_feedback_rollups"),
        ),
    )
    op.create_table(
        "interaction_rollups",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.Column("num_interactions", sa.Integer(), nullable=False),
        sa.Column("num_with_feedback", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "source", "action_type", "model_name", name=op.f("pk_interaction_rollups")
        ),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("reward_sbert", name="modelkind", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("is_demo", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("name", name=op.f("uq_models_name")),
    )
    op.create_table(
        "rollup_dirty_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("marked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_rollup_dirty_days")),
    )
    op.create_table(
        "step_rollups",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("num_good", sa.Integer(), nullable=False),
        sa.Column("num_neutral", sa.Integer(), nullable=False),
        sa.Column("num_wrong", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "source", "action_type", "model_name", "position", name=op.f("pk_step_rollups")
        ),
    )
    op.create_table(
        "store_facts",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_store_facts")),
    )
    op.create_table(
        "workers",
        sa.Column("executor_id", sa.String(length=200), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("resources", JSON, nullable=False),
        sa.Column("devices", JSON, nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("executor_id", name=op.f("pk_workers")),
    )
    op.create_table(
        "alert_rules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("params", JSON, nullable=False),
        sa.Column("channels", JSON, nullable=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["accounts.id"],
            name=op.f("fk_alert_rules_created_by"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_rules")),
        sa.UniqueConstraint("name", name=op.f("uq_alert_rules_name")),
    )
    with op.batch_alter_table("alert_rules", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_alert_rules_created_by"), ["created_by"], unique=False)

    op.create_table(
        "audit_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("target_kind", sa.String(length=64), nullable=True),
        sa.Column("target_id", sa.String(length=200), nullable=True),
        sa.Column("details", JSON, nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name=op.f("fk_audit_events_account_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    with op.batch_alter_table("audit_events", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_audit_events_account_id"), ["account_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_audit_events_at"), ["at"], unique=False)
        batch_op.create_index("ix_audit_events_target", ["target_kind", "target_id"], unique=False)

    op.create_table(
        "datasets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column(
            "purpose",
            sa.Enum(
                "scores",
                "preferences",
                "unpaired",
                "prompts",
                "steps",
                "sft",
                name="datasetpurpose",
                native_enum=False,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("is_demo", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["accounts.id"],
            name=op.f("fk_datasets_created_by"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("name", name=op.f("uq_datasets_name")),
    )
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_datasets_created_by"), ["created_by"], unique=False)

    op.create_table(
        "erasures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("pseudonym", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("receipt", JSON, nullable=True),
        sa.Column("requested_by", sa.Uuid(), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["requested_by"],
            ["accounts.id"],
            name=op.f("fk_erasures_requested_by"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
    )
    with op.batch_alter_table("erasures", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_erasures_pseudonym"), ["pseudonym"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_erasures_requested_by"), ["requested_by"], unique=False
        )

    op.create_table(
        "idempotency_keys",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=False),
        sa.Column("response", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name=op.f("fk_idempotency_keys_account_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("account_id", "key", name=op.f("pk_idempotency_keys")),
    )
    with op.batch_alter_table("idempotency_keys", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_idempotency_keys_created_at"), ["created_at"], unique=False
        )

    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("train_sbert", "import", name="jobkind", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "running",
                "succeeded",
                "failed",
                "canceled",
                name="jobstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "resource",
            sa.Enum(
                "cpu", "gpu", name="resource", native_enum=False, create_constraint=True, length=32
            ),
            nullable=False,
        ),
        sa.Column("params", JSON, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("dedup_key", sa.String(length=200), nullable=True),
        sa.Column("workflow_id", sa.String(length=100), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("executor_id", sa.String(length=200), nullable=True),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("result", JSON, nullable=True),
        sa.Column("parent_job_id", sa.Uuid(), nullable=True),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("progress BETWEEN 0 AND 1", name=op.f("ck_jobs_progress_range")),
        sa.ForeignKeyConstraint(
            ["created_by"], ["accounts.id"], name=op.f("fk_jobs_created_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["parent_job_id"], ["jobs.id"], name=op.f("fk_jobs_parent_job_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_jobs_created_by"), ["created_by"], unique=False)
        batch_op.create_index(batch_op.f("ix_jobs_parent_job_id"), ["parent_job_id"], unique=False)
        batch_op.create_index("ix_jobs_state_time", ["state", "created_at"], unique=False)
        batch_op.create_index(
            "uq_jobs_dedup_key",
            ["dedup_key"],
            unique=True,
            sqlite_where=sa.text("state IN ('queued', 'running')"),
            postgresql_where=sa.text("state IN ('queued', 'running')"),
        )

    op.create_table(
        "raters",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("pseudonym", sa.String(length=64), nullable=False),
        sa.Column(
            "rater_kind",
            sa.Enum(
                "sme",
                "end_user",
                "model",
                name="raterkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("is_demo", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_raters_account_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_raters")),
        sa.UniqueConstraint("account_id", name=op.f("uq_raters_account_id")),
        sa.UniqueConstraint("pseudonym", name=op.f("uq_raters_pseudonym")),
    )
    op.create_table(
        "rating_queues",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("instructions", sa.Text(), nullable=True),
        sa.Column("filters", JSON, nullable=True),
        sa.Column("aspects", JSON, nullable=True),
        sa.Column(
            "order",
            sa.Enum(
                "oldest_first",
                "informative",
                name="queueorder",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("overlap", sa.Integer(), nullable=False),
        sa.Column("gold_rate", sa.Double(), nullable=False),
        sa.Column("repeat_rate", sa.Double(), nullable=False),
        sa.Column("is_blind", sa.Boolean(), nullable=False),
        sa.Column("lease_s", sa.Integer(), nullable=False),
        sa.Column("is_demo", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("gold_rate BETWEEN 0 AND 1", name=op.f("ck_rating_queues_gold_range")),
        sa.CheckConstraint("overlap >= 1", name=op.f("ck_rating_queues_overlap_range")),
        sa.CheckConstraint(
            "repeat_rate BETWEEN 0 AND 1", name=op.f("ck_rating_queues_repeat_range")
        ),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["accounts.id"],
            name=op.f("fk_rating_queues_created_by"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rating_queues")),
        sa.UniqueConstraint("name", name=op.f("uq_rating_queues_name")),
    )
    with op.batch_alter_table("rating_queues", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_rating_queues_created_by"), ["created_by"], unique=False
        )

    op.create_table(
        "schedules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("cron", sa.String(length=100), nullable=False),
        sa.Column(
            "job_kind",
            sa.Enum("train_sbert", "import", name="jobkind", native_enum=False, length=32),
            nullable=False,
        ),
        sa.Column("params", JSON, nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_outcome", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["accounts.id"],
            name=op.f("fk_schedules_created_by"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("name", name=op.f("uq_schedules_name")),
    )
    with op.batch_alter_table("schedules", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_schedules_created_by"), ["created_by"], unique=False)

    op.create_table(
        "tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "api",
                "session",
                "sign_in_link",
                name="tokenkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_tokens_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_tokens_token_hash")),
    )
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tokens_account_id"), ["account_id"], unique=False)

    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("rule_id", sa.Uuid(), nullable=False),
        sa.Column("slice_key", sa.String(length=200), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "open",
                "acknowledged",
                "resolved",
                name="alertstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("details", JSON, nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("acknowledged_by", sa.Uuid(), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["acknowledged_by"],
            ["accounts.id"],
            name=op.f("fk_alerts_acknowledged_by"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["alert_rules.id"], name=op.f("fk_alerts_rule_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
    )
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_alerts_acknowledged_by"), ["acknowledged_by"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_alerts_opened_at"), ["opened_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_alerts_rule_id"), ["rule_id"], unique=False)
        batch_op.create_index(
            "uq_alerts_unresolved",
            ["rule_id", "slice_key"],
            unique=True,
            sqlite_where=sa.text("state <> 'resolved'"),
            postgresql_where=sa.text("state <> 'resolved'"),
        )

    op.create_table(
        "dataset_versions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("artifact_path", sa.String(length=500), nullable=False),
        sa.Column("params", JSON, nullable=False),
        sa.Column("num_rows", sa.Integer(), nullable=False),
        sa.Column("num_groups", sa.Integer(), nullable=False),
        sa.Column("left_out", JSON, nullable=False),
        sa.Column("card", JSON, nullable=True),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["accounts.id"],
            name=op.f("fk_dataset_versions_created_by"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_dataset_versions_dataset_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_versions")),
        sa.UniqueConstraint(
            "dataset_id", "content_hash", name=op.f("uq_dataset_versions_dataset_id_content_hash")
        ),
        sa.UniqueConstraint(
            "dataset_id", "number", name=op.f("uq_dataset_versions_dataset_id_number")
        ),
    )
    with op.batch_alter_table("dataset_versions", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_dataset_versions_content_hash"), ["content_hash"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_dataset_versions_created_by"), ["created_by"], unique=False
        )

    op.create_table(
        "job_log_lines",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("logged_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_log_lines_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "attempt", "number", name=op.f("pk_job_log_lines")),
    )
    op.create_table(
        "job_metrics",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_metrics_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "name", "step", name=op.f("pk_job_metrics")),
    )
    op.create_table(
        "job_samples",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("completion", sa.Text(), nullable=False),
        sa.Column("reference_completion", sa.Text(), nullable=True),
        sa.Column("reward", sa.Double(), nullable=True),
        sa.Column("details", JSON, nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_samples_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_samples")),
    )
    with op.batch_alter_table("job_samples", schema=None) as batch_op:
        batch_op.create_index("ix_job_samples_step", ["job_id", "step"], unique=False)

    op.create_table(
        "rating_queue_members",
        sa.Column("queue_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name=op.f("fk_rating_queue_members_account_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["queue_id"],
            ["rating_queues.id"],
            name=op.f("fk_rating_queue_members_queue_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("queue_id", "account_id", name=op.f("pk_rating_queue_members")),
    )
    with op.batch_alter_table("rating_queue_members", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_rating_queue_members_account_id"), ["account_id"], unique=False
        )

    op.create_table(
        "model_versions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=True),
        sa.Column("dataset_hash", sa.String(length=64), nullable=True),
        sa.Column("artifact_path", sa.String(length=500), nullable=False),
        sa.Column("manifest_sha256", sa.String(length=64), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.Column("params", JSON, nullable=False),
        sa.Column("metrics", JSON, nullable=False),
        sa.Column("details", JSON, nullable=True),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("library_versions", JSON, nullable=False),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("tags", JSON, nullable=True),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["accounts.id"],
            name=op.f("fk_model_versions_created_by"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"],
            ["dataset_versions.id"],
            name=op.f("fk_model_versions_dataset_version_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_model_versions_job_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["models.id"],
            name=op.f("fk_model_versions_model_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_versions")),
        sa.UniqueConstraint("job_id", name=op.f("uq_model_versions_job_id")),
        sa.UniqueConstraint("model_id", "number", name=op.f("uq_model_versions_model_id_number")),
    )
    with op.batch_alter_table("model_versions", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_model_versions_created_by"), ["created_by"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_model_versions_dataset_version_id"), ["dataset_version_id"], unique=False
        )

    op.create_table(
        "deployments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("baseline_version_id", sa.Uuid(), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "running",
                "promoted",
                "rolled_back",
                "stopped",
                name="deploymentstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("traffic_percent", sa.Double(), nullable=False),
        sa.Column("plan", JSON, nullable=True),
        sa.Column("verdict", JSON, nullable=True),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "traffic_percent BETWEEN 0 AND 100", name=op.f("ck_deployments_traffic_range")
        ),
        sa.ForeignKeyConstraint(
            ["baseline_version_id"],
            ["model_versions.id"],
            name=op.f("fk_deployments_baseline_version_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["created_by"],
            ["accounts.id"],
            name=op.f("fk_deployments_created_by"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_deployments_model_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["model_versions.id"],
            name=op.f("fk_deployments_version_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployments")),
    )
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_deployments_baseline_version_id"), ["baseline_version_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_deployments_created_by"), ["created_by"], unique=False)
        batch_op.create_index(batch_op.f("ix_deployments_model_id"), ["model_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_deployments_version_id"), ["version_id"], unique=False)
        batch_op.create_index(
            "uq_deployments_running",
            ["model_id"],
            unique=True,
            sqlite_where=sa.text("state = 'running'"),
            postgresql_where=sa.text("state = 'running'"),
        )

    op.create_table(
        "evaluations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("split", sa.String(length=32), nullable=False),
        sa.Column("num_rows", sa.Integer(), nullable=False),
        sa.Column("metrics", JSON, nullable=False),
        sa.Column("slices", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"],
            ["dataset_versions.id"],
            name=op.f("fk_evaluations_dataset_version_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_evaluations_job_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.id"],
            name=op.f("fk_evaluations_model_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
    )
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_evaluations_dataset_version_id"), ["dataset_version_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_evaluations_job_id"), ["job_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_evaluations_model_version_id"), ["model_version_id"], unique=False
        )

    op.create_table(
        "interactions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("external_id", sa.String(length=200), nullable=False),
        sa.Column("chat_id", sa.String(length=200), nullable=True),
        sa.Column("message_id", sa.String(length=200), nullable=True),
        sa.Column("turn", sa.Integer(), nullable=True),
        sa.Column("user_pseudonym", sa.String(length=64), nullable=True),
        sa.Column("context", JSON, nullable=True),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("prompt_hash", sa.String(length=32), nullable=False),
        sa.Column("completion", sa.Text(), nullable=False),
        sa.Column("action_type", sa.String(length=100), nullable=True),
        sa.Column("action_data", JSON, nullable=True),
        sa.Column("model_name", sa.String(length=200), nullable=True),
        sa.Column("model_version_id", sa.Uuid(), nullable=True),
        sa.Column("language", sa.String(length=16), nullable=True),
        sa.Column("extra", JSON, nullable=True),
        sa.Column("is_demo", sa.Boolean(), nullable=False),
        sa.Column("reward", sa.Double(), nullable=True),
        sa.Column("reward_version_id", sa.Uuid(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.id"],
            name=op.f("fk_interactions_model_version_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["reward_version_id"],
            ["model_versions.id"],
            name=op.f("fk_interactions_reward_version_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_interactions")),
        sa.UniqueConstraint(
            "source", "external_id", name=op.f("uq_interactions_source_external_id")
        ),
    )
    with op.batch_alter_table("interactions", schema=None) as batch_op:
        batch_op.create_index(
            "ix_interactions_chat",
            ["chat_id", "message_id"],
            unique=False,
            sqlite_where=sa.text("chat_id IS NOT NULL"),
            postgresql_where=sa.text("chat_id IS NOT NULL"),
        )
        batch_op.create_index(
            batch_op.f("ix_interactions_occurred_at"), ["occurred_at"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_interactions_prompt_hash"), ["prompt_hash"], unique=False
        )
        batch_op.create_index(
            "ix_interactions_user_pseudonym",
            ["user_pseudonym"],
            unique=False,
            sqlite_where=sa.text("user_pseudonym IS NOT NULL"),
            postgresql_where=sa.text("user_pseudonym IS NOT NULL"),
        )

    op.create_table(
        "model_alias_changes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column(
            "alias",
            sa.Enum(
                "production",
                "canary",
                name="alias",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("from_version_id", sa.Uuid(), nullable=True),
        sa.Column("to_version_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("evidence", JSON, nullable=True),
        sa.Column("changed_by", sa.Uuid(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["changed_by"],
            ["accounts.id"],
            name=op.f("fk_model_alias_changes_changed_by"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["from_version_id"],
            ["model_versions.id"],
            name=op.f("fk_model_alias_changes_from_version_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["models.id"],
            name=op.f("fk_model_alias_changes_model_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["to_version_id"],
            ["model_versions.id"],
            name=op.f("fk_model_alias_changes_to_version_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_alias_changes")),
        sa.UniqueConstraint(
            "model_id",
            "alias",
            "revision",
            name=op.f("uq_model_alias_changes_model_id_alias_revision"),
        ),
    )
    with op.batch_alter_table("model_alias_changes", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_model_alias_changes_changed_by"), ["changed_by"], unique=False
        )

    op.create_table(
        "model_aliases",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column(
            "alias",
            sa.Enum(
                "production",
                "canary",
                name="alias",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("version_id", sa.Uuid(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_model_aliases_model_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["model_versions.id"],
            name=op.f("fk_model_aliases_version_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("model_id", "alias", name=op.f("pk_model_aliases")),
    )
    with op.batch_alter_table("model_aliases", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_model_aliases_version_id"), ["version_id"], unique=False
        )

    op.create_table(
        "comparisons",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("left_interaction_id", sa.Uuid(), nullable=False),
        sa.Column("right_interaction_id", sa.Uuid(), nullable=False),
        sa.Column("group_id", sa.Uuid(), nullable=True),
        sa.Column("rater_id", sa.Uuid(), nullable=False),
        sa.Column("occasion", sa.SmallInteger(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("external_id", sa.String(length=200), nullable=False),
        sa.Column(
            "choice",
            sa.Enum(
                "left",
                "right",
                "tie",
                "both_bad",
                name="choice",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("strength", sa.SmallInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("is_blind", sa.Boolean(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=True),
        sa.Column("queue_id", sa.Uuid(), nullable=True),
        sa.Column("extra", JSON, nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "left_interaction_id <> right_interaction_id", name=op.f("ck_comparisons_two_sides")
        ),
        sa.CheckConstraint("strength BETWEEN 1 AND 3", name=op.f("ck_comparisons_strength_range")),
        sa.ForeignKeyConstraint(
            ["left_interaction_id"],
            ["interactions.id"],
            name=op.f("fk_comparisons_left_interaction_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["queue_id"],
            ["rating_queues.id"],
            name=op.f("fk_comparisons_queue_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["rater_id"], ["raters.id"], name=op.f("fk_comparisons_rater_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["right_interaction_id"],
            ["interactions.id"],
            name=op.f("fk_comparisons_right_interaction_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparisons")),
        sa.UniqueConstraint(
            "left_interaction_id",
            "right_interaction_id",
            "rater_id",
            "occasion",
            name=op.f("uq_comparisons_left_interaction_id_right_interaction_id_rater_id_occasion"),
        ),
        sa.UniqueConstraint(
            "source", "external_id", name=op.f("uq_comparisons_source_external_id")
        ),
    )
    with op.batch_alter_table("comparisons", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_comparisons_group_id"), ["group_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_comparisons_occurred_at"), ["occurred_at"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_comparisons_queue_id"), ["queue_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_comparisons_rater_id"), ["rater_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_comparisons_right_interaction_id"),
            ["right_interaction_id"],
            unique=False,
        )

    op.create_table(
        "events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("external_id", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("session_key", sa.String(length=200), nullable=True),
        sa.Column("user_pseudonym", sa.String(length=64), nullable=True),
        sa.Column("interaction_id", sa.Uuid(), nullable=True),
        sa.Column("properties", JSON, nullable=True),
        sa.Column("is_demo", sa.Boolean(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["interaction_id"],
            ["interactions.id"],
            name=op.f("fk_events_interaction_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("source", "external_id", name=op.f("uq_events_source_external_id")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_events_interaction_id"), ["interaction_id"], unique=False
        )
        batch_op.create_index("ix_events_name_time", ["name", "occurred_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_events_session_key"), ["session_key"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_events_user_pseudonym"), ["user_pseudonym"], unique=False
        )

    op.create_table(
        "rating_queue_items",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("queue_id", sa.Uuid(), nullable=False),
        sa.Column("interaction_id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "normal",
                "gold",
                "repeat",
                name="queueitemkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("priority", sa.Double(), nullable=False),
        sa.Column("selection_probability", sa.Double(), nullable=True),
        sa.Column("selection_reason", sa.String(length=100), nullable=True),
        sa.Column("gold_answer", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["interaction_id"],
            ["interactions.id"],
            name=op.f("fk_rating_queue_items_interaction_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["queue_id"],
            ["rating_queues.id"],
            name=op.f("fk_rating_queue_items_queue_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rating_queue_items")),
        sa.UniqueConstraint(
            "queue_id",
            "interaction_id",
            "kind",
            name=op.f("uq_rating_queue_items_queue_id_interaction_id_kind"),
        ),
    )
    with op.batch_alter_table("rating_queue_items", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_rating_queue_items_interaction_id"), ["interaction_id"], unique=False
        )
        batch_op.create_index("ix_rating_queue_items_order", ["queue_id", "priority"], unique=False)

    op.create_table(
        "reasoning_steps",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("interaction_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=100), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("external_id", sa.String(length=200), nullable=True),
        sa.CheckConstraint("position >= 0", name=op.f("ck_reasoning_steps_position_range")),
        sa.ForeignKeyConstraint(
            ["interaction_id"],
            ["interactions.id"],
            name=op.f("fk_reasoning_steps_interaction_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reasoning_steps")),
        sa.UniqueConstraint(
            "interaction_id", "position", name=op.f("uq_reasoning_steps_interaction_id_position")
        ),
    )
    with op.batch_alter_table("reasoning_steps", schema=None) as batch_op:
        batch_op.create_index(
            "ix_reasoning_steps_external_id",
            ["external_id"],
            unique=False,
            sqlite_where=sa.text("external_id IS NOT NULL"),
            postgresql_where=sa.text("external_id IS NOT NULL"),
        )

    op.create_table(
        "served_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("endpoint", sa.String(length=32), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=True),
        sa.Column("deployment_id", sa.Uuid(), nullable=True),
        sa.Column("arm", sa.String(length=32), nullable=True),
        sa.Column("propensity", sa.Double(), nullable=True),
        sa.Column("user_pseudonym", sa.String(length=64), nullable=True),
        sa.Column("interaction_id", sa.Uuid(), nullable=True),
        sa.Column("num_candidates", sa.Integer(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("is_fallback", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=True),
        sa.Column("served_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
            name=op.f("fk_served_log_deployment_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["interaction_id"],
            ["interactions.id"],
            name=op.f("fk_served_log_interaction_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.id"],
            name=op.f("fk_served_log_model_version_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_served_log")),
    )
    with op.batch_alter_table("served_log", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_served_log_deployment_id"), ["deployment_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_served_log_interaction_id"), ["interaction_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_served_log_served_at"), ["served_at"], unique=False)
        batch_op.create_index(
            "ix_served_log_version_time", ["model_version_id", "served_at"], unique=False
        )

    op.create_table(
        "adjudications",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("interaction_id", sa.Uuid(), nullable=False),
        sa.Column("step_id", sa.Uuid(), nullable=True),
        sa.Column("queue_id", sa.Uuid(), nullable=True),
        sa.Column("adjudicator_id", sa.Uuid(), nullable=True),
        sa.Column(
            "decision",
            sa.Enum(
                "resolved",
                "excluded",
                name="adjudicationdecision",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("thumb", sa.SmallInteger(), nullable=True),
        sa.Column("rating", sa.SmallInteger(), nullable=True),
        sa.Column("label", sa.SmallInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["adjudicator_id"],
            ["accounts.id"],
            name=op.f("fk_adjudications_adjudicator_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["interaction_id"],
            ["interactions.id"],
            name=op.f("fk_adjudications_interaction_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["queue_id"],
            ["rating_queues.id"],
            name=op.f("fk_adjudications_queue_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["step_id"],
            ["reasoning_steps.id"],
            name=op.f("fk_adjudications_step_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjudications")),
    )
    with op.batch_alter_table("adjudications", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_adjudications_adjudicator_id"), ["adjudicator_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_adjudications_interaction_id"), ["interaction_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_adjudications_queue_id"), ["queue_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_adjudications_step_id"), ["step_id"], unique=False)

    op.create_table(
        "feedback",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("interaction_id", sa.Uuid(), nullable=False),
        sa.Column("step_id", sa.Uuid(), nullable=True),
        sa.Column("rater_id", sa.Uuid(), nullable=False),
        sa.Column("occasion", sa.SmallInteger(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("external_id", sa.String(length=200), nullable=False),
        sa.Column("thumb", sa.SmallInteger(), nullable=True),
        sa.Column("rating", sa.SmallInteger(), nullable=True),
        sa.Column("label", sa.SmallInteger(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("correction", sa.Text(), nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=True),
        sa.Column("queue_id", sa.Uuid(), nullable=True),
        sa.Column("extra", JSON, nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("label IN (-1, 0, 1)", name=op.f("ck_feedback_label_range")),
        sa.CheckConstraint(
            "label IS NULL OR step_id IS NOT NULL", name=op.f("ck_feedback_label_needs_step")
        ),
        sa.CheckConstraint("occasion >= 0", name=op.f("ck_feedback_occasion_range")),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name=op.f("ck_feedback_rating_range")),
        sa.CheckConstraint("thumb IN (-1, 0, 1)", name=op.f("ck_feedback_thumb_range")),
        sa.ForeignKeyConstraint(
            ["interaction_id"],
            ["interactions.id"],
            name=op.f("fk_feedback_interaction_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["queue_id"],
            ["rating_queues.id"],
            name=op.f("fk_feedback_queue_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["rater_id"], ["raters.id"], name=op.f("fk_feedback_rater_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["step_id"],
            ["reasoning_steps.id"],
            name=op.f("fk_feedback_step_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
        sa.UniqueConstraint("source", "external_id", name=op.f("uq_feedback_source_external_id")),
    )
    with op.batch_alter_table("feedback", schema=None) as batch_op:
        batch_op.create_index("ix_feedback_interaction_id", ["interaction_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_feedback_occurred_at"), ["occurred_at"], unique=False)
        batch_op.create_index(
            "ix_feedback_queue_id",
            ["queue_id"],
            unique=False,
            sqlite_where=sa.text("queue_id IS NOT NULL"),
            postgresql_where=sa.text("queue_id IS NOT NULL"),
        )
        batch_op.create_index("ix_feedback_rater_time", ["rater_id", "created_at"], unique=False)
        batch_op.create_index(
            "uq_feedback_completion_rater",
            ["interaction_id", "rater_id", "occasion"],
            unique=True,
            sqlite_where=sa.text("step_id IS NULL"),
            postgresql_where=sa.text("step_id IS NULL"),
        )
        batch_op.create_index(
            "uq_feedback_step_rater",
            ["step_id", "rater_id", "occasion"],
            unique=True,
            sqlite_where=sa.text("step_id IS NOT NULL"),
            postgresql_where=sa.text("step_id IS NOT NULL"),
        )

    op.create_table(
        "attachments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("feedback_id", sa.Uuid(), nullable=False),
        sa.Column("media_type", sa.String(length=100), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("transcript", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["feedback_id"],
            ["feedback.id"],
            name=op.f("fk_attachments_feedback_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
    )
    with op.batch_alter_table("attachments", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_attachments_feedback_id"), ["feedback_id"], unique=False
        )

    op.create_table(
        "dataset_members",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=False),
        sa.Column("row_number", sa.Integer(), nullable=False),
        sa.Column(
            "split",
            sa.Enum(
                "train",
                "validation",
                "test",
                name="split",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("interaction_id", sa.Uuid(), nullable=True),
        sa.Column("feedback_id", sa.Uuid(), nullable=True),
        sa.Column("comparison_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["comparison_id"],
            ["comparisons.id"],
            name=op.f("fk_dataset_members_comparison_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"],
            ["dataset_versions.id"],
            name=op.f("fk_dataset_members_dataset_version_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["feedback_id"],
            ["feedback.id"],
            name=op.f("fk_dataset_members_feedback_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["interaction_id"],
            ["interactions.id"],
            name=op.f("fk_dataset_members_interaction_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_members")),
    )
    with op.batch_alter_table("dataset_members", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_dataset_members_comparison_id"), ["comparison_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_dataset_members_feedback_id"), ["feedback_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_dataset_members_interaction_id"), ["interaction_id"], unique=False
        )
        batch_op.create_index(
            "ix_dataset_members_row", ["dataset_version_id", "row_number"], unique=False
        )

    op.create_table(
        "feedback_aspects",
        sa.Column("feedback_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("rating", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name=op.f("ck_feedback_aspects_rating_range")),
        sa.ForeignKeyConstraint(
            ["feedback_id"],
            ["feedback.id"],
            name=op.f("fk_feedback_aspects_feedback_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("feedback_id", "name", name=op.f("pk_feedback_aspects")),
    )
    op.create_table(
        "feedback_revisions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("feedback_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "edit",
                "withdraw",
                "restore",
                name="revisionkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("before", JSON, nullable=False),
        sa.Column("changed_by", sa.Uuid(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("undoes", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["changed_by"],
            ["accounts.id"],
            name=op.f("fk_feedback_revisions_changed_by"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["feedback_id"],
            ["feedback.id"],
            name=op.f("fk_feedback_revisions_feedback_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback_revisions")),
        sa.UniqueConstraint(
            "feedback_id", "revision", name=op.f("uq_feedback_revisions_feedback_id_revision")
        ),
    )
    with op.batch_alter_table("feedback_revisions", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_feedback_revisions_changed_by"), ["changed_by"], unique=False
        )

    op.create_table(
        "feedback_spans",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("feedback_id", sa.Uuid(), nullable=False),
        sa.Column("start_at", sa.Integer(), nullable=False),
        sa.Column("end_at", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(length=100), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "start_at >= 0 AND end_at > start_at", name=op.f("ck_feedback_spans_span_range")
        ),
        sa.ForeignKeyConstraint(
            ["feedback_id"],
            ["feedback.id"],
            name=op.f("fk_feedback_spans_feedback_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback_spans")),
    )
    with op.batch_alter_table("feedback_spans", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_feedback_spans_feedback_id"), ["feedback_id"], unique=False
        )

    op.create_table(
        "rating_assignments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("queue_item_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("rater_id", sa.Uuid(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "leased",
                "done",
                "skipped",
                "expired",
                name="assignmentstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("leased_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("feedback_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["feedback_id"],
            ["feedback.id"],
            name=op.f("fk_rating_assignments_feedback_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["queue_item_id"],
            ["rating_queue_items.id"],
            name=op.f("fk_rating_assignments_queue_item_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["rater_id"],
            ["raters.id"],
            name=op.f("fk_rating_assignments_rater_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rating_assignments")),
        sa.UniqueConstraint(
            "queue_item_id", "rater_id", name=op.f("uq_rating_assignments_queue_item_id_rater_id")
        ),
        sa.UniqueConstraint(
            "queue_item_id", "slot", name=op.f("uq_rating_assignments_queue_item_id_slot")
        ),
    )
    with op.batch_alter_table("rating_assignments", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_rating_assignments_feedback_id"), ["feedback_id"], unique=False
        )
        batch_op.create_index(
            "ix_rating_assignments_rater_state", ["rater_id", "state"], unique=False
        )


def downgrade() -> None:
    """Migrate down."""
    with op.batch_alter_table("rating_assignments", schema=None) as batch_op:
        batch_op.drop_index("ix_rating_assignments_rater_state")
        batch_op.drop_index(batch_op.f("ix_rating_assignments_feedback_id"))

    op.drop_table("rating_assignments")
    with op.batch_alter_table("feedback_spans", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_feedback_spans_feedback_id"))

    op.drop_table("feedback_spans")
    with op.batch_alter_table("feedback_revisions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_feedback_revisions_changed_by"))

    op.drop_table("feedback_revisions")
    op.drop_table("feedback_aspects")
    with op.batch_alter_table("dataset_members", schema=None) as batch_op:
        batch_op.drop_index("ix_dataset_members_row")
        batch_op.drop_index(batch_op.f("ix_dataset_members_interaction_id"))
        batch_op.drop_index(batch_op.f("ix_dataset_members_feedback_id"))
        batch_op.drop_index(batch_op.f("ix_dataset_members_comparison_id"))

    op.drop_table("dataset_members")
    with op.batch_alter_table("attachments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_attachments_feedback_id"))

    op.drop_table("attachments")
    with op.batch_alter_table("feedback", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_feedback_step_rater",
            sqlite_where=sa.text("step_id IS NOT NULL"),
            postgresql_where=sa.text("step_id IS NOT NULL"),
        )
        batch_op.drop_index(
            "uq_feedback_completion_rater",
            sqlite_where=sa.text("step_id IS NULL"),
            postgresql_where=sa.text("step_id IS NULL"),
        )
        batch_op.drop_index("ix_feedback_rater_time")
        batch_op.drop_index("ix_feedback_queue_id")
        batch_op.drop_index(batch_op.f("ix_feedback_occurred_at"))
        batch_op.drop_index("ix_feedback_interaction_id")

    op.drop_table("feedback")
    with op.batch_alter_table("adjudications", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_adjudications_step_id"))
        batch_op.drop_index(batch_op.f("ix_adjudications_queue_id"))
        batch_op.drop_index(batch_op.f("ix_adjudications_interaction_id"))
        batch_op.drop_index(batch_op.f("ix_adjudications_adjudicator_id"))

    op.drop_table("adjudications")
    with op.batch_alter_table("served_log", schema=None) as batch_op:
        batch_op.drop_index("ix_served_log_version_time")
        batch_op.drop_index(batch_op.f("ix_served_log_served_at"))
        batch_op.drop_index(batch_op.f("ix_served_log_interaction_id"))
        batch_op.drop_index(batch_op.f("ix_served_log_deployment_id"))

    op.drop_table("served_log")
    with op.batch_alter_table("reasoning_steps", schema=None) as batch_op:
        batch_op.drop_index("ix_reasoning_steps_external_id")

    op.drop_table("reasoning_steps")
    with op.batch_alter_table("rating_queue_items", schema=None) as batch_op:
        batch_op.drop_index("ix_rating_queue_items_order")
        batch_op.drop_index(batch_op.f("ix_rating_queue_items_interaction_id"))

    op.drop_table("rating_queue_items")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_events_user_pseudonym"))
        batch_op.drop_index(batch_op.f("ix_events_session_key"))
        batch_op.drop_index("ix_events_name_time")
        batch_op.drop_index(batch_op.f("ix_events_interaction_id"))

    op.drop_table("events")
    with op.batch_alter_table("comparisons", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_comparisons_right_interaction_id"))
        batch_op.drop_index(batch_op.f("ix_comparisons_rater_id"))
        batch_op.drop_index(batch_op.f("ix_comparisons_queue_id"))
        batch_op.drop_index(batch_op.f("ix_comparisons_occurred_at"))
        batch_op.drop_index(batch_op.f("ix_comparisons_group_id"))

    op.drop_table("comparisons")
    with op.batch_alter_table("model_aliases", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_model_aliases_version_id"))

    op.drop_table("model_aliases")
    with op.batch_alter_table("model_alias_changes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_model_alias_changes_changed_by"))

    op.drop_table("model_alias_changes")
    with op.batch_alter_table("interactions", schema=None) as batch_op:
        batch_op.drop_index("ix_interactions_user_pseudonym")
        batch_op.drop_index(batch_op.f("ix_interactions_prompt_hash"))
        batch_op.drop_index(batch_op.f("ix_interactions_occurred_at"))
        batch_op.drop_index("ix_interactions_chat")

    op.drop_table("interactions")
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_evaluations_model_version_id"))
        batch_op.drop_index(batch_op.f("ix_evaluations_job_id"))
        batch_op.drop_index(batch_op.f("ix_evaluations_dataset_version_id"))

    op.drop_table("evaluations")
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_deployments_running",
            sqlite_where=sa.text("state = 'running'"),
            postgresql_where=sa.text("state = 'running'"),
        )
        batch_op.drop_index(batch_op.f("ix_deployments_version_id"))
        batch_op.drop_index(batch_op.f("ix_deployments_model_id"))
        batch_op.drop_index(batch_op.f("ix_deployments_created_by"))
        batch_op.drop_index(batch_op.f("ix_deployments_baseline_version_id"))

    op.drop_table("deployments")
    with op.batch_alter_table("model_versions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_model_versions_dataset_version_id"))
        batch_op.drop_index(batch_op.f("ix_model_versions_created_by"))

    op.drop_table("model_versions")
    with op.batch_alter_table("rating_queue_members", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rating_queue_members_account_id"))

    op.drop_table("rating_queue_members")
    with op.batch_alter_table("job_samples", schema=None) as batch_op:
        batch_op.drop_index("ix_job_samples_step")

    op.drop_table("job_samples")
    op.drop_table("job_metrics")
    op.drop_table("job_log_lines")
    with op.batch_alter_table("dataset_versions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_dataset_versions_created_by"))
        batch_op.drop_index(batch_op.f("ix_dataset_versions_content_hash"))

    op.drop_table("dataset_versions")
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_alerts_unresolved",
            sqlite_where=sa.text("state <> 'resolved'"),
            postgresql_where=sa.text("state <> 'resolved'"),
        )
        batch_op.drop_index(batch_op.f("ix_alerts_rule_id"))
        batch_op.drop_index(batch_op.f("ix_alerts_opened_at"))
        batch_op.drop_index(batch_op.f("ix_alerts_acknowledged_by"))

    op.drop_table("alerts")
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tokens_account_id"))

    op.drop_table("tokens")
    with op.batch_alter_table("schedules", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_schedules_created_by"))

    op.drop_table("schedules")
    with op.batch_alter_table("rating_queues", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rating_queues_created_by"))

    op.drop_table("rating_queues")
    op.drop_table("raters")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_jobs_dedup_key",
            sqlite_where=sa.text("state IN ('queued', 'running')"),
            postgresql_where=sa.text("state IN ('queued', 'running')"),
        )
        batch_op.drop_index("ix_jobs_state_time")
        batch_op.drop_index(batch_op.f("ix_jobs_parent_job_id"))
        batch_op.drop_index(batch_op.f("ix_jobs_created_by"))

    op.drop_table("jobs")
    with op.batch_alter_table("idempotency_keys", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_idempotency_keys_created_at"))

    op.drop_table("idempotency_keys")
    with op.batch_alter_table("erasures", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_erasures_requested_by"))
        batch_op.drop_index(batch_op.f("ix_erasures_pseudonym"))

    op.drop_table("erasures")
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_datasets_created_by"))

    op.drop_table("datasets")
    with op.batch_alter_table("audit_events", schema=None) as batch_op:
        batch_op.drop_index("ix_audit_events_target")
        batch_op.drop_index(batch_op.f("ix_audit_events_at"))
        batch_op.drop_index(batch_op.f("ix_audit_events_account_id"))

    op.drop_table("audit_events")
    with op.batch_alter_table("alert_rules", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_alert_rules_created_by"))

    op.drop_table("alert_rules")
    op.drop_table("workers")
    op.drop_table("store_facts")
    op.drop_table("step_rollups")
    op.drop_table("rollup_dirty_days")
    op.drop_table("models")
    op.drop_table("interaction_rollups")
    op.drop_table("feedback_rollups")
    with op.batch_alter_table("consents", schema=None) as batch_op:
        batch_op.drop_index("ix_consents_person")

    op.drop_table("consents")
    op.drop_table("accounts")
