"""`release list | plan | start | show | traffic | promote | rollback | stop`."""

import uuid
from collections.abc import Callable
from typing import Any

import click
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, reading, writing
from rlhf_core.errors import Conflict, InvalidInput
from rlhf_core.gates.deployments import promote_deployment, set_traffic_by_gates, start_by_gates
from rlhf_core.gates.service import verify_files
from rlhf_core.registry.service import REWARD_MODEL, get_version_by_number
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.release import live, service
from rlhf_core.release.plans import SHARES, CanaryPlan
from rlhf_core.release.starting import get_version_of_run
from rlhf_core.release.views import ArmView, DeploymentView, LiveTable
from rlhf_core.vocabulary import DeploymentKind, DeploymentState

model_option = click.option(
    "--model", "model_name", default=REWARD_MODEL, show_default=True, help="Model name."
)
reason_option = click.option("--reason", required=True, help="Why; kept in the history.")
override_option = click.option(
    "--override-reason", help="Why the rules that it breaks are passed over."
)
revision_option = click.option(
    "--expected-revision",
    type=int,
    help="Decide only if it still has this revision (see `release list --json`).",
)
kind_option = click.option(
    "--kind",
    type=click.Choice([kind.value for kind in DeploymentKind]),
    default=DeploymentKind.CANARY.value,
    show_default=True,
    help="interleaving: each order of candidates is drafted from both versions.",
)
percent_option = click.option(
    "--percent", type=float, default=SHARES[0], show_default=True, help="Of the traffic."
)
plan_options = (
    click.option(
        "--planned/--open-ended",
        "is_planned",
        default=True,
        show_default=True,
        help="Decide at a few looks, or at any time.",
    ),
    click.option("--drop", "detectable_drop", type=float, help="Of the approval, to be found."),
    click.option("--power", type=float, help="The chance to find it."),
    click.option("--alpha", type=float, help="The chance that equal versions are told apart."),
    click.option("--looks", type=int, help="Of a planned test."),
)


