"""What versions disagree on most, row by row: what each says, what people said, the texts."""

import uuid
from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages._ui.interaction_view import draw_text
from pages._ui.messages import plain
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import NotFound
from rlhf_core.feedback.views import InteractionView, get_interaction
from rlhf_core.registry.comparisons import ComparisonView, read_rows
from rlhf_core.rewards.steps_text import split_steps
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DatasetPurpose

ROWS_A_PAGE = 5
MAX_ROWS = 200
RATE = "pages/collect/rate.py"


def show_rows(comparison: ComparisonView, actor: Actor) -> None:
    """The rows of reward models, those that they disagree most on first, a page at a time."""
    if not actor.may(Permission.READ_INTERACTIONS):
        st.caption("Who may read interactions sees the rows here.")
        return
    rows = _read_rows(str(comparison.id), comparison)
    if not rows:
        st.caption("No rows were kept of this comparison.")
        return
    st.caption(
        f"The {len(rows):,} rows that the versions are furthest apart on, of "
        f"{comparison.num_rows:,}. " + _explain(comparison.purpose)
    )
    for place, row in _choose_page(rows, key=f"rows_{comparison.id}"):
        with st.container(border=True, key=f"compared_row_{place}", gap="xsmall"):
            _show_row(comparison, row, actor, key=f"{comparison.id.hex}_{place}")


def show_answers(comparison: ComparisonView) -> None:
    """Prompts that the policies answered, those with the most different rewards first."""
    samples = comparison.result.get("samples") or []
    if not samples:
        st.caption("No answers were kept of this comparison.")
        return
    st.caption(
        "Each answered the same prompts with the same random numbers; the most different rewards "
        "come first."
    )
    names = comparison.names
    for place, sample in _choose_page(samples, key=f"samples_{comparison.id}"):
        with st.container(border=True, key=f"compared_sample_{place}", gap="xsmall"):
            st.markdown("**Prompt**")
            draw_text(str(sample["prompt"]), key=f"sample_{comparison.id.hex}_{place}")
            columns = st.columns(min(2, len(names)))
            best = max(sample["rewards"].values())
            for number, (key, name) in enumerate(names.items()):
                answer = str(sample["answers"].get(key) or "")
                reward = sample["rewards"].get(key)
                with columns[number % len(columns)]:
                    mark = " :material/trophy:" if reward == best else ""
                    st.markdown(f"**{plain(name)}**{mark}")
                    st.caption(_describe_answer(answer, reward))
                    draw_text(answer or "(empty)", key=f"a_{comparison.id.hex}_{place}_{key}")


def _describe_answer(answer: str, reward: float | None) -> str:
    """`reward 0.412 · 31 words · 3 steps`."""
    said = [] if reward is None else [f"reward {reward:.3f}"]
    words = len(answer.split())
    said.append("1 word" if words == 1 else f"{words:,} words")
    steps = len(split_steps(answer))
    if steps > 1:
        said.append(f"{steps} steps")
    return " · ".join(said)


@st.cache_data(max_entries=20, show_spinner=False)
def _read_rows(comparison_id: str, _comparison: ComparisonView) -> list[dict[str, Any]]:
    """Every byte of the file is verified first; a comparison never changes."""
    return read_rows(_comparison, limit=MAX_ROWS)


def _explain(purpose: str) -> str:
    if purpose == DatasetPurpose.PREFERENCES:
        return "Each says how likely it is that the answer is better which people preferred."
    if purpose == DatasetPurpose.STEPS:
        return "Each says how likely it is that a solution has no mistake."
    return "Each says how good the answer is."


def _choose_page(rows: list[dict[str, Any]], *, key: str) -> list[tuple[int, dict[str, Any]]]:
    num_pages = -(-len(rows) // ROWS_A_PAGE)
    page = st.pagination(num_pages, key=key) if num_pages > 1 else 1
    first = (page - 1) * ROWS_A_PAGE
    return list(enumerate(rows[first : first + ROWS_A_PAGE], first))


def _show_row(
    comparison: ComparisonView, row: Mapping[str, Any], actor: Actor, *, key: str
) -> None:
    found = _find(row["interaction_id"], actor)
    other = _find(row["other_id"], actor)
    with st.container(horizontal=True, vertical_alignment="center", key=f"head_{key}"):
        for version, name in comparison.names.items():
            said = row["said"][version]
            is_good = version in row["called_good"]
            st.badge(f"{plain(name)}: {said:.2f}", color="green" if is_good else "red")
        st.markdown(_say_people(comparison.purpose, row), width="content")
        st.space("stretch")
        if (known := found or other) is None:
            st.caption("The interaction is gone.", width="content")
        else:
            st.page_link(
                RATE,
                label="Open",
                icon=":material/open_in_new:",
                query_params={"item": str(known.id)},
                width="content",
            )
    if known is None:
        return
    _show_text("Prompt", known.prompt, key=f"p_{key}")
    if comparison.purpose != DatasetPurpose.PREFERENCES:
        _show_text("Answer", known.completion, key=f"c_{key}")
        return
    if found is not None and row["interaction_id"] != row["other_id"]:
        _show_text("People prefer", found.completion, key=f"c_{key}")
    elif found is not None:
        st.caption("People prefer a correction of this answer")
    if other is not None:
        _show_text("over", other.completion, key=f"o_{key}")


def _say_people(purpose: str, row: Mapping[str, Any]) -> str:
    rating, is_good = row["rating"], row["is_good"]
    if purpose == DatasetPurpose.PREFERENCES:
        return f"People: **{rating:.2g}** points apart" if rating else ""
    if purpose == DatasetPurpose.STEPS:
        words = {True: "**no mistake**", False: "**a mistake**", None: "nobody said"}
        return f"People found {words[is_good]}" if is_good is not None else "People: nobody said"
    if purpose == DatasetPurpose.UNPAIRED:
        return "People: thumb **up**" if is_good else "People: thumb **down**"
    return f"People: **{rating:.2g}** of 5"


def _show_text(label: str, text: str, *, key: str) -> None:
    st.caption(label)
    draw_text(text or "(empty)", key=key)


def _find(interaction_id: str | None, actor: Actor) -> InteractionView | None:
    if not interaction_id:
        return None
    try:
        with get_store().reading() as db:
            return get_interaction(db, uuid.UUID(interaction_id), actor=actor)
    except (NotFound, ValueError):
        return None
