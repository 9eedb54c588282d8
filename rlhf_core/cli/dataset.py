"""`dataset freeze | check | list | show | card | export`."""

import sys
from pathlib import Path

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.dataset_options import dataset_options
from rlhf_core.cli.output import emit, json_option, reading, say, to_json, writing
from rlhf_core.dataset import service
from rlhf_core.dataset.card_text import card_markdown
from rlhf_core.dataset.export import begin_export, export_version
from rlhf_core.dataset.params import DATASET_NAMES, DatasetParams
from rlhf_core.dataset.readiness import check_readiness
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import DatasetVersionView
from rlhf_core.dataset.splits import MAX_PART_PERCENT, SplitParams
from rlhf_core.demo.marks import find_marks
from rlhf_core.vocabulary import DatasetFormat, Split

number_option = click.option(
    "--number", type=click.IntRange(1), help="Which version. Default: the newest."
)


@click.group(name="dataset", help="Freeze, list and export training rows.")
def command() -> None:
    """Choose what to do."""


@command.command(
    help="Freeze rows as the next version of the dataset NAME (default by purpose: "
    f"{', '.join(f'`{name}`' for name in DATASET_NAMES.values())})."
)
@click.argument("name", required=False)
@dataset_options
@click.option(
    "--test-percent",
    type=click.FloatRange(0, MAX_PART_PERCENT),
    default=0.0,
    show_default=True,
    help="Prompts that are kept for the examination.",
)
@click.option(
    "--validation-percent",
    type=click.FloatRange(0, MAX_PART_PERCENT),
    default=0.0,
    show_default=True,
    help="Prompts that are kept for choosing while training.",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Which prompts those are.")
@json_option
def freeze(
    name: str | None,
    params: DatasetParams,
    test_percent: float,
    validation_percent: float,
    seed: int,
    as_json: bool,
) -> None:
    """Write the rows and register them; equal rows stay the version they are."""
    split = SplitParams(test_percent, validation_percent, seed)
    with reading() as db:
        staged = stage_rows(db, params=params, split=split)
    with writing() as db:
        frozen = service.freeze_version(
            db, actor=SYSTEM, name=name or DATASET_NAMES[params.purpose], staged=staged
        )
    state = "frozen" if frozen.was_created else "unchanged since"
    emit(frozen, as_json=as_json, text=f"{one_line(frozen.version)}  {state}")


@command.command(help="What there is for a purpose, what is left out and why, what is short.")
@dataset_options
@json_option
def check(params: DatasetParams, as_json: bool) -> None:
    """Print the readiness."""
    with reading() as db:
        ready = check_readiness(db, actor=SYSTEM, params=params)
    lines = [ready.advice, *(f"{count:>9,}  {reason}" for reason, count in ready.left_out.items())]
    emit(ready, as_json=as_json, text="\n".join(lines))


@command.command(name="list", help="All versions of all datasets, or of NAME.")
@click.argument("name", required=False)
@json_option
def list_(name: str | None, as_json: bool) -> None:
    """Print one line a version."""
    with reading() as db:
        versions = service.list_versions(db, actor=SYSTEM, name=name)
        marked = find_marks(db).dataset_versions
    shown = [{**to_json(version), "is_demo": version.id in marked} for version in versions]
    lines = [one_line(version) + "  demo" * (version.id in marked) for version in versions]
    emit(shown, as_json=as_json, text="\n".join(lines) or "There are no datasets.")


@command.command(help="Everything about the dataset NAME: its newest version, or --number.")
@click.argument("name")
@number_option
@json_option
def show(name: str, number: int | None, as_json: bool) -> None:
    """Print the version."""
    with reading() as db:
        version = service.get_version(db, name, number, actor=SYSTEM)
    emit(version, as_json=as_json)


@command.command(help="The data card of the dataset NAME, as Markdown.")
@click.argument("name")
@number_option
def card(name: str, number: int | None) -> None:
    """Print the card."""
    with reading() as db:
        version = service.get_version(db, name, number, actor=SYSTEM)
    click.echo(card_markdown(version), nl=False)


@command.command(
    help="Write the rows of the dataset NAME to a file, or to stdout; the same version gives the "
    "same bytes."
)
@click.argument("name")
@number_option
@click.option(
    "--format",
    "format_name",
    type=click.Choice([member.value for member in DatasetFormat]),
    required=True,
    help="What to write.",
)
@click.option(
    "--split",
    "split_name",
    type=click.Choice([member.value for member in Split]),
    help="Only the rows of this part. Default: all.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The file. Default: stdout.")
@json_option
def export(
    name: str,
    number: int | None,
    format_name: str,
    split_name: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Export, streamed."""
    if as_json and out is None:
        raise click.UsageError("--json prints the report on stdout: give the data a file, --out.")
    format = DatasetFormat(format_name)
    split = Split(split_name) if split_name else None
    with writing() as db:
        version = service.get_version(db, name, number, actor=SYSTEM)
        begin_export(db, actor=SYSTEM, version=version, format=format, split=split)
    num_rows = export_version(version, format, out or sys.stdout.buffer, split=split)
    text = f"{num_rows:,} rows of {version.name} written"
    if out is None:
        say(f"{text}.")
        return
    report = {"dataset": version.name, "rows": num_rows, "path": out, "format": format}
    emit(report, as_json=as_json, text=f"{text} to {out}.")


def one_line(version: DatasetVersionView) -> str:
    """A version in one line."""
    left_out = sum(version.left_out.values())
    return (
        f"{version.name}  {version.purpose.value}  {version.num_rows} rows of "
        f"{version.num_groups} prompts  {left_out} left out  {version.content_hash[:12]}  "
        f"{version.created_at:%Y-%m-%d %H:%M}"
    )
