"""The database for pages of analysis: daily counts made new before anybody reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from rlhf_core.analytics.rollups import has_new_days, refresh_in_rounds
from rlhf_core.store.engine import get_store

COUNT_AFTER_S = 10.0  # a day under way is not counted with every look at it
PATIENCE_S = 2.0
READ_AGAIN_S = 10


@contextmanager
def fresh_db() -> Iterator[Any]:
    """As `get_store().reading()`, after the days that changed were counted again.

    It writes only where a day changed more than 10 s ago or is new. After an import of many days,
    or where the database is being written to for long, it goes on with the old counts and says
    so on the page; the worker counts the rest.
    """
    _count_again()
    with get_store().reading() as db:
        yield db


def _count_again() -> None:
    store = get_store()
    with store.reading() as db:  # what was imported shows at once
        for_s = 0.0 if has_new_days(db) else COUNT_AFTER_S
    if refresh_in_rounds(store, for_s=for_s, max_s=PATIENCE_S):
        st.caption(
            ":material/hourglass_top: Some days changed and are being counted again: figures "
            "follow within minutes."
        )
