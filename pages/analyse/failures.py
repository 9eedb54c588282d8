"""Where answers fail: the same exchange again and again, and groups that share a meaning."""

import streamlit as st

from pages._ui.failure_exchanges import show_exchanges
from pages._ui.failure_groups import show_groups
from pages._ui.failure_search import show_search
from pages._ui.guard import require_page
from pages._ui.insight_data import fresh_db
from pages._ui.insight_empty import show_nothing_here
from pages._ui.insight_filters import ask_filters
from pages._ui.insight_rows import link_to_rows
from pages._ui.messages import reporting
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.analytics.failure_clusters import list_clusterings
from rlhf_core.analytics.failures import list_frequent
from rlhf_core.analytics.filters import list_filter_choices
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Verdict

actor = require_page(Permission.READ_ANALYTICS)
show_notices()
st.title("Failures")
st.caption("Which answers people call bad again and again, and what these have in common.")
with reporting():
    with fresh_db() as db:
        has_data = list_filter_choices(db, actor=actor).first_day is not None
    if not has_data:
        show_nothing_here(actor)
        st.stop()
    filters = ask_filters(actor)
    with get_store().reading() as db:
        frequent = list_frequent(db, actor=actor, filters=filters)
        searches = list_clusterings(db, actor=actor, limit=1)

    st.header("The same, again and again")
    show_exchanges(frequent, filters)
    link_to_rows("All bad ratings", filters, verdict=Verdict.BAD)

    st.header("Groups that share a meaning")
    show_search(actor, filters, is_first=not searches)
    if searches:
        show_groups(searches[0], actor)
    else:
        st.caption(
            "Other words, the same fault: a search reads what was called bad and puts together "
            "what means the same."
        )
