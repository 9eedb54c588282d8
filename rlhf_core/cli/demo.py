"""`demo load | clear | show`."""

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, reading, writing
from rlhf_core.demo import clearing, service
from rlhf_core.demo.service import DemoCounts


@click.group(name="demo", help="The demo world: load it to look around, clear it again.")
def command() -> None:
    """Choose what to do with the demo world."""


@command.command(help="Load about 3,000 made-up interactions with feedback, marked as demo.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which world.")
@json_option
def load(seed: int, as_json: bool) -> None:
    """Load the demo world."""
    with writing() as db:
        counts = service.load_demo(db, actor=SYSTEM, seed=seed)
    emit(counts, as_json=as_json, text=f"Loaded: {describe(counts)}.")


@command.command(help="Clear the demo world, and what was frozen and trained from it alone.")
@json_option
def clear(as_json: bool) -> None:
    """Clear the demo world; then remove the files that nothing names any more."""
    with writing() as db:
        cleared = service.clear_demo(db, actor=SYSTEM)
    clearing.remove_files(cleared.folders)
    emit(
        cleared,
        as_json=as_json,
        text=f"Cleared: {describe(cleared.counts)}; {cleared.num_dataset_versions} frozen "
        f"datasets and {cleared.num_model_versions} models made of them.",
    )


@command.command(help="Say how much of the demo world there is.")
@json_option
def show(as_json: bool) -> None:
    """Count what is there."""
    with reading() as db:
        counts = service.find_demo(db)
    text = "The demo world is not loaded." if counts is None else f"There are {describe(counts)}."
    emit(counts, as_json=as_json, text=text)


def describe(counts: DemoCounts) -> str:
    """The counts in words."""
    return (
        f"{counts.num_interactions:,} interactions with {counts.num_steps:,} steps, "
        f"{counts.num_feedback:,} feedback rows by {counts.num_raters:,} raters and users, "
        f"{counts.num_comparisons:,} comparisons, {counts.num_events:,} events"
    )
