"""Change rules, alerts and the report on behalf of whoever is signed in."""

from collections.abc import Callable
from typing import Any

from pages._ui.guard import admit
from pages._ui.messages import plain
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import RlhfError
from rlhf_core.store.engine import get_store


def act(change: Callable[..., Any], said: str, *args: Any, **fields: Any) -> bool:
    """Call a service in a transaction of its own; keep a sentence for the page."""
    actor = admit(Permission.MANAGE_ALERTS)  # callbacks and dialogs run without the page's guard
    if actor is None:
        return False
    try:
        with get_store().writing() as db:
            change(db, *args, actor=actor, **fields)
    except RlhfError as error:
        notify(plain(str(error)), icon=":material/error:")
        return False
    notify(said)
    return True
