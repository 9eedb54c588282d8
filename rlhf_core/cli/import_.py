"""`import FILE`."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, say
from rlhf_core.interchange.importers import ImportReport, OnProgress, import_file
from rlhf_core.interchange.mapping import TableMapping, load_mapping, mapping_of_pairs
from rlhf_core.store import migrate
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import ImportFormat

SHOWN_REASONS = 20


@click.command(
    name="import",
    help="Read interactions and feedback from FILE, or from the file of a folder that the mapping "
    "names. What is stored already is not stored again; lines that break a rule are listed and "
    "written to FILE.rejected.jsonl.",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_name",
    type=click.Choice([member.value for member in ImportFormat]),
    required=True,
    help="What the lines are.",
)
@click.option(
    "--map",
    "pairs",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="For a table: the column of a field, or FIELD:=VALUE. Many times.",
)
@click.option(
    "--mapping",
    "mapping_path",
    type=click.Path(path_type=Path),
    help="For a table: a mapping file (JSON).",
)
@click.option("--source", help="Name of the source. Default: the file's name, without suffix.")
@click.option("--dry-run", is_flag=True, help="Check everything, store nothing.")
@click.option(
    "--rejected",
    "rejected_path",
    type=click.Path(path_type=Path),
    help="Where refused lines go. Default: FILE.rejected.jsonl.",
)
@click.option("--workers", type=click.IntRange(0, 16), help="Processes that check lines.")
@json_option
def command(
    file: Path,
    format_name: str,
    pairs: tuple[str, ...],
    mapping_path: Path | None,
    source: str | None,
    dry_run: bool,
    rejected_path: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Import a file, with a progress bar on stderr."""
    chosen = ImportFormat(format_name)
    if (pairs or mapping_path) and chosen is not ImportFormat.TABLE:
        raise click.UsageError("--map and --mapping belong to --format table.")
    mapping: TableMapping | None = load_mapping(mapping_path) if mapping_path else None
    if pairs:
        mapping = mapping_of_pairs(pairs, mapping)
    migrate.check(get_store())
    with progress_bar(file.name) as on_progress:
        report = import_file(
            get_store(),
            file,
            format=chosen,
            actor=SYSTEM,
            mapping=mapping,
            source=source,
            dry_run=dry_run,
            on_progress=on_progress,
            rejected_path=rejected_path,
            num_workers=workers,
        )
    for line, reason in report.reasons[:SHOWN_REASONS]:
        say(f"Line {line}: {reason}")
    if report.rejected > SHOWN_REASONS:
        say(f"... and {report.rejected - SHOWN_REASONS} more in {report.rejected_path}")
    emit(
        {**dataclasses.asdict(report), "reasons": [r._asdict() for r in report.reasons]},
        as_json=as_json,
        text=describe_report(report),
    )


def describe_report(report: ImportReport) -> str:
    """The report in two or three sentences."""
    would = "would be " if report.is_dry_run else ""
    text = (
        f"{report.lines:,} lines read: {report.stored:,} {would}stored, "
        f"{report.duplicate:,} duplicate, {report.rejected:,} rejected.\n"
        f"New: {report.num_interactions:,} interactions, {report.num_steps:,} steps, "
        f"{report.num_feedback:,} feedback, {report.num_comparisons:,} comparisons, "
        f"{report.num_raters:,} raters (source {report.source!r})."
    )
    if report.rejected_path is not None:
        text += f"\nThe rejected lines are in {report.rejected_path}."
    return text


@contextmanager
def progress_bar(title: str) -> Iterator[OnProgress]:
    """A bar on stderr; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(escape(title)),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[lines]:,} lines"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=1.0, lines=0)
        yield lambda done, lines: progress.update(task, completed=done, lines=lines)
