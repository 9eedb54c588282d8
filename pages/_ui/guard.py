"""Who may see a page. It fails closed however the page was reached or the script was started."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from pages._ui.messages import plain, reporting, show_error
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.accounts.tokens import find_session_actor, session_cookie_name
from rlhf_core.api.sign_in import end_session
from rlhf_core.errors import RlhfError
from rlhf_core.store.engine import get_store

NOT_LAUNCHED = (
    "The dashboard was started without its launcher, which signs people in: run `make run` instead."
)

_launched = False
_frame = threading.local()


def mark_launched() -> None:
    """Say that `server.py` runs this process, its gate in front. Without it every page stops."""
    global _launched
    _launched = True


def find_session_secret() -> str | None:
    """The browser's session secret, as it came with this connection."""
    return st.context.cookies.get(session_cookie_name())


def require_actor() -> Actor:
    """The person signed in; stops the script where there is none.

    Asked of the database on every rerun: a websocket outlives a logout in another tab.
    """
    actor = _find_actor()
    if actor is None:
        st.stop()
    return actor


@contextmanager
def known(actor: Actor) -> Iterator[None]:
    """While the frame runs a page: whom it has just found, the page need not ask for again."""
    _frame.actor = actor
    try:
        yield
    finally:  # a callback or a fragment that comes later in this thread asks for itself
        _frame.actor = None


def _find_actor() -> Actor | None:
    """The person signed in; where there is none, says so and leads to the sign-in page."""
    if not _launched:
        st.error(NOT_LAUNCHED, icon=":material/lock:")
        return None
    actor = None
    try:
        secret = find_session_secret()
        if secret:
            with get_store().glancing() as db:
                actor = find_session_actor(db, secret)
    except RlhfError as error:
        show_error(error)
        return None
    if actor is None:
        st.info("You are signed out. Sign in to go on.", icon=":material/lock:")
        st.link_button("Sign in", "/login", type="primary")
        _leave_for_sign_in()
    return actor


def _leave_for_sign_in() -> None:
    """Let the browser open the sign-in page by itself; Streamlit has no command for that."""
    leave = st.components.v2.component(
        "leave_for_sign_in",
        js="export default function () {\n  window.location.replace('/login')\n}",
    )
    leave(key="leave_for_sign_in")


def require_page(permission: Permission) -> Actor:
    """The first statement of every page: the person signed in, who has the permission.

    Stops the script with a sentence otherwise.
    """
    actor = admit(permission)
    if actor is None:
        st.stop()
    return actor


def admit(permission: Permission) -> Actor | None:
    """As `require_page`, but it returns None after the sentence: for a fragment that ticks.

    A fragment that stopped the script would take with it the others of the same pass: a click in
    an open dialog that came while the tick waited would never be answered.
    """
    actor = getattr(_frame, "actor", None) or _find_actor()
    if actor is not None and not actor.may(permission):
        st.error(
            f"This page is not open to the role {actor.role.value}: "
            f"{plain(actor.name)} may not {permission.value.replace('_', ' ')}. Ask an admin.",
            icon=":material/lock:",
        )
        return None
    return actor


def sign_out() -> None:
    """End this browser's session; a callback. The rerun after it finds nobody signed in."""
    secret = find_session_secret()
    if secret:
        with reporting():
            end_session(secret)
