"""`dataset freeze | list | show`."""

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, reading, writing
from rlhf_core.dataset import service
from rlhf_core.dataset.builder import ScoresParams
from rlhf_core.dataset.rows_file import SplitParams, stage_scores
from rlhf_core.dataset.service import DatasetVersionView
from rlhf_core.errors import NotEnoughData


@click.group(name="dataset", help="Freeze and list training rows.")
def command() -> None:
    """Choose what to do."""


@command.command(help="Freeze the rated completions as the next version of the dataset NAME.")
@click.argument("name", default="ratings")
@click.option("--source", help="Only interactions of this source.")
@click.option("--include-demo", is_flag=True, help="Also the demo's interactions.")
@click.option(
    "--test-percent",
    type=click.FloatRange(0, 50),
    default=0.0,
    show_default=True,
    help="Prompts that are kept out of training.",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Which prompts those are.")
@json_option
def freeze(
    name: str,
    source: str | None,
    include_demo: bool,
    test_percent: float,
    seed: int,
    as_json: bool,
) -> None:
    """Write the rows and register them; equal rows stay the version they are."""
    with reading() as db:
        staged = stage_scores(
            db,
            params=ScoresParams(source=source, include_demo=include_demo),
            split=SplitParams(test_percent=test_percent, seed=seed),
        )
    if staged.num_rows == 0:
        raise NotEnoughData(have=0, need=1, what="rated interactions")
    with writing() as db:
        frozen = service.freeze_version(db, actor=SYSTEM, name=name, staged=staged)
    state = "frozen" if frozen.was_created else "unchanged since"
    emit(frozen, as_json=as_json, text=f"{one_line(frozen.version)}  {state}")


@command.command(name="list", help="All versions of all datasets, or of NAME.")
@click.argument("name", required=False)
@json_option
def list_(name: str | None, as_json: bool) -> None:
    """Print one line a version."""
    with reading() as db:
        versions = service.list_versions(db, actor=SYSTEM, name=name)
    emit(
        versions,
        as_json=as_json,
        text="\n".join(map(one_line, versions)) or "There are no datasets.",
    )


@command.command(help="Everything about the dataset NAME: its newest version, or --number.")
@click.argument("name")
@click.option("--number", type=click.IntRange(1))
@json_option
def show(name: str, number: int | None, as_json: bool) -> None:
    """Print the version."""
    with reading() as db:
        version = service.get_version(db, name, number, actor=SYSTEM)
    emit(version, as_json=as_json)


def one_line(version: DatasetVersionView) -> str:
    """A version in one line."""
    left_out = sum(version.left_out.values())
    return (
        f"{version.name}  {version.num_rows} rows of {version.num_groups} prompts"
        f"  {left_out} left out  {version.content_hash[:12]}  {version.created_at:%Y-%m-%d %H:%M}"
    )
