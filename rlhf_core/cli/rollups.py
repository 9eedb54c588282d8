"""`rollups refresh`: the daily counts behind the insights."""

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.rollups import mark_everything, refresh_rollups
from rlhf_core.cli.output import emit, json_option, writing


@click.group(name="rollups", help="Make the daily counts of the insights again.")
def command() -> None:
    """Choose what to do."""


@command.command(help="Count the days that changed; the worker does the same each minute.")
@click.option("--all", "is_all", is_flag=True, help="Count every day, as after a repair.")
@json_option
def refresh(is_all: bool, as_json: bool) -> None:
    """Count them in one transaction."""
    if is_all:
        with writing() as db:
            mark_everything(db, actor=SYSTEM)
    with writing() as db:
        num_left = refresh_rollups(db)
    text = "All days are counted."
    if num_left:
        text = f"{num_left} days are being changed right now: run it again for them."
    emit({"days_left": num_left}, as_json=as_json, text=text)
