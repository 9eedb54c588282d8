"""Two tabs of one rater at once, on both databases."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from pages._ui import rating_aspects, rating_place
from pages._ui.rating_place import Place
from rlhf_core.accounts.permissions import Actor
from rlhf_core.feedback.views import get_interaction
from rlhf_core.store.engine import Store
from tests.builders import make_actor, make_feedback, make_interaction


def test_aspects_rated_in_two_tabs_at_once_are_both_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.writing() as db:
        item, rater = make_interaction(db).id, make_actor(db)
        make_feedback(db, item, actor=rater, rating=2)
        place = Place(get_interaction(db, item, actor=rater), queue=None)
    monkeypatch.setattr(rating_place, "require_page", lambda _: rater)  # a thread has no page
    other_tab = threading.Thread(target=rating_aspects._store, args=(place, "tone", 1))
    submit = rating_aspects.submit

    def submit_slowly(db: Any, place: Place, actor: Actor, **said: Any) -> object:
        stored = submit(db, place, actor, **said)
        if other_tab.ident is None:
            other_tab.start()
            other_tab.join(0.5)  # it has read by then, unless it waits for this one
        return stored

    monkeypatch.setattr(rating_aspects, "submit", submit_slowly)
    store_aspect: Callable[..., bool] = rating_aspects._store
    assert store_aspect(place, "safety", 5)
    other_tab.join()
    with store.reading() as db:
        mine = get_interaction(db, item, actor=rater).my_feedback
    assert mine is not None
    assert mine.aspects == {"safety": 5, "tone": 1}
