"""`models import | download | check | delete | storage | push`."""

from pathlib import Path

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, reading, say, writing
from rlhf_core.errors import RlhfError
from rlhf_core.registry import files, service
from rlhf_core.registry.deletion import delete_version, remove_deleted_files
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store import migrate
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import ModelKind

IMPORTABLE = [kind.value for kind in ModelKind if kind is not ModelKind.POLICY_REMOTE]

model_option = click.option(
    "--model", "model_name", default=service.REWARD_MODEL, show_default=True, help="Model name."
)


@click.command(
    name="import",
    help="Register the model in FOLDER as the next version. It is copied, checked against its "
    "manifest if it has one, and opened once; code and pickles are refused.",
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(IMPORTABLE), required=True, help="What is in it.")
@model_option
@click.option("--notes", default="", help="Where it is from.")
@json_option
def import_(folder: Path, kind: str, model_name: str, notes: str, as_json: bool) -> None:
    """Copy, prove, register."""
    from rlhf_core.jobs.model_exchange import import_model

    migrate.check(get_store())
    version = import_model(
        get_store(), folder, actor=SYSTEM, kind=ModelKind(kind), model_name=model_name, notes=notes
    )
    emit(version, as_json=as_json, text=f"Registered as {version.name}: nothing serves it yet.")


@click.command(help="Write the files of version NUMBER, with their manifest and card, as a zip.")
@click.argument("number", type=int)
@model_option
@click.option("--out", type=click.Path(path_type=Path), help="The file. Default: <model>-v<n>.zip")
@json_option
def download(number: int, model_name: str, out: Path | None, as_json: bool) -> None:
    """Verify and pack."""
    from rlhf_core.jobs.model_exchange import read_card

    with writing() as db:
        version = service.get_version_by_number(db, model_name, number, actor=SYSTEM)
        files.begin_download(db, version, actor=SYSTEM, how="command line")
        card = read_card(db, version.id, actor=SYSTEM)
    path = out or Path(f"{files.file_stem(version)}.zip")
    size = files.write_zip(version, path, card=card)
    emit({"path": str(path), "num_bytes": size}, as_json=as_json,
         text=f"{path}: {files.describe_size(size)}.")  # fmt: skip


@click.command(help="Verify every byte of version NUMBER, or of all versions.")
@click.argument("number", type=int, required=False)
@model_option
@json_option
def check(number: int | None, model_name: str, as_json: bool) -> None:
    """Name what is damaged; exit code 1 where anything is."""
    with reading() as db:
        if number is None:
            versions = service.list_versions(db, actor=SYSTEM)
        else:
            versions = [service.get_version_by_number(db, model_name, number, actor=SYSTEM)]
    found = [{"version": version.name, "problem": _find_problem(version)} for version in versions]
    lines = [f"{one['version']}  {one['problem'] or 'as it was registered'}" for one in found]
    emit(found, as_json=as_json, text="\n".join(lines) or "There is no model version yet.")
    if any(one["problem"] for one in found):
        raise SystemExit(1)


@click.command(help="Delete the files of version NUMBER, if nothing needs it. Its history stays.")
@click.argument("number", type=int)
@model_option
@click.option("--reason", required=True, help="Why; kept in the audit.")
@json_option
def delete(number: int, model_name: str, reason: str, as_json: bool) -> None:
    """Mark it in one transaction, then remove the files."""
    with writing() as db:
        version = service.get_version_by_number(db, model_name, number, actor=SYSTEM)
        delete_version(db, version.id, actor=SYSTEM, reason=reason)
    with reading() as db:
        remove_deleted_files(db)
    emit(
        {"version": version.name, "num_bytes": version.num_bytes},
        as_json=as_json,
        text=f"{version.name} is deleted: {files.describe_size(version.num_bytes)} are free.",
    )


@click.command(help="How much room the versions of each model take.")
@json_option
def storage(as_json: bool) -> None:
    """One line a model."""
    with reading() as db:
        found = files.get_storage(db, actor=SYSTEM)
    lines = [
        f"{one.model_name}  versions {one.num_versions}  {files.describe_size(one.num_bytes)}"
        + (f"  ({one.num_deleted} deleted)" if one.num_deleted else "")
        for one in found.models
    ]
    free = "" if found.free_bytes is None else f", {files.describe_size(found.free_bytes)} are free"
    lines.append(f"all  {files.describe_size(found.num_bytes)}{free}")
    emit(found, as_json=as_json, text="\n".join(lines))


@click.command(
    help="Send version NUMBER to a repository at the Hugging Face hub (RLHF_HUB_OWNER, HF_TOKEN) "
    "or to MLflow's model registry (RLHF_MLFLOW_URI)."
)
@click.argument("number", type=int)
@model_option
@click.option("--to", "target", type=click.Choice(["hub", "mlflow"]), required=True)
@click.option("--repository", default="", help="owner/name at the hub. Default: of the settings.")
@json_option
def push(number: int, model_name: str, target: str, repository: str, as_json: bool) -> None:
    """Verify, note in the audit, send."""
    from rlhf_core.jobs.model_exchange import push_version

    with reading() as db:
        version = service.get_version_by_number(db, model_name, number, actor=SYSTEM)
    say(f"Sending {version.name} ({files.describe_size(version.num_bytes)}) ...")
    pushed = push_version(
        get_store(), version.id, actor=SYSTEM, target=target, repository=repository
    )
    emit(pushed, as_json=as_json, text=f"{version.name} is at {pushed.url}.")


def _find_problem(version: ModelVersionView) -> str | None:
    try:
        files.check_files(version)
    except RlhfError as error:
        return str(error)
    return None


COMMANDS = (import_, download, check, delete, storage, push)
