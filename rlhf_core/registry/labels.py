"""What people write on a version: notes in full, and tags to find it by."""

import uuid
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.errors import InvalidInput
from rlhf_core.registry.service import get_version
from rlhf_core.registry.views import storable
from rlhf_core.store.tables import ModelVersion

MAX_TAGS = 20
MAX_TAG_CHARS = 40
MAX_NOTES_CHARS = 20_000


def set_notes(db: Session, version_id: uuid.UUID, *, actor: Actor, notes: str) -> None:
    """Replace the notes of a version; empty removes them."""
    text = storable(notes.strip()) or None
    if text is not None and len(text) > MAX_NOTES_CHARS:
        raise InvalidInput(
            f"The notes have {len(text):,} characters: write up to {MAX_NOTES_CHARS:,}.",
            field="notes",
        )
    _write(db, version_id, actor, "model.set_notes", notes=text)


def set_tags(
    db: Session, version_id: uuid.UUID, *, actor: Actor, tags: Iterable[str]
) -> tuple[str, ...]:
    """Replace the tags of a version: short words in lower case, each once. Returns them.

    Raises InvalidInput for a tag with a comma, a line break or too many characters.
    """
    found = tuple(dict.fromkeys(clean for tag in tags if (clean := tag.strip().lower())))
    for tag in found:
        if len(tag) > MAX_TAG_CHARS or "," in tag or not tag.isprintable():
            raise InvalidInput(
                f"The tag {tag[: 2 * MAX_TAG_CHARS]!r}: write up to {MAX_TAG_CHARS} characters "
                "without a comma.",
                field="tags",
            )
    if len(found) > MAX_TAGS:
        raise InvalidInput(f"{len(found)} tags: give a version up to {MAX_TAGS}.", field="tags")
    _write(db, version_id, actor, "model.set_tags", tags=list(found) or None)
    return found


def _write(db: Session, version_id: uuid.UUID, actor: Actor, action: str, **values: object) -> None:
    require(actor, Permission.PROMOTE_MODELS)
    version = get_version(db, version_id, actor=actor)
    db.execute(sa.update(ModelVersion).where(ModelVersion.id == version.id).values(**values))
    record_event(
        db, actor=actor, action=action, target_kind="model_version", target_id=version.id,
        details={"model": version.model_name, "number": version.number},
    )  # fmt: skip
