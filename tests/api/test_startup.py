import pytest

from rlhf_core.accounts import tokens
from rlhf_core.api.startup import prepare
from rlhf_core.config import get_settings
from rlhf_core.errors import Forbidden
from rlhf_core.store.engine import Store


def test_each_start_ends_the_link_that_the_one_before_printed(store: Store) -> None:
    links = [prepare(store, get_settings()) for _ in range(3)]
    for link in links[:2]:
        with store.writing() as db, pytest.raises(Forbidden):
            tokens.redeem_sign_in_link(db, link)
    with store.writing() as db:
        actor = tokens.find_session_actor(db, tokens.redeem_sign_in_link(db, links[2]))
    assert actor is not None
    assert actor.name == "admin"


def test_a_start_ends_no_session(store: Store) -> None:
    link = prepare(store, get_settings())
    with store.writing() as db:
        session = tokens.redeem_sign_in_link(db, link)
    prepare(store, get_settings())
    with store.reading() as db:
        assert tokens.find_session_actor(db, session) is not None
