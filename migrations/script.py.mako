"""${message}."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Migrate up."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Migrate down."""
    ${downgrades if downgrades else "pass"}
