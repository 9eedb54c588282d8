"""Which answers have come to their end: one that is being written, or broke off, is not judged."""

from typing import Any

import sqlalchemy as sa

from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import CHAT_SOURCE


def is_whole(table: Any = Interaction) -> sa.ColumnElement[bool]:
    """The interaction (the table or an alias) does not say of itself that it is partial."""
    said: sa.ColumnElement[str] = table.extra["is_partial"].as_string()
    return sa.or_(table.source != CHAT_SOURCE, said.is_(None))  # JSON is read of few
