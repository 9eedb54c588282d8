"""The worst mistakes of an evaluation, each with the way to its interaction."""

import uuid
from typing import Any

import streamlit as st

from pages._ui.messages import plain
from rlhf_core.accounts.permissions import Actor
from rlhf_core.errors import NotFound
from rlhf_core.feedback.views import InteractionView, get_interaction
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DatasetPurpose

MISTAKES_A_PAGE = 5
SNIPPET_CHARS = 240
RATE = "pages/collect/rate.py"


def show_worst(examination: dict[str, Any], actor: Actor, *, key: str) -> None:
    """The rows on which the model is furthest off, the worst first, a page at a time."""
    worst = examination.get("worst") or []
    if not worst:
        st.caption("No mistakes are listed for these rows.")
        return
    st.caption("The rows on which the model is furthest from what people say, the worst first.")
    num_pages = -(-len(worst) // MISTAKES_A_PAGE)
    page = 1
    if num_pages > 1:
        page = st.pagination(num_pages, key=f"worst_{key}")
    first = (page - 1) * MISTAKES_A_PAGE
    purpose = examination.get("purpose")
    for place, mistake in enumerate(worst[first : first + MISTAKES_A_PAGE], first):
        with st.container(border=True, key=f"mistake_{place}"):
            if purpose == DatasetPurpose.PREFERENCES:
                _show_pair(mistake, actor, key=f"{key}_{place}")
            else:
                _show_single(mistake, purpose, actor, key=f"{key}_{place}")


def _show_single(mistake: dict[str, Any], purpose: Any, actor: Actor, *, key: str) -> None:
    found = _find(mistake.get("interaction_id"), actor)
    _show_head(_describe(mistake, purpose), found, key=key)
    if found is not None:
        _show_text("Prompt", found.prompt)
        _show_text("Completion", found.completion)


def _describe(mistake: dict[str, Any], purpose: Any) -> str:
    """What the model says of a completion, and what people say."""
    reward, rating = mistake["reward"], mistake["rating"]
    if purpose == DatasetPurpose.STEPS:
        said = "no mistake" if rating > 0 else "a mistake"
        return f"The model gives **{reward:.0%}** to no mistake in it, people found **{said}**"
    if purpose == DatasetPurpose.UNPAIRED:
        return f"The model says **{reward:.0%}** good, people gave a thumb " + (
            "**up**" if rating > 0 else "**down**"
        )
    return f"The model says **{reward:.0%}** good, people rated it **{rating:.2g}** of 5"


def _show_pair(mistake: dict[str, Any], actor: Actor, *, key: str) -> None:
    better = _find(mistake.get("interaction_id"), actor)
    worse = _find(mistake.get("other_interaction_id"), actor)
    other = mistake.get("other_reward")
    said = f"The model gives the better one **{mistake['reward']:.2f}**"
    if other is not None:
        said += f", the worse one **{other:.2f}**"
    _show_head(said, better or worse, key=key)
    known = better or worse
    if known is None:
        return
    _show_text("Prompt", known.prompt)
    if better is not None and not _is_same(mistake):
        _show_text("People prefer", better.completion)
    if worse is not None:
        _show_text("The model prefers", worse.completion)


def _is_same(mistake: dict[str, Any]) -> bool:
    """Whether a correction is the better one: it has no interaction of its own."""
    return bool(mistake.get("interaction_id") == mistake.get("other_interaction_id"))


def _show_head(said: str, found: InteractionView | None, *, key: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key=f"head_{key}"):
        st.markdown(said, width="content")
        st.space("stretch")
        if found is None:
            st.caption("The interaction is gone.", width="content")
        else:
            st.page_link(
                RATE,
                label="Open",
                icon=":material/open_in_new:",
                query_params={"item": str(found.id)},
                width="content",
            )


def _show_text(label: str, text: str) -> None:
    """The beginning of a text of others, as it is, on a line or two."""
    words = " ".join(text.split())
    shown = words[:SNIPPET_CHARS] + ("…" if len(words) > SNIPPET_CHARS else "")
    st.markdown(f":gray[{label}] · {plain(shown) or '*empty*'}")


def _find(interaction_id: str | None, actor: Actor) -> InteractionView | None:
    if not interaction_id:
        return None
    try:
        with get_store().reading() as db:
            return get_interaction(db, uuid.UUID(interaction_id), actor=actor)
    except (NotFound, ValueError):
        return None
