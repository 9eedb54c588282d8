"""`train reward | sbert | transformer | steps | ppo | ...`: train a model as a background job."""

from collections.abc import Callable
from typing import Any

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import json_option, reading, say, writing
from rlhf_core.cli.train_policy import add_policy_commands, both
from rlhf_core.cli.waiting import report_job, wait_option
from rlhf_core.dataset.params import DATASET_NAMES, DatasetParams, Filters
from rlhf_core.errors import InvalidInput
from rlhf_core.jobs.train_params import LEARNERS, TrainRewardParams
from rlhf_core.jobs.train_reward import enqueue_train_reward
from rlhf_core.registry.service import REWARD_MODEL
from rlhf_core.vocabulary import DatasetPurpose, JobKind, MergeRule

Command = Callable[..., None]


@click.group(name="train", help="Train a model as a background job.")
def command() -> None:
    """Choose what to train."""


add_policy_commands(command)
command.add_command(both)


def shared_options(function: Command) -> Command:
    """What every learner takes: the rows, the names, how many models."""
    names = ", ".join(f"`{name}`" for name in DATASET_NAMES.values())
    options = [
        click.option("--seed", type=int, default=0, show_default=True),
        click.option("--seeds", type=int, default=1, show_default=True, help="Ensemble members."),
        click.option(
            "--judge",
            "with_judge",
            is_flag=True,
            help="Learn from half of the prompts, and train a judge on the other half.",
        ),
        click.option(
            "--dataset", default="", help=f"Name of the rows; default by purpose: {names}."
        ),
        click.option("--number", type=int, help="Learn from this frozen version of --dataset."),
        click.option("--model", default=REWARD_MODEL, show_default=True, help="Name of the model."),
        click.option("--source", help="Learn only from interactions of this source."),
        click.option("--action-type", help="Learn only from interactions of this kind of action."),
        click.option(
            "--merge",
            type=click.Choice([rule.value for rule in MergeRule]),
            default=MergeRule.MEAN.value,
            show_default=True,
            help="How several raters become one answer.",
        ),
        click.option(
            "--test-percent",
            type=float,
            default=20.0,
            show_default=True,
            help="Prompts kept for the examination, where there are rows enough.",
        ),
        click.option(
            "--option",
            "pairs",
            multiple=True,
            metavar="NAME=VALUE",
            help="Any other parameter of the learner; may be repeated.",
        ),
        wait_option,
        json_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


def from_option(learner: JobKind) -> Callable[[Command], Command]:
    """What the rows are, for learners that take rows of several purposes."""
    purposes = [purpose.value for purpose in LEARNERS[learner]]
    return click.option(
        "--from",
        "purpose",
        type=click.Choice(purposes),
        default=purposes[0],
        show_default=True,
        help="What to learn from.",
    )


threshold_option = click.option(
    "--threshold",
    type=float,
    default=4.0,
    show_default=True,
    help="A mean rating at or above it is good.",
)


@command.command(help="The reward model that suits the feedback that is there.")
@shared_options
def reward(**given: Any) -> None:
    """Queue the run; with --wait exit 0 only if it succeeded."""
    from rlhf_core.jobs.reward_advice import recommend_reward

    with reading() as db:
        found = recommend_reward(db, actor=SYSTEM)
    say(f"{found.learner.value}: {found.why}")
    queue(found.learner, given)


@command.command(help="The reward model of sentence embeddings: seconds, from 50 ratings up.")
@threshold_option
@from_option(JobKind.TRAIN_SBERT)
@shared_options
def sbert(**given: Any) -> None:
    """Queue the run; with --wait exit 0 only if it succeeded."""
    queue(JobKind.TRAIN_SBERT, given)


@command.command(help="A reward model that reads prompt and completion together: a tuned network.")
@threshold_option
@from_option(JobKind.TRAIN_TRANSFORMER)
@click.option("--base", help="`minilm` (bundled), a folder, or a hub id.")
@click.option("--epochs", type=int)
@click.option("--lr", type=float, help="Learning rate of the uppermost layer.")
@click.option("--batch-size", type=int)
@click.option("--max-tokens", type=int, help="Of prompt and completion together.")
@click.option("--lora-rank", type=int, help="Train adapters of this rank; 0 trains all weights.")
@click.option("--precision", help="auto, fp32, bf16 or fp16.")
@shared_options
def transformer(**given: Any) -> None:
    """Queue the run; with --wait exit 0 only if it succeeded."""
    queue(JobKind.TRAIN_TRANSFORMER, given)


@command.command(help="A model of reasoning steps: how likely each step is right.")
@click.option("--base", help="`minilm` (bundled), a folder, or a hub id.")
@click.option("--epochs", type=int)
@click.option("--lr", type=float)
@click.option("--batch-size", type=int)
@shared_options
def steps(**given: Any) -> None:
    """Queue the run; with --wait exit 0 only if it succeeded."""
    queue(JobKind.TRAIN_STEPS, given)


def queue(learner: JobKind, given: dict[str, Any]) -> None:
    """Queue a run of what the command line gave; follow it where asked."""
    is_waiting, as_json = given.pop("is_waiting"), given.pop("as_json")
    threshold = given.pop("threshold", DatasetParams.threshold)
    rows = DatasetParams(
        purpose=DatasetPurpose(given.pop("purpose", LEARNERS[learner][0])),
        filters=Filters(source=given.pop("source"), action_type=given.pop("action_type")),
        threshold=threshold,
        merge=MergeRule(given.pop("merge")),
    )
    taken = ("dataset", "number", "model", "seeds", "with_judge", "test_percent")
    fields = {name: given.pop(name) for name in taken}
    options = parse_options(given.pop("pairs"))
    options |= {name: value for name, value in given.items() if value is not None}
    params = TrainRewardParams(learner=learner, rows=rows, options=options, **fields)
    with writing() as db:
        job = enqueue_train_reward(db, actor=SYSTEM, params=params)
    report_job(job, is_waiting=is_waiting, as_json=as_json)


def parse_options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """The values of `name=value`; numbers, lists and true or false as JSON, all else as text."""
    import json

    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.strip():
            raise InvalidInput(f"--option {pair!r}: write NAME=VALUE.", field="option")
        try:
            found[name.strip()] = json.loads(text)
        except ValueError:
            found[name.strip()] = text
    return found
