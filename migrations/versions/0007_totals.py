"""Counts an hour, and of aspects, by source alone: what most views ask for."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KIND = sa.Enum(
    "sme",
    "end_user",
    "model",
    name="raterkind",
    native_enum=False,
    create_constraint=True,
    length=32,
)
RATINGS = [f"num_rating_{value}" for value in range(1, 6)]
VERDICTS = [
    "num_feedback",
    *(f"num_thumbs_{thumb}" for thumb in ("up", "neutral", "down")),
    *RATINGS,
    *(f"num_{verdict}" for verdict in ("good", "neutral", "bad")),
]


def upgrade() -> None:
    """Migrate up. The totals are summed up from the counts that are there."""
    op.create_table(
        "feedback_hour_totals",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("hour", sa.SmallInteger(), nullable=False),
        sa.Column("rater_kind", KIND, nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in VERDICTS),
        sa.PrimaryKeyConstraint(
            "day", "hour", "rater_kind", "source", name=op.f("pk_feedback_hour_totals")
        ),
    )
    op.create_table(
        "aspect_totals",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("rater_kind", KIND, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in RATINGS),
        sa.PrimaryKeyConstraint(
            "day", "rater_kind", "name", "source", name=op.f("pk_aspect_totals")
        ),
    )
    _sum_up(
        "feedback_hour_rollups", "feedback_hour_totals", "day, hour, rater_kind, source", VERDICTS
    )
    _sum_up("aspect_rollups", "aspect_totals", "day, rater_kind, name, source", RATINGS)


def downgrade() -> None:
    """Migrate down."""
    op.drop_table("aspect_totals")
    op.drop_table("feedback_hour_totals")


def _sum_up(counts: str, totals: str, keys: str, names: list[str]) -> None:
    sums = ", ".join(f"sum({name})" for name in names)
    op.execute(
        f"INSERT INTO {totals} ({keys}, {', '.join(names)}) "  # noqa: S608 - our own names
        f"SELECT {keys}, {sums} FROM {counts} GROUP BY {keys}"
    )
