"""Accounts: who can sign in, in which role."""

import uuid
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.passwords import hash_password, verify_password
from rlhf_core.accounts.permissions import SYSTEM, Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.store.tables import Account, Token
from rlhf_core.store.upsert import insert_if_absent
from rlhf_core.vocabulary import Role, TokenKind

FIRST_ADMIN = "admin"
MAX_NAME_CHARS = 100


@dataclass(frozen=True)
class AccountView:
    """An account as others see it; `disabled_at` is None while it can sign in."""

    id: uuid.UUID
    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None


def create_account(
    db: Session, *, actor: Actor, name: str, role: Role, password: str | None = None
) -> AccountView:
    """Add an account. Without a password it signs in by link only.

    Raises:
        Conflict: the name is taken.
        InvalidInput: the name or the password breaks a rule.
    """
    require(actor, Permission.MANAGE_ACCOUNTS)
    row = _new_row(name, role)
    row["password_hash"] = None if password is None else hash_password(password)
    if insert_if_absent(db, Account, [row]) == 0:
        raise Conflict(f"There is an account {row['name']} already; choose another name.")
    record_event(
        db, actor=actor, action="account.create", target_kind="account", target_id=row["id"],
        details={"name": row["name"], "role": role.value},
    )  # fmt: skip
    return _view(_get(db, name))


def find_account(db: Session, name: str) -> AccountView | None:
    """The account of that name, or None."""
    row = db.scalar(sa.select(Account).where(Account.name == name.strip()))
    return None if row is None else _view(row)


def list_accounts(db: Session, *, actor: Actor) -> list[AccountView]:
    """All accounts by name, the disabled ones too."""
    require(actor, Permission.MANAGE_ACCOUNTS)
    return [_view(row) for row in db.scalars(sa.select(Account).order_by(Account.name))]


def set_role(db: Session, *, actor: Actor, account_name: str, role: Role) -> AccountView:
    """Give the account another role; it counts from the next request on.

    Raises:
        Conflict: it is the last admin.
    """
    require(actor, Permission.MANAGE_ACCOUNTS)
    row = _get(db, account_name)
    if role is not Role.ADMIN:
        _keep_an_admin(db, row)
    before, row.role = row.role, role
    record_event(
        db, actor=actor, action="account.set_role", target_kind="account", target_id=row.id,
        details={"from": before.value, "to": role.value},
    )  # fmt: skip
    return _view(row)


def disable_account(db: Session, *, actor: Actor, account_name: str) -> AccountView:
    """Shut the account out at once: its sessions end and its tokens stop to work.

    Raises:
        Conflict: it is the last admin.
    """
    require(actor, Permission.MANAGE_ACCOUNTS)
    row = _get(db, account_name)
    _keep_an_admin(db, row)
    row.disabled_at = row.disabled_at or utcnow()
    _end_sessions(db, row.id)
    record_event(db, actor=actor, action="account.disable", target_kind="account", target_id=row.id)
    return _view(row)


def enable_account(db: Session, *, actor: Actor, account_name: str) -> AccountView:
    """Let a disabled account in again; its API tokens work again, its sessions do not."""
    require(actor, Permission.MANAGE_ACCOUNTS)
    row = _get(db, account_name)
    row.disabled_at = None
    record_event(db, actor=actor, action="account.enable", target_kind="account", target_id=row.id)
    return _view(row)


def set_password(db: Session, *, actor: Actor, account_name: str, password: str) -> AccountView:
    """Set the password and end the account's sessions. An admin may; a person for themselves.

    Raises:
        InvalidInput: the password is too short or too long.
    """
    row = _get(db, account_name)
    is_own = actor.account_id == row.id and actor.scopes is None
    if not is_own:
        require(actor, Permission.MANAGE_ACCOUNTS)
    row.password_hash = hash_password(password)
    _end_sessions(db, row.id)
    record_event(
        db, actor=actor, action="account.set_password", target_kind="account", target_id=row.id
    )
    return _view(row)


def authenticate(db: Session, name: str, password: str) -> Actor | None:
    """The actor, if the account is enabled and this is its password.

    An unknown name takes as long as a wrong password, so that names cannot be probed.
    """
    row = db.scalar(sa.select(Account).where(Account.name == name.strip()))
    usable = row is not None and row.disabled_at is None
    stored = row.password_hash if row is not None and usable else None
    if not verify_password(password, stored) or row is None:
        return None
    return Actor(name=row.name, role=row.role, account_id=row.id)


def ensure_first_admin(db: Session) -> AccountView:
    """An admin who can sign in; `admin` is made where there is none, as at the first start."""
    for _ in range(2):
        row = db.scalar(
            sa.select(Account)
            .where(Account.role == Role.ADMIN, Account.disabled_at.is_(None))
            .order_by(Account.name != FIRST_ADMIN, Account.created_at)
            .limit(1)
        )
        if row is not None:
            return _view(row)
        insert = _new_row(FIRST_ADMIN, Role.ADMIN)
        if insert_if_absent(db, Account, [insert]):
            record_event(
                db, actor=SYSTEM, action="account.create", target_kind="account",
                target_id=insert["id"], details={"name": FIRST_ADMIN, "role": Role.ADMIN.value},
            )  # fmt: skip
    raise Conflict(f"No admin can sign in: `python -m rlhf_core user enable {FIRST_ADMIN}`.")


def get_enabled_account(db: Session, name: str) -> AccountView:
    """The account of that name.

    Raises:
        NotFound: no account bears it.
        Forbidden: it is disabled.
    """
    row = _get(db, name)
    if row.disabled_at is not None:
        raise Forbidden(f"The account {row.name} is disabled; an admin can enable it.")
    return _view(row)


def is_account_name(name: str) -> bool:
    """Whether an account may bear the name: 1 to `MAX_NAME_CHARS` printable characters."""
    return 0 < len(name) <= MAX_NAME_CHARS and name.isprintable()


def _new_row(name: str, role: Role) -> dict[str, object]:
    cleaned = name.strip()
    if not is_account_name(cleaned):
        raise InvalidInput(
            f"name: {cleaned[:40]!r} is no account name; "
            f"use 1 to {MAX_NAME_CHARS} printable characters",
            field="name",
        )
    return {
        "id": new_id(), "name": cleaned, "role": role, "password_hash": None,
        "created_at": utcnow(), "disabled_at": None,
    }  # fmt: skip


def _get(db: Session, name: str) -> Account:
    row = db.scalar(sa.select(Account).where(Account.name == name.strip()))
    if row is None:
        raise NotFound(f"There is no account {name.strip()[:100]!r}; see `user list`.")
    return row


def _keep_an_admin(db: Session, row: Account) -> None:
    """Refuse to take away the last admin, also when two admins try it on each other (row locks)."""
    admins = db.scalars(
        sa.select(Account.id)
        .where(Account.role == Role.ADMIN, Account.disabled_at.is_(None))
        .order_by(Account.id)
        .with_for_update()
    ).all()
    if list(admins) == [row.id]:
        raise Conflict(f"{row.name} is the last admin; make another account an admin first.")


def _end_sessions(db: Session, account_id: uuid.UUID) -> None:
    db.execute(
        sa.update(Token)
        .where(
            Token.account_id == account_id,
            Token.kind.in_([TokenKind.SESSION, TokenKind.SIGN_IN_LINK]),
            Token.revoked_at.is_(None),
        )
        .values(revoked_at=utcnow())
    )


def _view(row: Account) -> AccountView:
    return AccountView(row.id, row.name, row.role, row.created_at, row.disabled_at)
