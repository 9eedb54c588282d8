"""Why a version was moved, tried out, vetoed or deleted: asked of people, kept in the history."""

from rlhf_core.errors import InvalidInput
from rlhf_core.registry.views import storable

MAX_REASON_CHARS = 2000


def clean_reason(
    reason: str, *, ask: str = "Say why: the reason is kept in the history.", field: str = "reason"
) -> str:
    """The reason as it is kept. Raises InvalidInput for none, saying `ask`, or for one too long."""
    text: str = storable(reason.strip())
    if not text:
        raise InvalidInput(ask, field=field)
    if len(text) > MAX_REASON_CHARS:
        raise InvalidInput(
            f"The reason has {len(text):,} characters: shorten it to {MAX_REASON_CHARS:,}.",
            field=field,
        )
    return text
