"""`user create | list | set-role | disable | enable | link | password`."""

import sys

import click

from rlhf_core.accounts import service, tokens
from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, reading, say, writing
from rlhf_core.vocabulary import Role

role_option = click.Choice([role.value for role in Role])


@click.group(name="user", help="Accounts and sign-in links.")
def command() -> None:
    """Choose what to do with the accounts."""


@command.command(help="Add an account. Without a password it signs in by link.")
@click.argument("name")
@click.option("--role", type=role_option, required=True, help="What the account may do.")
@click.option("--with-password", is_flag=True, help="Ask for a password (piped: its first line).")
@json_option
def create(name: str, role: str, with_password: bool, as_json: bool) -> None:
    """Create the account, then say how it signs in."""
    password = _ask_password() if with_password else None
    with writing() as db:
        account = service.create_account(
            db, actor=SYSTEM, name=name, role=Role(role), password=password
        )
    emit(account, as_json=as_json, text=f"{account.name} is {account.role.value} now.")
    if password is None:
        say(f"Sign in with the link of: python -m rlhf_core user link {account.name!r}")


@command.command("list", help="All accounts, with role and state.")
@json_option
def list_(as_json: bool) -> None:
    """Print one line an account."""
    with reading() as db:
        accounts = service.list_accounts(db, actor=SYSTEM)
    lines = [
        f"{account.role.value:<8} {'disabled ' if account.disabled_at else 'enabled  '}"
        f"{account.created_at:%Y-%m-%d}  {account.name}"
        for account in accounts
    ]
    emit(accounts, as_json=as_json, text="\n".join(lines) or "No accounts yet.")


@command.command("set-role", help="Give an account another role.")
@click.argument("name")
@click.argument("role", type=role_option)
@json_option
def set_role(name: str, role: str, as_json: bool) -> None:
    """Change the role; it counts at once."""
    with writing() as db:
        account = service.set_role(db, actor=SYSTEM, account_name=name, role=Role(role))
    emit(account, as_json=as_json, text=f"{account.name} is {account.role.value} now.")


@command.command(help="Shut an account out at once.")
@click.argument("name")
@json_option
def disable(name: str, as_json: bool) -> None:
    """Disable the account."""
    with writing() as db:
        account = service.disable_account(db, actor=SYSTEM, account_name=name)
    emit(account, as_json=as_json, text=f"{account.name} can no longer sign in.")


@command.command(help="Let a disabled account in again.")
@click.argument("name")
@json_option
def enable(name: str, as_json: bool) -> None:
    """Enable the account."""
    with writing() as db:
        account = service.enable_account(db, actor=SYSTEM, account_name=name)
    emit(account, as_json=as_json, text=f"{account.name} can sign in again.")


@command.command(help="Make a sign-in link that works once.")
@click.argument("name")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, max=60 * 24 * 7, min_open=True),
    default=tokens.LINK_VALID_S / 60,
    show_default=True,
    help="How long it works.",
)
@json_option
def link(name: str, minutes: float, as_json: bool) -> None:
    """Print the link on stdout."""
    with writing() as db:
        secret = tokens.create_sign_in_link(
            db, actor=SYSTEM, account_name=name, valid_s=minutes * 60
        )
    url = tokens.sign_in_url(secret)
    emit({"url": url, "minutes": minutes}, as_json=as_json, text=url)


@command.command(help="Set a password (asked for; piped: its first line). Ends the sessions.")
@click.argument("name")
@json_option
def password(name: str, as_json: bool) -> None:
    """Set the password."""
    fresh = _ask_password()  # before the transaction: it must not wait for a person
    with writing() as db:
        account = service.set_password(db, actor=SYSTEM, account_name=name, password=fresh)
    emit(account, as_json=as_json, text=f"{account.name} has a new password.")


def _ask_password() -> str:
    """Ask on the terminal without showing it; from a pipe, the first line."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")
