"""`db upgrade | check | downgrade`."""

import click

from rlhf_core.cli.output import emit, json_option
from rlhf_core.config import get_settings
from rlhf_core.privacy.pseudonyms import check_key
from rlhf_core.store import migrate
from rlhf_core.store.engine import get_store


@click.group(name="db", help="Upgrade, check or downgrade the database.")
def command() -> None:
    """Choose what to do with the schema."""


@command.command(help="Bring the schema to this code's. Safe to run many at once.")
@json_option
def upgrade(as_json: bool) -> None:
    """Migrate up, then make sure that the pseudonym key is this database's."""
    store = get_store()
    revision = migrate.upgrade(store)
    with store.writing() as db:
        check_key(db, get_settings().read_secret_key())
    emit({"revision": revision}, as_json=as_json, text=f"The database has schema {revision}.")


@command.command(help="Say whether the schema is this code's.")
@json_option
def check(as_json: bool) -> None:
    """Exit 0 if the schema fits, 1 with what to do if not."""
    revision = migrate.check(get_store())
    emit({"revision": revision}, as_json=as_json, text=f"The database has schema {revision}: ok.")


@command.command(help="Migrate down to REVISION (`base`: drop all tables).")
@click.argument("revision")
@click.confirmation_option(prompt="Downgrading drops tables or columns and their data. Go on?")
@json_option
def downgrade(revision: str, as_json: bool) -> None:
    """Migrate down."""
    reached = migrate.downgrade(get_store(), revision) or "base"
    emit({"revision": reached}, as_json=as_json, text=f"The database has schema {reached}.")
