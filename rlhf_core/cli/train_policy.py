"""`train starter | sft | dpo | kto | rloo | grpo | ppo | distil | both`: train a policy."""

from collections.abc import Callable
from typing import Any

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, reading, say, writing
from rlhf_core.cli.waiting import report_job, wait_option
from rlhf_core.dataset.params import DATASET_NAMES, DatasetParams, Filters
from rlhf_core.errors import InvalidInput
from rlhf_core.jobs.policy_params import (
    AUTO,
    NO_JUDGE,
    POLICY_LEARNERS,
    REWARDED,
    STARTER,
    RewardPart,
    TrainPolicyParams,
)
from rlhf_core.registry.service import POLICY_MODEL, REWARD_MODEL
from rlhf_core.vocabulary import JobKind, Resource

Command = Callable[..., None]
Options = list[Callable[[Command], Command]]
HELP = {
    JobKind.TRAIN_STARTER: "A small policy from nothing but the stored interactions: a minute.",
    JobKind.TRAIN_SFT: "Imitate good answers and corrections.",
    JobKind.TRAIN_DPO: "Learn from pairs of answers, without a reward model.",
    JobKind.TRAIN_KTO: "Learn from thumbs, without a reward model.",
    JobKind.TRAIN_RLOO: "Improve by a reward; the other answers to a prompt are the baseline.",
    JobKind.TRAIN_GRPO: "Improve by a reward, relative to the group of a prompt's answers.",
    JobKind.TRAIN_PPO: "Improve by a reward, near the base: proximal policy optimisation.",
    JobKind.DISTIL: "Teach a small policy what a bigger one answers (--option teacher=NAME).",
}
STEPS = {JobKind.TRAIN_PPO: "updates"}
OWN = (
    "base",
    "dataset",
    "number",
    "model",
    "held_out",
    "num_processes",
    "num_machines",
    "test_percent",
)


def add_policy_commands(group: click.Group) -> None:
    """Give the group a command for each learner of policies."""
    for learner in POLICY_LEARNERS:
        group.add_command(_make_command(learner))


def parse_reward(text: str) -> RewardPart:
    """The objective of `NAME[@NUMBER][=WEIGHT]`."""
    name, sign, weight = text.rpartition("=")
    if not sign:
        return RewardPart(text.strip())
    try:
        return RewardPart(name.strip(), float(weight))
    except ValueError as error:
        raise InvalidInput(
            f"--reward {text!r}: write NAME or NAME=WEIGHT, such as reward@3=0.7.", field="rewards"
        ) from error


def queue_policy(learner: JobKind, given: dict[str, Any]) -> None:
    """Check and queue a run of what the command line gave; follow it where asked."""
    from rlhf_core.jobs.policy_checks import check_policy, estimate_policy
    from rlhf_core.jobs.train_policy import enqueue_train_policy

    is_waiting, as_json = given.pop("is_waiting"), given.pop("as_json")
    is_checking, on_cpu = given.pop("is_checking"), given.pop("on_cpu")
    priority = given.pop("priority")
    params = make_params(learner, given)
    with reading() as db:
        obstacles = check_policy(db, actor=SYSTEM, params=params)
        estimate = estimate_policy(db, params, num_rows=_count_rows(db, params))
    if is_checking:
        told = {"obstacles": obstacles, "estimate": estimate}
        lines = [*obstacles, estimate.sentence, *([estimate.wait] if estimate.wait else [])]
        emit(told, as_json=as_json, text="\n".join(lines))
        raise click.exceptions.Exit(1 if obstacles else 0)
    if obstacles:
        raise InvalidInput(" ".join(obstacles))
    say(estimate.sentence)
    with writing() as db:
        job = enqueue_train_policy(
            db,
            actor=SYSTEM,
            params=params,
            resource=Resource.CPU if on_cpu else None,
            priority=priority,
        )
    report_job(job, is_waiting=is_waiting, as_json=as_json)


def make_params(learner: JobKind, given: dict[str, Any]) -> TrainPolicyParams:
    """The parameters of the options."""
    from rlhf_core.cli.train import parse_options

    filters = Filters(source=given.pop("source"), action_type=given.pop("action_type"))
    rows = DatasetParams(
        purpose=POLICY_LEARNERS[learner],
        filters=filters,
        threshold=given.pop("threshold", None) or DatasetParams.threshold,
    )
    rewards = given.pop("rewards", ())
    parts = tuple(map(parse_reward, rewards)) or (RewardPart(REWARD_MODEL),)
    fields = {name: given.pop(name) for name in OWN if name in given}
    options = parse_options(given.pop("pairs"))
    options |= {name: value for name, value in given.items() if value is not None}
    return TrainPolicyParams(
        learner=learner,
        rows=rows,
        options=options,
        rewards=parts if learner in REWARDED else (),
        **fields,
    )


def _count_rows(db: Any, params: TrainPolicyParams) -> int:
    from rlhf_core.dataset.readiness import check_readiness
    from rlhf_core.dataset.service import get_version

    if params.number is not None:
        return get_version(db, params.dataset, params.number, actor=SYSTEM).num_rows
    return check_readiness(db, actor=SYSTEM, params=params.rows).have


