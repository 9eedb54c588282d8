"""`compare start | list | show | ask`: versions of a model side by side on frozen rows."""

import uuid

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, reading, to_json, writing
from rlhf_core.cli.waiting import report_job, wait_option
from rlhf_core.jobs.compare_versions import enqueue_compare_versions
from rlhf_core.jobs.comparing import tell
from rlhf_core.jobs.evaluate import SPLITS
from rlhf_core.queues.reward_pairs import PeopleVerdict, create_version_queue, list_people
from rlhf_core.registry.comparisons import ComparisonHead, get_comparison, list_comparisons
from rlhf_core.registry.service import REWARD_MODEL, get_version, get_version_by_number

model_option = click.option("--model", default=REWARD_MODEL, show_default=True, help="Model name.")


@click.group(name="compare", help="Compare versions of a model on the same frozen rows.")
def command() -> None:
    """Choose what to do with comparisons."""


@command.command(help="Compare versions NUMBERS; the first is what the others are compared with.")
@click.argument("numbers", type=int, nargs=-1, required=True)
@model_option
@click.option("--dataset", required=True, help="Name of the frozen rows.")
@click.option("--dataset-number", type=int, help="Their version; the newest unless given.")
@click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True)
@click.option("--judge", help="Of policies: the reward model (name@number) or rule that judges.")
@click.option("--with-learned", is_flag=True, help="Also on prompts that one of them learned from.")
@wait_option
@json_option
def start(
    numbers: tuple[int, ...],
    model: str,
    dataset: str,
    dataset_number: int | None,
    split: str,
    judge: str | None,
    with_learned: bool,
    is_waiting: bool,
    as_json: bool,
) -> None:
    """Queue the run; `compare show` has what it found."""
    with writing() as db:
        versions = [get_version_by_number(db, model, number, actor=SYSTEM) for number in numbers]
        job = enqueue_compare_versions(
            db,
            actor=SYSTEM,
            version_ids=[version.id for version in versions],
            dataset=dataset,
            number=dataset_number,
            split=split,
            judge=judge,
            with_learned=with_learned,
        )
    report_job(job, is_waiting=is_waiting, as_json=as_json)


@command.command(name="list", help="The newest comparisons, the latest first.")
@click.option("--model", help="Only this model's.")
@json_option
def list_(model: str | None, as_json: bool) -> None:
    """One line a comparison."""
    with reading() as db:
        found = list_comparisons(db, actor=SYSTEM, model_name=model)
    lines = [f"{one.id}  {one.created_at:%Y-%m-%d %H:%M}  {_name(one)}" for one in found]
    emit(found, as_json=as_json, text="\n".join(lines) or "Nothing was compared yet.")


@command.command(help="What comparison ID found, and with whom people side.")
@click.argument("comparison_id", metavar="ID", type=click.UUID)
@json_option
def show(comparison_id: uuid.UUID, as_json: bool) -> None:
    """A sentence; --json has every figure with its interval."""
    with reading() as db:
        found = get_comparison(db, comparison_id, actor=SYSTEM)
        versions = [get_version(db, one, actor=SYSTEM) for one in found.version_ids]
        people = list_people(db, actor=SYSTEM, comparison_ids=[comparison_id])
    where = f"{found.num_rows:,} rows of {found.dataset or 'rows that are gone'}"
    lines = [tell(versions, found.result, where), *map(_tell_people, people)]
    shown = {**to_json(found), "people": people}
    emit(shown, as_json=as_json, text="\n".join(lines))


@command.command(help="Let people judge, blind, what comparison ID's versions disagree on.")
@click.argument("comparison_id", metavar="ID", type=click.UUID)
@click.argument("number", type=int)
@click.option("--against", type=int, help="Version number; the first one compared unless given.")
@click.option("--overlap", type=int, default=1, show_default=True, help="Raters an item.")
@json_option
def ask(
    comparison_id: uuid.UUID, number: int, against: int | None, overlap: int, as_json: bool
) -> None:
    """Make the queue."""
    with writing() as db:
        model = get_comparison(db, comparison_id, actor=SYSTEM).model_name
        version = get_version_by_number(db, model, number, actor=SYSTEM)
        other = None
        if against is not None:
            other = get_version_by_number(db, model, against, actor=SYSTEM).id
        queue = create_version_queue(
            db,
            actor=SYSTEM,
            comparison_id=comparison_id,
            version_id=version.id,
            other_id=other,
            overlap=overlap,
        )
    emit(queue, as_json=as_json, text=f"{queue.num_items} items wait in the queue {queue.name!r}.")


def _name(found: ComparisonHead) -> str:
    versions = ", ".join(found.names.values())
    rows = f"{found.num_rows:,} rows of {found.dataset or 'rows that are gone'}, {found.split}"
    return f"{versions}  on {rows}"


def _tell_people(people: PeopleVerdict) -> str:
    verdict = people.verdict
    rate = verdict.win_rate
    if rate is None:
        return f"People: nobody has judged the {verdict.num_pairs} items yet."
    return (
        f"People side with {people.version} against {verdict.other} in {rate.value:.0%} of "
        f"{verdict.num_compared} items ({rate.low:.0%} to {rate.high:.0%})."
    )
