from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from rlhf_core.accounts import service, tokens
from rlhf_core.accounts.permissions import SYSTEM, Actor, Permission
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Account, AuditEvent
from rlhf_core.vocabulary import Role
from tests.databases import postgres_is_slow

pytestmark = postgres_is_slow

PASSWORD = "correct horse battery"


def add(store: Store, name: str, role: Role = Role.RATER, password: str | None = None) -> Actor:
    with store.writing() as db:
        view = service.create_account(db, actor=SYSTEM, name=name, role=role, password=password)
    return Actor(view.name, view.role, view.id)


def test_password_is_stored_as_scrypt_and_opens_the_account(store: Store) -> None:
    added = add(store, "kim", password=PASSWORD)
    with store.reading() as db:
        stored = db.scalar(sa.select(Account.password_hash))
        assert stored is not None
        assert stored.startswith("scrypt$15$8$3$")
        assert PASSWORD not in stored
        assert service.authenticate(db, "kim", PASSWORD) == added
        assert service.authenticate(db, "kim", PASSWORD + "!") is None
        assert service.authenticate(db, "nobody", PASSWORD) is None
        assert service.authenticate(db, "kim", "x" * 10_000) is None


def test_account_without_password_cannot_sign_in_by_password(store: Store) -> None:
    add(store, "kim")
    with store.reading() as db:
        assert service.authenticate(db, "kim", "") is None
        assert service.authenticate(db, "kim", "None") is None


def test_two_accounts_never_share_a_name(store: Store) -> None:
    add(store, "kim")
    with pytest.raises(Conflict, match="kim"):
        add(store, " kim ")


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "a\nb", "\ud800", "x" * 101])
def test_unprintable_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        add(store, name)


@pytest.mark.parametrize("password", ["short", "x" * 201])
def test_password_of_wrong_length_is_refused(store: Store, password: str) -> None:
    with pytest.raises(InvalidInput, match="password"):
        add(store, "kim", password=password)


@pytest.mark.parametrize("role", [Role.RATER, Role.ANALYST, Role.TRAINER])
def test_only_admins_manage_accounts(store: Store, role: Role) -> None:
    actor = add(store, "kim", role)
    add(store, "other")
    with store.writing() as db:
        for refused in (
            lambda: service.create_account(db, actor=actor, name="x", role=Role.ADMIN),
            lambda: service.list_accounts(db, actor=actor),
            lambda: service.set_role(db, actor=actor, account_name="kim", role=Role.ADMIN),
            lambda: service.disable_account(db, actor=actor, account_name="other"),
            lambda: service.enable_account(db, actor=actor, account_name="other"),
            lambda: service.set_password(db, actor=actor, account_name="other", password=PASSWORD),
        ):
            with pytest.raises(Forbidden, match="kim may not manage accounts"):
                refused()


def test_own_password_may_be_set_but_not_with_a_token(store: Store) -> None:
    actor = add(store, "kim")
    with store.writing() as db:
        service.set_password(db, actor=actor, account_name="kim", password=PASSWORD)
        token = Actor("kim", Role.RATER, actor.account_id, frozenset({Permission.RATE}))
        with pytest.raises(Forbidden):
            service.set_password(db, actor=token, account_name="kim", password=PASSWORD)


def test_new_password_ends_the_sessions(store: Store) -> None:
    actor = add(store, "kim")
    with store.writing() as db:
        session = tokens.create_session(db, actor=actor)
        service.set_password(db, actor=actor, account_name="kim", password=PASSWORD)
    with store.reading() as db:
        assert tokens.find_session_actor(db, session) is None


def test_disabled_account_is_shut_out_at_once_and_can_come_back(store: Store) -> None:
    actor = add(store, "kim", password=PASSWORD)
    with store.writing() as db:
        session = tokens.create_session(db, actor=actor)
        key = tokens.create_api_token(
            db, actor=SYSTEM, account_name="kim", name="t", scopes=[Permission.RATE]
        )
        service.disable_account(db, actor=SYSTEM, account_name="kim")
    with store.writing() as db:
        assert tokens.find_session_actor(db, session) is None
        assert tokens.find_api_actor(db, key) is None
        assert service.authenticate(db, "kim", PASSWORD) is None
        with pytest.raises(Forbidden, match="disabled"):
            tokens.create_sign_in_link(db, actor=SYSTEM, account_name="kim")
        service.enable_account(db, actor=SYSTEM, account_name="kim")
    with store.reading() as db:
        assert service.authenticate(db, "kim", PASSWORD) == actor
        assert tokens.find_api_actor(db, key) is not None
        assert tokens.find_session_actor(db, session) is None


def test_role_change_counts_for_running_sessions(store: Store) -> None:
    actor = add(store, "kim")
    with store.writing() as db:
        session = tokens.create_session(db, actor=actor)
        service.set_role(db, actor=SYSTEM, account_name="kim", role=Role.TRAINER)
    with store.reading() as db:
        found = tokens.find_session_actor(db, session)
    assert found is not None
    assert found.role is Role.TRAINER


def test_last_admin_stays(store: Store) -> None:
    add(store, "root", Role.ADMIN)
    with store.writing() as db:
        with pytest.raises(Conflict, match="last admin"):
            service.disable_account(db, actor=SYSTEM, account_name="root")
        with pytest.raises(Conflict, match="last admin"):
            service.set_role(db, actor=SYSTEM, account_name="root", role=Role.RATER)


def test_two_admins_who_demote_each_other_leave_one(store: Store) -> None:
    for round_number in range(5):
        names = [f"a{round_number}", f"b{round_number}"]
        actors = [add(store, name, Role.ADMIN) for name in names]

        def demote(pair: tuple[Actor, str]) -> bool:
            try:
                with store.writing() as db:
                    service.set_role(db, actor=pair[0], account_name=pair[1], role=Role.RATER)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(demote, zip(actors, reversed(names), strict=True)))
        assert sorted(done) == [False, True]
        with store.writing() as db:  # the one left makes room for the next round
            db.execute(sa.update(Account).values(role=Role.RATER))


def test_first_admin_is_made_once_even_by_two_starts(store: Store) -> None:
    def ensure(_: int) -> str:
        with store.writing() as db:
            return str(service.ensure_first_admin(db).id)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ensure, range(8)))) == 1
    with store.reading() as db:
        [account] = service.list_accounts(db, actor=SYSTEM)
    assert (account.name, account.role) == ("admin", Role.ADMIN)


def test_no_second_admin_is_made_where_one_can_sign_in(store: Store) -> None:
    add(store, "root", Role.ADMIN)
    with store.writing() as db:
        assert service.ensure_first_admin(db).name == "root"


def test_administrative_deeds_are_in_the_audit(store: Store) -> None:
    admin = add(store, "root", Role.ADMIN)
    with store.writing() as db:
        service.create_account(db, actor=admin, name="kim", role=Role.RATER)
        service.set_role(db, actor=admin, account_name="kim", role=Role.ANALYST)
    with store.reading() as db:
        events = list(db.scalars(sa.select(AuditEvent).order_by(AuditEvent.at)))
    assert [event.action for event in events] == [
        "account.create",
        "account.create",
        "account.set_role",
    ]
    assert events[0].details == {"by": "system", "name": "root", "role": "admin"}
    assert events[2].account_id == admin.account_id
    assert events[2].details == {"from": "rater", "to": "analyst"}


def test_unknown_account_is_named(store: Store) -> None:
    with store.writing() as db, pytest.raises(NotFound, match="'ghost'"):
        service.set_role(db, actor=SYSTEM, account_name="ghost", role=Role.RATER)
