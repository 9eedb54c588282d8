import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from rlhf_core.accounts import service, tokens
from rlhf_core.accounts.permissions import SYSTEM, Actor, Permission
from rlhf_core.errors import Forbidden, InvalidInput, NotFound
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Token
from rlhf_core.vocabulary import Role


@pytest.fixture
def kim(store: Store) -> Actor:
    with store.writing() as db:
        view = service.create_account(db, actor=SYSTEM, name="kim", role=Role.TRAINER)
    return Actor(view.name, view.role, view.id)


def make_token(store: Store, *scopes: Permission, days: float | None = None) -> str:
    with store.writing() as db:
        return tokens.create_api_token(
            db, actor=SYSTEM, account_name="kim", name="ci", scopes=scopes, expires_in_days=days
        )


def test_only_the_hash_of_a_secret_is_stored(store: Store, kim: Actor) -> None:
    secret = make_token(store, Permission.SCORE)
    assert secret.startswith("rlhf_")
    with store.reading() as db:
        row = db.scalars(sa.select(Token)).one()
    assert secret not in repr(vars(row))
    assert len(row.token_hash) == 64


def test_token_has_only_its_scopes(store: Store, kim: Actor) -> None:
    secret = make_token(store, Permission.SCORE)
    with store.reading() as db:
        actor = tokens.find_api_actor(db, secret)
    assert actor is not None
    assert actor.account_id == kim.account_id
    assert actor.may(Permission.SCORE)
    assert not actor.may(Permission.RATE)


def test_token_never_gets_more_than_the_role(store: Store, kim: Actor) -> None:
    with pytest.raises(InvalidInput, match="trainer of kim has no manage_accounts"):
        make_token(store, Permission.SCORE, Permission.MANAGE_ACCOUNTS)
    secret = make_token(store, Permission.SCORE, Permission.RATE)
    with store.writing() as db:
        service.set_role(db, actor=SYSTEM, account_name="kim", role=Role.RATER)
    with store.reading() as db:
        actor = tokens.find_api_actor(db, secret)
    assert actor is not None
    assert not actor.may(Permission.SCORE)
    assert actor.may(Permission.RATE)


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf"), 4000])
def test_senseless_lifetimes_are_refused(store: Store, kim: Actor, days: float) -> None:
    with pytest.raises(InvalidInput, match="expires_in_days"):
        make_token(store, Permission.SCORE, days=days)


def test_token_without_scopes_is_refused(store: Store, kim: Actor) -> None:
    with pytest.raises(InvalidInput, match="scopes"):
        make_token(store)


def test_revoked_and_expired_tokens_open_nothing(store: Store, kim: Actor) -> None:
    revoked, expired = make_token(store, Permission.RATE), make_token(store, Permission.RATE)
    with store.writing() as db:
        newest, oldest = tokens.list_tokens(db, actor=SYSTEM)
        assert tokens.revoke_token(db, oldest.id, actor=SYSTEM).revoked_at is not None
        db.execute(
            sa.update(Token).where(Token.id == newest.id).values(expires_at=newest.created_at)
        )
    with store.reading() as db:
        assert tokens.find_api_actor(db, revoked) is None
        assert tokens.find_api_actor(db, expired) is None
        assert tokens.find_api_actor(db, "") is None
        assert tokens.find_api_actor(db, "\udc80") is None


def test_a_secret_opens_only_its_own_kind_of_door(store: Store, kim: Actor) -> None:
    api = make_token(store, Permission.RATE)
    with store.writing() as db:
        link = tokens.create_sign_in_link(db, actor=SYSTEM, account_name="kim")
        session = tokens.create_session(db, actor=kim)
    with store.writing() as db:
        assert tokens.find_session_actor(db, api) is None
        assert tokens.find_session_actor(db, link) is None
        assert tokens.find_api_actor(db, session) is None
        assert tokens.find_api_actor(db, link) is None
        for wrong in (api, session):
            with pytest.raises(Forbidden):
                tokens.redeem_sign_in_link(db, wrong)