def with_plan_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a plan."""
    for option in reversed(plan_options):
        command = option(command)
    return command


@click.group(name="release", help="Give a version part of the traffic, and decide on it.")
def command() -> None:
    """Choose what to do."""


@command.command(name="list", help="What runs, and what was decided; the latest first.")
@click.option("--model", "model_name", help="Only this model's.")
@json_option
def list_(model_name: str | None, as_json: bool) -> None:
    """One line a deployment."""
    with reading() as db:
        found = service.list_deployments(db, actor=SYSTEM, model_name=model_name)
    lines = [_line(one) for one in found]
    emit(found, as_json=as_json, text="\n".join(lines) or "No version was tried out yet.")


@command.command(help="How many users and days a plan takes at the traffic seen.")
@model_option
@kind_option
@percent_option
@with_plan_options
@json_option
def plan(model_name: str, kind: str, percent: float, as_json: bool, **numbers: Any) -> None:
    """Start nothing."""
    with reading() as db:
        made = _make_plan(db, model_name, kind, percent, numbers)
    emit(made, as_json=as_json, text=_say_plan(made))


@command.command(help="Give version NUMBER part of the traffic, against what serves.")
@click.argument("number", type=int, required=False)
@click.option("--run", "run_id", type=click.UUID, help="Instead: the run that trained it.")
@model_option
@kind_option
@percent_option
@with_plan_options
@click.option("--control-prompt", help="System prompt of what serves; with --treatment-prompt.")
@click.option("--treatment-prompt", help="System prompt to try, on the version that serves.")
@reason_option
@override_option
@json_option
def start(
    number: int | None,
    run_id: uuid.UUID | None,
    model_name: str,
    kind: str,
    percent: float,
    control_prompt: str | None,
    treatment_prompt: str | None,
    reason: str,
    override_reason: str | None,
    as_json: bool,
    **numbers: Any,
) -> None:
    """Start it, if the version keeps the rules for a share."""
    with reading() as db:
        version = _find_version(db, model_name, number, run_id)
        plan = _make_plan(db, model_name, kind, percent, numbers)
        verify_files(db, version.id, actor=SYSTEM)
    with writing() as db:
        made = start_by_gates(
            db,
            actor=SYSTEM,
            model_name=model_name,
            version_id=version.id,
            plan=plan,
            kind=DeploymentKind(kind),
            traffic_percent=percent,
            control_prompt=control_prompt,
            treatment_prompt=treatment_prompt,
            reason=reason,
            override_reason=override_reason,
        )
    said = "" if made.plan is None else f"\n{_say_plan(made.plan)}"
    emit(made, as_json=as_json, text=_line(made) + said)


@command.command(help="Both sides of what runs, or ran last, on the model; and the verdict.")
@model_option
@click.option("--id", "deployment_id", type=click.UUID, help="Another one than the last.")
@json_option
def show(model_name: str, deployment_id: uuid.UUID | None, as_json: bool) -> None:
    """The live table."""
    with reading() as db:
        if deployment_id is None:
            found = service.list_deployments(db, actor=SYSTEM, model_name=model_name, limit=1)
            if not found:
                raise Conflict(f"No version of {model_name!r} was tried out yet: start one.")
            deployment_id = found[0].id
        table = live.read_live(db, deployment_id, actor=SYSTEM)
    emit(table, as_json=as_json, text=_say_table(table))


@command.command(help="Change the share of what runs on the model to PERCENT.")
@click.argument("percent", type=float)
@model_option
@reason_option
@override_option
@revision_option
@json_option
def traffic(
    percent: float,
    model_name: str,
    reason: str,
    override_reason: str | None,
    expected_revision: int | None,
    as_json: bool,
) -> None:
    """Who has the version keeps it while its share grows, if it keeps the rules for that."""
    _verify_running(model_name)
    with writing() as db:
        running = _find_running(db, model_name)
        changed = set_traffic_by_gates(
            db,
            running.id,
            actor=SYSTEM,
            percent=percent,
            reason=reason,
            override_reason=override_reason,
            expected_revision=_expected(running, expected_revision),
        )
    emit(changed, as_json=as_json, text=_line(changed))


@command.command(help="Give what runs on the model all of the traffic.")
@model_option
@reason_option
@override_option
@revision_option
@json_option
def promote(
    model_name: str,
    reason: str,
    override_reason: str | None,
    expected_revision: int | None,
    as_json: bool,
) -> None:
    """Move `production` to it, if it keeps the rules."""
    _verify_running(model_name)
    with writing() as db:
        running = _find_running(db, model_name)
        ended = promote_deployment(
            db,
            running.id,
            actor=SYSTEM,
            reason=reason,
            override_reason=override_reason,
            expected_revision=_expected(running, expected_revision),
        )
    emit(ended, as_json=as_json, text=_line(ended))


def _add_end(name: str, state: DeploymentState, help_: str) -> None:
    @command.command(name=name, help=help_)
    @model_option
    @reason_option
    @revision_option
    @json_option
    def end(model_name: str, reason: str, expected_revision: int | None, as_json: bool) -> None:
        """All traffic goes to what served before."""
        with writing() as db:
            running = _find_running(db, model_name)
            ended = service.end_deployment(
                db,
                running.id,
                actor=SYSTEM,
                state=state,
                reason=reason,
                expected_revision=_expected(running, expected_revision),
            )
        emit(ended, as_json=as_json, text=_line(ended))


_add_end("rollback", DeploymentState.ROLLED_BACK, "Take back what runs on the model.")
_add_end("stop", DeploymentState.STOPPED, "Stop it, with nothing said against the version.")


def _find_version(
    db: Session, model_name: str, number: int | None, run_id: uuid.UUID | None
) -> ModelVersionView:
    if (number is None) == (run_id is None):
        raise InvalidInput("Name the version by its number, or with --run by its run.")
    if run_id is not None:
        return get_version_of_run(db, run_id, actor=SYSTEM)
    return get_version_by_number(db, model_name, number or 0, actor=SYSTEM)


def _find_running(db: Session, model_name: str) -> DeploymentView:
    for found in service.list_deployments(db, actor=SYSTEM, model_name=model_name, limit=1):
        if found.is_running:
            return found
    raise Conflict(f"Nothing is tried out on {model_name!r} now: see `release list`.")


def _verify_running(model_name: str) -> None:
    with reading() as db:
        verify_files(db, _find_running(db, model_name).version_id, actor=SYSTEM)


def _expected(running: DeploymentView, given: int | None) -> int:
    return running.revision if given is None else given


def _make_plan(
    db: Session, model_name: str, kind: str, percent: float, numbers: dict[str, Any]
) -> CanaryPlan:
    given = {name: value for name, value in numbers.items() if value is not None}
    return live.make_plan(
        db,
        model_name,
        actor=SYSTEM,
        kind=DeploymentKind(kind),
        traffic_percent=percent,
        **given,
    )


def _line(one: DeploymentView) -> str:
    against = "" if one.baseline_number is None else f" against v{one.baseline_number}"
    state = one.state.value.replace("_", " ")
    if not one.is_running and one.end_reason:
        state += f": {one.end_reason}"
    elif one.verdict is not None:
        state += f". {one.verdict.sentence}"
    return (
        f"{one.started_at:%Y-%m-%d %H:%M}  {one.name}{against}  {one.kind.value}  "
        f"{one.traffic_percent:g} %  {state}"
    )


def _say_plan(made: CanaryPlan) -> str:
    days = "unknown: no feedback came of late"
    if made.days_expected is not None:
        days = f"about {made.days_expected:,.1f}"
    manner = f"{made.looks} looks" if made.is_planned else "open-ended"
    return (
        f"To find a drop of {made.detectable_drop:.0%} with {made.power:.0%} chance ({manner}): "
        f"{made.num_users:,} users with feedback, {made.num_treated:,} of them with the new "
        f"version. Days: {days}."
    )


def _say_table(table: LiveTable) -> str:
    lines = [_line(table.deployment), _say_arm(table.control), _say_arm(table.treatment)]
    if table.verdict is not None:
        lines.append(table.verdict.sentence)
    return "\n".join(lines)


def _say_arm(arm: ArmView) -> str:
    approval = "no feedback"
    if arm.approval is not None:
        found = arm.approval
        approval = (
            f"approval {found.value:.1%} ({found.low:.1%} to {found.high:.1%}) "
            f"of {arm.num_feedback:,}"
        )
    latency = "" if arm.latency_p95_ms is None else f"  p95 {arm.latency_p95_ms:,.0f} ms"
    return (
        f"{arm.arm.value}: {arm.num_requests:,} requests of {arm.num_users:,} users, "
        f"{arm.num_errors:,} errors  {approval}{latency}"
    )