def _make_command(learner: JobKind) -> click.Command:
    def run(**given: Any) -> None:
        queue_policy(learner, given)

    options = [*_rows_options(learner), *_learner_options(learner), *_run_options()]
    for option in reversed(options):
        run = option(run)
    name = learner.value.removeprefix("train_")
    return click.command(name=name, help=HELP[learner])(run)


def _rows_options(learner: JobKind) -> Options:
    named = DATASET_NAMES[POLICY_LEARNERS[learner]]
    options: Options = [
        click.option("--source", help="Learn only from interactions of this source."),
        click.option("--action-type", help="Learn only from interactions of this kind of action."),
        click.option(
            "--model", default=POLICY_MODEL, show_default=True, help="Name of the policy."
        ),
    ]
    if learner is JobKind.TRAIN_STARTER:
        return options
    options += [
        click.option("--dataset", default="", help=f"Name of the rows; default `{named}`."),
        click.option("--number", type=int, help="Learn from this frozen version of --dataset."),
        click.option(
            "--test-percent",
            type=float,
            default=20.0,
            show_default=True,
            help="Prompts kept for the examination, where there are enough.",
        ),
        click.option(
            "--base",
            default=STARTER,
            show_default=True,
            help=f"`{STARTER}`, a registered policy (name or name@number), a folder, or a hub id.",
        ),
        click.option(
            "--held-out",
            default=AUTO,
            show_default=True,
            help=f"Who judges: `{AUTO}` (the reward model's own judge), `{NO_JUDGE}`, or a name.",
        ),
        click.option(
            "--processes",
            "num_processes",
            type=int,
            default=1,
            show_default=True,
            help="One a device, on each machine.",
        ),
        click.option(
            "--machines",
            "num_machines",
            type=int,
            default=1,
            show_default=True,
            help="Workers that train together; they share one RLHF_DATA_DIR.",
        ),
    ]
    if learner in (JobKind.TRAIN_SFT, JobKind.TRAIN_KTO):
        options.append(
            click.option("--threshold", type=float, help="A mean rating at or above it is good.")
        )
    return options


def _learner_options(learner: JobKind) -> Options:
    options: Options = [click.option("--seed", type=int)]
    if learner in REWARDED:
        options.append(
            click.option(
                "--reward",
                "rewards",
                multiple=True,
                metavar="NAME[@N][=WEIGHT]",
                help=f"A reward model or `rule:NAME`; may be repeated. Default `{REWARD_MODEL}`.",
            )
        )
    if learner is not JobKind.TRAIN_STARTER:
        name = STEPS.get(learner, "epochs")
        options += [
            click.option(f"--{name}", type=int),
            click.option("--lr", type=float, help="Learning rate."),
            click.option("--batch-size", type=int),
            click.option("--micro-batch-size", type=int, help="Rows at once: decides memory."),
            click.option("--response-tokens", type=int, help="The longest answer."),
            click.option("--lora-rank", type=int, help="Train adapters; 0 trains all weights."),
            click.option("--precision", help="auto, fp32, bf16 or fp16."),
        ]
    return options


def _run_options() -> Options:
    return [
        click.option(
            "--option",
            "pairs",
            multiple=True,
            metavar="NAME=VALUE",
            help="Any other parameter of the learner; may be repeated.",
        ),
        click.option(
            "--check",
            "is_checking",
            is_flag=True,
            help="Say what it takes and what stands against it; start nothing.",
        ),
        click.option("--cpu", "on_cpu", is_flag=True, help="Wait in the queue of the CPU."),
        click.option("--priority", type=int, default=10, show_default=True, help="1 is first."),
        wait_option,
        json_option,
    ]


@click.command(
    name="both", help="Train the reward model, examine it, and train the policy with it."
)
@click.option(
    "--learner",
    type=click.Choice([kind.value.removeprefix("train_") for kind in POLICY_LEARNERS]),
    help="How the policy is trained; the data choose where it is left out.",
)
@click.option(
    "--min-new",
    type=int,
    default=0,
    show_default=True,
    help="Skip where fewer ratings are new since the last time.",
)
@wait_option
@json_option
def both(learner: str | None, min_new: int, is_waiting: bool, as_json: bool) -> None:
    """Queue it; with --wait exit 0 only if it succeeded."""
    from rlhf_core.jobs.retrain import enqueue_retrain
    from rlhf_core.jobs.retrain_params import BOTH, RetrainParams
    from rlhf_core.jobs.reward_advice import recommend_reward

    policy: dict[str, Any] | None = None
    if learner is not None:
        kinds = {kind.value.removeprefix("train_"): kind for kind in POLICY_LEARNERS}
        policy = {"learner": kinds[learner].value}
    with reading() as db:
        found = recommend_reward(db, actor=SYSTEM)
    chosen = JobKind.TRAIN_SBERT if found.learner is JobKind.TRAIN_STEPS else found.learner
    reward = {"learner": chosen.value, "with_judge": True}
    params = RetrainParams(what=BOTH, reward=reward, policy=policy, min_new=min_new)
    with writing() as db:
        job = enqueue_retrain(db, actor=SYSTEM, params=params)
    report_job(job, is_waiting=is_waiting, as_json=as_json)
