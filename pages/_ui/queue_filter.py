"""Which interactions: the widgets of a queue's filter, and the first that match as a table."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import pandas as pd
import streamlit as st

from pages._ui.data import read_filter_values, read_model_versions
from pages._ui.failure_choice import ask_cluster
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.queues.filters import Match, QueueFilter, count_matching, list_matching
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import ModelKind, QueueSubject, RatingState

ANY = ""  # an option None would be taken for no choice
RATING_STATES = {
    ANY: "Any",
    RatingState.UNRATED: "Nobody rated it",
    RatingState.NEEDS_SECOND: "One person rated it",
    RatingState.RATED: "Rated",
    RatingState.DISAGREED: "Raters disagree",
}
ROW_HEIGHT = 36
MAX_ROWS = 10


def ask_filter(
    actor: Actor, key: str, *, subject: QueueSubject = QueueSubject.COMPLETIONS
) -> QueueFilter:
    """The widgets; `key` begins their keys. Raters are not asked for the model: they rate blind."""
    values = read_filter_values(actor)
    model_name = version_id = None
    left, right = st.columns(2)
    with left:
        state = st.selectbox(
            "Rating state", list(RATING_STATES), format_func=RATING_STATES.__getitem__,
            key=f"{key}_state",
        )  # fmt: skip
        source = _choose("Source", values.sources, f"{key}_source")
        action_type = _choose("Action type", values.action_types, f"{key}_action")
    with right:
        text = st.text_input(
            "Text", key=f"{key}_text", max_chars=200, placeholder="in prompt or completion"
        )
        if actor.may(Permission.READ_MODELS):
            model_name = _choose("Model that answered", values.model_names, f"{key}_model")
            names = {
                version.id: version.name
                for version in read_model_versions(actor)
                if version.kind is ModelKind.POLICY
            }
            version_id = st.selectbox(
                "Version that answered", [ANY, *names], key=f"{key}_version",
                format_func=lambda one: names.get(one, "Any"),
            )  # fmt: skip
    cluster_id = ask_cluster(actor, key)
    with st.container(horizontal=True):
        since = st.date_input("From (UTC)", value=None, key=f"{key}_since", width=160)
        until = st.date_input("To, included", value=None, key=f"{key}_until", width=160)
    return QueueFilter(
        subject=subject,
        source=source,
        model_name=model_name,
        model_version_id=version_id or None,
        action_type=action_type,
        rating_state=state or None,
        text=text or "",
        since=_start_of(since),
        until=_start_of(until + timedelta(days=1)) if isinstance(until, date) else None,
        cluster_id=cluster_id,
    )


@st.cache_data(ttl=10, max_entries=200, show_spinner=False)
def read_num_matching(_actor: Actor, where: QueueFilter) -> int:
    """How many match, at most 10 s old."""
    with get_store().reading() as db:
        return count_matching(db, where, actor=_actor)


def read_matching(actor: Actor, where: QueueFilter, *, limit: int) -> list[Match]:
    """The first that match, with what this person said of them just now."""
    with get_store().reading() as db:
        return list_matching(db, where, actor=actor, limit=limit)


def show_matches(matches: Sequence[Match], *, key: str, can_select: bool = False) -> list[Match]:
    """A line each; those that are ticked come back."""
    frame = pd.DataFrame(
        {
            "My rating": [_say_rating(one) for one in matches],
            "Prompt": [_in_a_line(one.prompt) for one in matches],
            "Completion": [_in_a_line(one.completion) for one in matches],
            "Action": [one.action_type or "" for one in matches],
        }
    )
    wide = st.column_config.TextColumn(width="large")
    shown = {"hide_index": True, "key": key, "height": _height(len(matches))}
    narrow = st.column_config.TextColumn(width="small")
    config = {"Prompt": wide, "Completion": wide, "My rating": narrow, "Action": narrow}
    if not can_select:
        st.dataframe(frame, column_config=config, alt="Interactions that match", **shown)
        return []
    ticked = st.dataframe(
        frame, column_config=config, alt="Interactions that match; tick those to rate",
        on_select="rerun", selection_mode="multi-row", **shown,
    )  # fmt: skip
    return [matches[place] for place in ticked.selection.rows if place < len(matches)]


def _height(num_rows: int) -> int:
    return min(MAX_ROWS, max(1, num_rows)) * ROW_HEIGHT + 40


def _say_rating(one: Match) -> str:
    said = [] if one.my_rating is None else [str(one.my_rating)]
    if one.my_thumb is not None:
        said.append({1: "up", 0: "neutral", -1: "down"}[one.my_thumb])
    return ", ".join(said)


def _in_a_line(text: str) -> str:
    return " ".join(text.split())


def _choose(label: str, values: Sequence[str], key: str) -> str | None:
    chosen: str = st.selectbox(
        label, [ANY, *values], format_func=lambda value: value or "Any", key=key
    )
    return chosen or None


def _start_of(day: object) -> datetime | None:
    return datetime.combine(day, time(), tzinfo=UTC) if isinstance(day, date) else None
