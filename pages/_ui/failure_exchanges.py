"""The exchanges that are called bad again and again, as a table, and the chosen one in full."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from pages._ui.history_list import shorten
from pages._ui.insight_rows import link_to_rows, make_key
from pages._ui.interaction_view import draw_text
from pages._ui.messages import plain
from rlhf_core.analytics.failures import FrequentExchange
from rlhf_core.analytics.filters import Filters
from rlhf_core.vocabulary import Verdict

TEXT_CHARS = 160
NOTHING_TWICE = (
    "No exchange was called bad more than twice in this period. The same prompt, completion and "
    "action count as one."
)


def show_exchanges(found: Sequence[FrequentExchange], filters: Filters) -> None:
    """A row an exchange; a click shows it in full, with the way to its rows."""
    if not found:
        st.caption(NOTHING_TWICE)
        return
    frame = pd.DataFrame(
        {
            "Called bad": [one.num_bad for one in found],
            "Prompt": [shorten(one.prompt, TEXT_CHARS) for one in found],
            "Completion": [shorten(one.completion, TEXT_CHARS) for one in found],
            "Action": [one.action_type for one in found],
            "Last": [one.last_day for one in found],
        }
    )
    wide = st.column_config.TextColumn(width="large")
    chosen = st.dataframe(
        frame,
        hide_index=True,
        height="content" if len(found) < 10 else 380,
        column_config={
            "Called bad": st.column_config.ProgressColumn(
                format="localized", min_value=0, max_value=max(one.num_bad for one in found)
            ),
            "Prompt": wide,
            "Completion": wide,
            "Last": st.column_config.DateColumn(format="YYYY-MM-DD"),
        },
        on_select="rerun",
        selection_mode="single-row",
        key=f"failure_exchanges_{make_key([one.pattern_hash for one in found])}",
        alt="Exchanges that were called bad more than twice, the most frequent first",
    )
    places = [place for place in chosen.selection.rows if place < len(found)]
    if not places:
        st.caption("Choose a row to see it in full.")
        return
    _show(found[places[0]], filters)


def _show(one: FrequentExchange, filters: Filters) -> None:
    with st.container(border=True, key="failure_exchange"):
        action = f" · {plain(one.action_type)}" if one.action_type else ""
        st.markdown(f"**Called bad {one.num_bad:,} times**{action}")
        for name, text in (("Prompt", one.prompt), ("Completion", one.completion)):
            st.caption(name)
            draw_text(text or "(empty)", key=f"exchange_{name}_{one.pattern_hash}")
        link_to_rows(
            f"The {one.num_bad:,} ratings",
            filters,
            pattern_hash=one.pattern_hash,
            verdict=Verdict.BAD,
        )
