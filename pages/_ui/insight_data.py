"""The database for pages of analysis: daily counts made new before anybody reads them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from rlhf_core.analytics.rollups import has_dirty_days, refresh_rollups
from rlhf_core.errors import Unavailable
from rlhf_core.store.engine import get_store

DAYS_AT_ONCE = 10  # so that nobody waits long for the write lock of SQLite
PATIENCE_S = 2.0
READ_AGAIN_S = 10


@contextmanager
def fresh_db() -> Iterator[Any]:
    """As `get_store().reading()`, after the days that changed were counted again.

    It writes only where there are such days. After an import of many days, or where the database
    is being written to for long, it goes on with the old counts and says so on the page; the worker
    counts the rest.
    """
    _count_again()
    with get_store().reading() as db:
        yield db


def _count_again() -> None:
    store = get_store()
    with store.reading() as db:
        if not has_dirty_days(db):
            return
    until = time.monotonic() + PATIENCE_S
    remaining, before = 0, -1
    try:
        while remaining != before and time.monotonic() < until:
            before = remaining  # no fewer than before: somebody else is at work on them
            with store.writing() as db:
                remaining = refresh_rollups(db, max_days=DAYS_AT_ONCE)
    except Unavailable:
        remaining = remaining or 1
    if remaining:
        st.caption(
            ":material/hourglass_top: Some days changed and are being counted again: figures "
            "follow within minutes."
        )
