"""Secrets that open the door: API tokens, browser sessions, one-time sign-in links.

Only a secret's SHA-256 is stored. A secret has 256 random bits, so a fast hash is enough.
"""

import hashlib
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import ROLE_PERMISSIONS, Actor, Permission, require
from rlhf_core.accounts.service import get_enabled_account
from rlhf_core.clock import new_id, utcnow
from rlhf_core.config import get_settings
from rlhf_core.errors import Forbidden, InvalidInput, NotFound
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import Account, Token
from rlhf_core.store.upsert import changed_rows
from rlhf_core.vocabulary import TokenKind

SESSION_VALID_S = 12 * 3600
LINK_VALID_S = 900
MAX_TOKEN_NAME_CHARS = 100
MAX_VALID_DAYS = 3650

# asked with every request and every key; built once: building it takes longer than running it
_ACCOUNT, _TOKEN = table_of(Account), table_of(Token)
_holder = (
    sa.select(_ACCOUNT.c.id, _ACCOUNT.c.name, _ACCOUNT.c.role, _TOKEN.c.scopes)
    .join(_TOKEN, _TOKEN.c.account_id == _ACCOUNT.c.id)
    .where(
        _TOKEN.c.token_hash == sa.bindparam("digest", type_=sa.String),
        _TOKEN.c.kind == sa.bindparam("kind", type_=_TOKEN.c.kind.type),
        _TOKEN.c.revoked_at.is_(None),
        sa.or_(
            _TOKEN.c.expires_at.is_(None),
            _TOKEN.c.expires_at > sa.bindparam("now", type_=_TOKEN.c.expires_at.type),
        ),
        _ACCOUNT.c.disabled_at.is_(None),
    )
)

_PREFIX = {TokenKind.API: "rlhf_", TokenKind.SESSION: "", TokenKind.SIGN_IN_LINK: ""}


@dataclass(frozen=True)
class TokenView:
    """An API token, without its secret."""

    id: uuid.UUID
    account_name: str
    name: str
    scopes: tuple[Permission, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def session_cookie_name() -> str:
    """The cookie of the browser session. Cookies ignore the port, so the name holds it."""
    return f"rlhf_session_{get_settings().port}"


def create_api_token(
    db: Session,
    *,
    actor: Actor,
    account_name: str,
    name: str,
    scopes: Iterable[Permission],
    expires_in_days: float | None = None,
) -> str:
    """Make a token for the account and return its secret, which is not shown again.

    Raises:
        InvalidInput: no scope, a scope that the account's role has not, a bad name or time.
    """
    require(actor, Permission.MANAGE_ACCOUNTS)
    account = get_enabled_account(db, account_name)
    wanted = frozenset(scopes)
    if not wanted:
        raise InvalidInput(
            "scopes: none given; a token without scopes opens nothing", field="scopes"
        )
    beyond = sorted(wanted - ROLE_PERMISSIONS[account.role])
    if beyond:
        raise InvalidInput(
            f"scopes: the role {account.role.value} of {account.name} has no {', '.join(beyond)}; "
            "leave it out or give the account another role",
            field="scopes",
        )
    cleaned = name.strip()
    if not cleaned or len(cleaned) > MAX_TOKEN_NAME_CHARS or not cleaned.isprintable():
        raise InvalidInput(
            f"name: {cleaned[:40]!r} is no token name; "
            f"use 1 to {MAX_TOKEN_NAME_CHARS} printable characters",
            field="name",
        )
    if expires_in_days is not None and not 0 < expires_in_days <= MAX_VALID_DAYS:
        raise InvalidInput(
            f"expires_in_days: is {expires_in_days}; use more than 0, at most {MAX_VALID_DAYS}",
            field="expires_in_days",
        )
    valid_s = None if expires_in_days is None else expires_in_days * 86_400
    token_id, secret = _add(
        db, account.id, TokenKind.API, valid_s=valid_s, name=cleaned, scopes=sorted(wanted)
    )
    record_event(
        db, actor=actor, action="token.create", target_kind="token", target_id=token_id,
        details={"account": account.name, "name": cleaned, "scopes": sorted(wanted)},
    )  # fmt: skip
    return secret


def find_api_actor(db: Session, secret: str) -> Actor | None:
    """Who calls with this API token: None if it is unknown, revoked, expired or shut out."""
    return _find_actor(db, secret, TokenKind.API)


def list_tokens(db: Session, *, actor: Actor) -> list[TokenView]:
    """All API tokens, newest first, the revoked ones too."""
    require(actor, Permission.MANAGE_ACCOUNTS)
    rows = db.execute(_select_views().order_by(Token.created_at.desc(), Token.id.desc()))
    return [_view(row[0], row[1]) for row in rows]


def revoke_token(db: Session, token_id: uuid.UUID, *, actor: Actor) -> TokenView:
    """Make an API token useless, for good.

    Raises:
        NotFound: there is no such API token.
    """
    require(actor, Permission.MANAGE_ACCOUNTS)
    found = db.execute(_select_views().where(Token.id == token_id)).one_or_none()
    if found is None:
        raise NotFound(f"There is no API token {token_id}; see `token list`.")
    token, account_name = found[0], found[1]
    token.revoked_at = token.revoked_at or utcnow()
    record_event(db, actor=actor, action="token.revoke", target_kind="token", target_id=token_id)
    return _view(token, account_name)


def create_sign_in_link(
    db: Session,
    *,
    actor: Actor,
    account_name: str,
    valid_s: float = LINK_VALID_S,
    name: str | None = None,
) -> str:
    """The secret of a link (`/login?token=...`) that signs the account in once.

    Of the links of one `name`, whosever they are, only the newest works.
    """
    require(actor, Permission.MANAGE_ACCOUNTS)
    account = get_enabled_account(db, account_name)
    if name is not None:
        db.execute(
            sa.update(Token)
            .where(
                Token.kind == TokenKind.SIGN_IN_LINK,
                Token.name == name,
                Token.used_at.is_(None),
                Token.revoked_at.is_(None),
            )
            .values(revoked_at=utcnow())
        )
    _, secret = _add(db, account.id, TokenKind.SIGN_IN_LINK, valid_s=valid_s, name=name)
    record_event(
        db, actor=actor, action="account.create_link", target_kind="account", target_id=account.id
    )
    return secret


def sign_in_url(secret: str) -> str:
    """The address that this machine's browser opens with the link's secret."""
    settings = get_settings()
    everywhere = settings.host in ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound
    host = "127.0.0.1" if everywhere else settings.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings.port}/login?token={secret}"


