"""`evaluate`: examine a registered version on a frozen dataset, as a background job."""

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import json_option, writing
from rlhf_core.cli.waiting import report_job, wait_option
from rlhf_core.errors import InvalidInput
from rlhf_core.jobs.evaluate import SPLITS, enqueue_evaluate
from rlhf_core.jobs.evaluate_policy import enqueue_evaluate_policy
from rlhf_core.jobs.service import JobView
from rlhf_core.registry.service import REWARD_MODEL, get_version_by_number
from rlhf_core.vocabulary import ModelKind


@click.command(name="evaluate", help="Examine version NUMBER of a model on a frozen dataset.")
@click.argument("number", type=int)
@click.option("--model", default=REWARD_MODEL, show_default=True, help="Model name.")
@click.option("--dataset", required=True, help="Name of the frozen rows.")
@click.option("--dataset-number", type=int, help="Their version; the newest unless given.")
@click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True)
@click.option("--judge", help="Of a policy: the reward model (name@number) or rule that judges.")
@wait_option
@json_option
def command(
    number: int,
    model: str,
    dataset: str,
    dataset_number: int | None,
    split: str,
    judge: str | None,
    is_waiting: bool,
    as_json: bool,
) -> None:
    """Queue the run; `models evaluations` shows what it found."""
    report_job(
        _enqueue(number, model, dataset, dataset_number, split, judge),
        is_waiting=is_waiting,
        as_json=as_json,
    )


def _enqueue(
    number: int, model: str, dataset: str, dataset_number: int | None, split: str, judge: str | None
) -> JobView:
    with writing() as db:
        version = get_version_by_number(db, model, number, actor=SYSTEM)
        if version.kind is ModelKind.POLICY:
            return enqueue_evaluate_policy(
                db,
                actor=SYSTEM,
                version_id=version.id,
                dataset=dataset,
                number=dataset_number,
                judge=judge,
                split=split,
            )
        if judge is not None:
            raise InvalidInput(
                f"{version.name} is a reward model: leave --judge out, it is of policies."
            )
        return enqueue_evaluate(
            db,
            actor=SYSTEM,
            version_id=version.id,
            dataset=dataset,
            number=dataset_number,
            split=split,
        )
