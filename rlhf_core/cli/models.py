"""`models list | show | evaluations | promote | rollback | history`, and what lies beside."""

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli import models_files, models_lineage
from rlhf_core.cli.models_remote import add_remote
from rlhf_core.cli.output import emit, json_option, reading, to_json, writing
from rlhf_core.demo.marks import find_marks
from rlhf_core.gates.service import promote_by_gates, roll_back_to, verify_files
from rlhf_core.registry import service
from rlhf_core.registry.evaluations import EvaluationView, list_evaluations
from rlhf_core.registry.views import AliasChangeView, ModelVersionView

SHOWN_METRICS = ("auc", "accuracy", "brier", "ece")

model_option = click.option(
    "--model", "model_name", default=service.REWARD_MODEL, show_default=True, help="Model name."
)
reason_option = click.option("--reason", required=True, help="Why; kept in the history.")
override_option = click.option(
    "--override-reason", help="Why the rules that it breaks are passed over."
)
revision_option = click.option(
    "--expected-revision",
    type=int,
    help="Move only if the alias still has this revision (see `models list --json`).",
)


@click.group(name="models", help="List, promote and roll back model versions.")
def command() -> None:
    """Choose what to do with the registry."""


for each in (add_remote, *models_files.COMMANDS, *models_lineage.COMMANDS):
    command.add_command(each)


@command.command(name="list", help="List the versions, newest first.")
@click.option("--model", "model_name", help="Only this model's.")
@click.option("--tag", help="Only those that bear this tag.")
@json_option
def list_(model_name: str | None, tag: str | None, as_json: bool) -> None:
    """One line a version."""
    with reading() as db:
        versions = service.list_versions(db, actor=SYSTEM, model_name=model_name, tag=tag)
        marked = find_marks(db).model_versions
    shown = [{**to_json(version), "is_demo": version.id in marked} for version in versions]
    lines = [_line(version) + "  demo" * (version.id in marked) for version in versions]
    emit(shown, as_json=as_json, text="\n".join(lines) or "There is no model version yet.")


@command.command(help="Show all that is known of version NUMBER.")
@click.argument("number", type=int)
@model_option
@json_option
def show(number: int, model_name: str, as_json: bool) -> None:
    """The whole record, as JSON also for people: it is nested."""
    with reading() as db:
        version = service.get_version_by_number(db, model_name, number, actor=SYSTEM)
    shown = {"name": version.name, "folder": version.folder, **to_json(version)}
    emit(shown, as_json=as_json)


@command.command(help="The examinations of version NUMBER, the latest first.")
@click.argument("number", type=int)
@model_option
@json_option
def evaluations(number: int, model_name: str, as_json: bool) -> None:
    """One line an examination; --json has all of each."""
    with reading() as db:
        version = service.get_version_by_number(db, model_name, number, actor=SYSTEM)
        found = list_evaluations(db, version.id, actor=SYSTEM)
    lines = [_evaluation_line(evaluation) for evaluation in found]
    emit(found, as_json=as_json, text="\n".join(lines) or "It was not examined yet.")


@command.command(help="Let version NUMBER serve (alias `production`).")
@click.argument("number", type=int)
@model_option
@reason_option
@revision_option
@override_option
@json_option
def promote(
    number: int,
    model_name: str,
    reason: str,
    expected_revision: int | None,
    override_reason: str | None,
    as_json: bool,
) -> None:
    """Move the alias forward, if the version keeps the rules."""
    with reading() as db:
        version = service.get_version_by_number(db, model_name, number, actor=SYSTEM)
        verify_files(db, version.id, actor=SYSTEM)
    with writing() as db:
        moved = promote_by_gates(
            db,
            version.id,
            actor=SYSTEM,
            reason=reason,
            expected_revision=expected_revision,
            override_reason=override_reason,
        )
    emit(moved, as_json=as_json, text=f"{version.name} is production (move {moved.revision}).")


@command.command(help="Let the version before serve again, or any earlier one.")
@model_option
@click.option("--to", "number", type=int, help="The earlier version. Default: the last before.")
@reason_option
@revision_option
@override_option
@json_option
def rollback(
    model_name: str,
    number: int | None,
    reason: str,
    expected_revision: int | None,
    override_reason: str | None,
    as_json: bool,
) -> None:
    """Move the alias back."""
    with reading() as db:
        wanted = None
        if number is not None:
            wanted = service.get_version_by_number(db, model_name, number, actor=SYSTEM).id
        target = wanted or service.find_roll_back_target(db, model_name, actor=SYSTEM)
        verify_files(db, target, actor=SYSTEM)
    with writing() as db:
        moved = roll_back_to(
            db,
            model_name,
            actor=SYSTEM,
            reason=reason,
            version_id=wanted,
            expected_revision=expected_revision,
            override_reason=override_reason,
        )
    text = f"{model_name} v{moved.number} is production again (move {moved.revision})."
    emit(moved, as_json=as_json, text=text)


@command.command(help="List the moves of the alias `production`, the latest first.")
@model_option
@json_option
def history(model_name: str, as_json: bool) -> None:
    """One line a move."""
    with reading() as db:
        changes = service.alias_history(db, model_name, actor=SYSTEM)
    lines = [_change_line(change) for change in changes]
    emit(changes, as_json=as_json, text="\n".join(lines) or "Nothing was promoted yet.")


def _line(version: ModelVersionView) -> str:
    metrics = "  ".join(
        f"{name} {version.metrics[name]:.3f}" for name in SHOWN_METRICS if name in version.metrics
    )
    state = " ".join(
        [*(alias.value for alias in version.aliases), *(f"#{t}" for t in version.tags)]
    )
    return f"{version.name}  {version.created_at:%Y-%m-%d %H:%M}  {metrics}  {state}".rstrip()


def _evaluation_line(evaluation: EvaluationView) -> str:
    metrics = "  ".join(f"{name} {value:.3f}" for name, value in evaluation.metrics.items())
    return (
        f"{evaluation.created_at:%Y-%m-%d %H:%M}  {evaluation.dataset or 'rows that are gone'} "
        f"({evaluation.split}, {evaluation.num_rows} rows)  {metrics}"
    )


def _change_line(change: AliasChangeView) -> str:
    before = "nothing" if change.from_number is None else f"v{change.from_number}"
    what = "rolled back" if change.is_roll_back else "promoted"
    who = change.changed_by or "command line"
    return (
        f"{change.changed_at:%Y-%m-%d %H:%M}  {before} -> v{change.to_number}  "
        f"{what} by {who}: {change.reason}"
    )