def redeem_sign_in_link(db: Session, secret: str) -> str:
    """Trade the link for a session's secret. Of two at once, one gets it.

    Raises:
        Forbidden: used, expired, or of a disabled account.
    """
    now = utcnow()
    taken = db.execute(
        sa.update(Token)
        .where(
            Token.token_hash == _digest(secret),
            Token.kind == TokenKind.SIGN_IN_LINK,
            Token.used_at.is_(None),
            Token.revoked_at.is_(None),
            Token.expires_at > now,
        )
        .values(used_at=now)
    )
    account = None
    if changed_rows(taken) == 1:
        account = db.scalar(
            sa.select(Account)
            .join(Token, Token.account_id == Account.id)
            .where(Token.token_hash == _digest(secret), Account.disabled_at.is_(None))
        )
    if account is None:
        raise Forbidden(
            "This sign-in link was used already, has expired, or a newer one replaced it; "
            "get a new one with `python -m rlhf_core user link NAME`."
        )
    return create_session(db, actor=Actor(account.name, account.role, account.id))


def create_session(db: Session, *, actor: Actor, valid_s: float = SESSION_VALID_S) -> str:
    """Sign the actor in: the secret of a new browser session.

    Raises:
        Forbidden: the actor has no account (the command line), or is an API token.
    """
    if actor.account_id is None or actor.scopes is not None:
        raise Forbidden(f"{actor.name} cannot sign in to the dashboard; use an account.")
    db.execute(
        sa.delete(Token).where(
            Token.kind.in_([TokenKind.SESSION, TokenKind.SIGN_IN_LINK]),
            Token.expires_at < utcnow(),
        )
    )
    session_id, secret = _add(db, actor.account_id, TokenKind.SESSION, valid_s=valid_s)
    record_event(
        db, actor=actor, action="session.create", target_kind="session", target_id=session_id
    )
    return secret


def find_session_actor(db: Session, secret: str) -> Actor | None:
    """Who is signed in with this session: None if it ended."""
    return _find_actor(db, secret, TokenKind.SESSION)


def revoke_session(db: Session, secret: str, *, actor: Actor) -> None:
    """Sign out. Does nothing where the session ended already."""
    db.execute(
        sa.update(Token)
        .where(
            Token.token_hash == _digest(secret),
            Token.kind == TokenKind.SESSION,
            Token.account_id == actor.account_id,
            Token.revoked_at.is_(None),
        )
        .values(revoked_at=utcnow())
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def _add(
    db: Session,
    account_id: uuid.UUID,
    kind: TokenKind,
    *,
    valid_s: float | None,
    name: str | None = None,
    scopes: list[Permission] | None = None,
) -> tuple[uuid.UUID, str]:
    secret = _PREFIX[kind] + secrets.token_urlsafe(32)
    now = utcnow()
    row = Token(
        id=new_id(),
        account_id=account_id,
        kind=kind,
        name=name,
        token_hash=_digest(secret),
        scopes=None if scopes is None else [scope.value for scope in scopes],
        created_at=now,
        expires_at=None if valid_s is None else now + timedelta(seconds=valid_s),
    )
    db.add(row)
    db.flush()
    return row.id, secret


def _find_actor(db: Session, secret: str, kind: TokenKind) -> Actor | None:
    asked = {"digest": _digest(secret), "kind": kind, "now": utcnow()}
    found = db.execute(_holder, asked).one_or_none()
    if found is None:
        return None
    scopes = None if kind is not TokenKind.API else frozenset(_known_scopes(found.scopes or []))
    return Actor(name=found.name, role=found.role, account_id=found.id, scopes=scopes)


def _known_scopes(stored: list[str]) -> Iterable[Permission]:
    """A scope that this code does not know any more opens nothing."""
    known = set(Permission)
    return (Permission(scope) for scope in stored if scope in known)


def _select_views() -> sa.Select[Token, str]:
    return (
        sa.select(Token, Account.name)
        .join(Account, Token.account_id == Account.id)
        .where(Token.kind == TokenKind.API)
    )


def _view(token: Token, account_name: str) -> TokenView:
    return TokenView(
        id=token.id,
        account_name=account_name,
        name=token.name or "",
        scopes=tuple(_known_scopes(token.scopes or [])),
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
    )