def test_sign_in_link_works_once(store: Store, kim: Actor) -> None:
    with store.writing() as db:
        link = tokens.create_sign_in_link(db, actor=SYSTEM, account_name="kim")
    with store.writing() as db:
        session = tokens.redeem_sign_in_link(db, link)
        assert tokens.find_session_actor(db, session) == kim
    with store.writing() as db, pytest.raises(Forbidden, match="used already"):
        tokens.redeem_sign_in_link(db, link)


def test_of_links_of_one_name_only_the_newest_works(store: Store, kim: Actor) -> None:
    def make(name: str | None) -> str:
        with store.writing() as db:
            return tokens.create_sign_in_link(db, actor=SYSTEM, account_name="kim", name=name)

    other, first, second = make(None), make("start"), make("start")
    with store.writing() as db, pytest.raises(Forbidden, match="a newer one replaced it"):
        tokens.redeem_sign_in_link(db, first)
    with store.writing() as db:
        for link in (second, other):
            assert tokens.find_session_actor(db, tokens.redeem_sign_in_link(db, link)) == kim


def test_of_many_who_use_a_link_at_once_one_gets_in(store: Store, kim: Actor) -> None:
    def redeem(link: str) -> bool:
        try:
            with store.writing() as db:
                tokens.redeem_sign_in_link(db, link)
        except Forbidden:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            with store.writing() as db:
                link = tokens.create_sign_in_link(db, actor=SYSTEM, account_name="kim")
            assert sum(pool.map(redeem, [link] * 8)) == 1


def test_expired_link_is_refused(store: Store, kim: Actor) -> None:
    with store.writing() as db:
        link = tokens.create_sign_in_link(db, actor=SYSTEM, account_name="kim", valid_s=-1)
    with store.writing() as db, pytest.raises(Forbidden, match="expired"):
        tokens.redeem_sign_in_link(db, link)


def test_signing_out_ends_this_session_only(store: Store, kim: Actor) -> None:
    with store.writing() as db:
        here = tokens.create_session(db, actor=kim)
        there = tokens.create_session(db, actor=kim)
        tokens.revoke_session(db, here, actor=kim)
    with store.reading() as db:
        assert tokens.find_session_actor(db, here) is None
        assert tokens.find_session_actor(db, there) == kim


def test_expired_sessions_open_nothing_and_are_cleared_away(store: Store, kim: Actor) -> None:
    with store.writing() as db:
        old = tokens.create_session(db, actor=kim, valid_s=-1)
        assert tokens.find_session_actor(db, old) is None
        tokens.create_session(db, actor=kim)
    with store.reading() as db:
        assert len(list(db.scalars(sa.select(Token)))) == 1


def test_tokens_and_the_command_line_have_no_browser_session(store: Store, kim: Actor) -> None:
    token = Actor("kim", Role.TRAINER, kim.account_id, frozenset({Permission.RATE}))
    with store.writing() as db:
        for actor in (SYSTEM, token):
            with pytest.raises(Forbidden, match="cannot sign in"):
                tokens.create_session(db, actor=actor)


def test_only_admins_make_and_revoke_tokens(store: Store, kim: Actor) -> None:
    make_token(store, Permission.RATE)
    with store.writing() as db:
        [view] = tokens.list_tokens(db, actor=SYSTEM)
        for refused in (
            lambda: tokens.create_api_token(
                db, actor=kim, account_name="kim", name="x", scopes=[Permission.RATE]
            ),
            lambda: tokens.list_tokens(db, actor=kim),
            lambda: tokens.revoke_token(db, view.id, actor=kim),
            lambda: tokens.create_sign_in_link(db, actor=kim, account_name="kim"),
        ):
            with pytest.raises(Forbidden, match="manage accounts"):
                refused()
        with pytest.raises(NotFound):
            tokens.revoke_token(db, uuid.uuid4(), actor=SYSTEM)


def test_link_of_a_server_on_all_addresses_names_a_reachable_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_core.config import get_settings

    monkeypatch.setenv("RLHF_HOST", "0.0.0.0")  # noqa: S104
    monkeypatch.setenv("RLHF_PORT", "8600")
    get_settings.cache_clear()
    assert tokens.sign_in_url("s") == "http://127.0.0.1:8600/login?token=s"
    assert tokens.session_cookie_name() == "rlhf_session_8600"
