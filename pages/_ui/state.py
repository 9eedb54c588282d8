"""What lives from one rerun to the next in this browser tab. A reload starts anew.

Work of a person (a rating, a draft) belongs in the database, never only here.
"""

import streamlit as st

_NOTICES = "_notices"
_PAGE = "_page"
_IS_NEW_PAGE = "_is_new_page"


def notify(text: str, *, icon: str = ":material/check:") -> None:
    """Keep a short message for the next `show_notices`; for callbacks, which cannot draw.

    `text` is Markdown: words of others go through `messages.plain` first.
    """
    st.session_state.setdefault(_NOTICES, []).append((text, icon))


def show_notices() -> None:
    """Show and forget what `notify` kept."""
    for text, icon in st.session_state.pop(_NOTICES, []):
        st.toast(text, icon=icon)


def enter_page(name: str) -> None:
    """Note which page runs; called by app.py in front of it."""
    st.session_state[_IS_NEW_PAGE] = st.session_state.get(_PAGE) != name
    st.session_state[_PAGE] = name


def is_new_page() -> bool:
    """Whether this run is the first after the person came here from another page."""
    return bool(st.session_state.get(_IS_NEW_PAGE, True))
