"""`export`."""

import sys
from pathlib import Path

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, say
from rlhf_core.interchange.exporters import export_file, export_to
from rlhf_core.store import migrate
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import ExportFormat


@click.command(
    name="export",
    help="Write interactions and feedback to a file, or to stdout. `native` holds everything and "
    "can be imported again; users and raters leave under their pseudonyms.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice([member.value for member in ExportFormat]),
    required=True,
    help="What to write.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The file. Default: stdout.")
@click.option("--source", help="Only this source.")
@json_option
def command(format_name: str, out: Path | None, source: str | None, as_json: bool) -> None:
    """Export, streamed."""
    if as_json and out is None:
        raise click.UsageError("--json prints the report on stdout: give the data a file, --out.")
    store = get_store()
    migrate.check(store)
    chosen = ExportFormat(format_name)
    if out is None:
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        report = export_to(store, sys.stdout, format=chosen, actor=SYSTEM, source=source)
        say(f"{report.lines:,} lines written.")
        return
    report = export_file(store, out, format=chosen, actor=SYSTEM, source=source)
    emit(report, as_json=as_json, text=f"{report.lines:,} lines written to {out}.")
