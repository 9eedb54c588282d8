"""`token create | list | revoke`: secrets with which programs use the API."""

import uuid

import click

from rlhf_core.accounts import tokens
from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.accounts.service import FIRST_ADMIN
from rlhf_core.cli.output import emit, json_option, reading, say, writing


@click.group(name="token", help="API tokens.")
def command() -> None:
    """Choose what to do with the tokens."""


@command.command(help="Make a token. Its secret is printed once, on stdout.")
@click.argument("name")
@click.option("--account", default=FIRST_ADMIN, show_default=True, help="The account it acts for.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Permission]),
    multiple=True,
    required=True,
    help="What it may do; give it once for each scope.",
)
@click.option("--days", type=float, help="How long it works; without it, until it is revoked.")
@json_option
def create(
    name: str, account: str, scopes: tuple[str, ...], days: float | None, as_json: bool
) -> None:
    """Print the secret."""
    with writing() as db:
        secret = tokens.create_api_token(
            db,
            actor=SYSTEM,
            account_name=account,
            name=name,
            scopes=[Permission(scope) for scope in scopes],
            expires_in_days=days,
        )
    emit({"token": secret, "account": account, "scopes": scopes}, as_json=as_json, text=secret)
    say("Keep it now: it is stored as a hash and cannot be shown again.")


@command.command("list", help="All tokens, without their secrets.")
@json_option
def list_(as_json: bool) -> None:
    """Print one line a token."""
    with reading() as db:
        views = tokens.list_tokens(db, actor=SYSTEM)
    emit(views, as_json=as_json, text="\n".join(map(_line, views)) or "No tokens yet.")


@command.command(help="Make a token useless, for good.")
@click.argument("token_id", type=click.UUID)
@json_option
def revoke(token_id: uuid.UUID, as_json: bool) -> None:
    """Revoke the token."""
    with writing() as db:
        view = tokens.revoke_token(db, token_id, actor=SYSTEM)
    emit(view, as_json=as_json, text=f"The token {view.name} no longer works.")


def _line(view: tokens.TokenView) -> str:
    state = "revoked" if view.revoked_at else "works"
    if view.expires_at and not view.revoked_at:
        state = f"until {view.expires_at:%Y-%m-%d}"
    return f"{view.id}  {state:<16} {view.account_name}: {view.name}  [{', '.join(view.scopes)}]"
