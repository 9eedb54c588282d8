"""Versions to other registries: a repository at the Hugging Face hub, MLflow's model registry.

Both leave this installation, so a push is written into the audit before anything is sent. Nothing
is sent that is not verified first. The packages are imported only here.
"""

import re
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.artifacts import open_artifact
from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput, RlhfError, Unavailable
from rlhf_core.registry.views import ModelVersionView

EXPERIMENT = "rlhf"
MAX_REASON_CHARS = 300
MAX_PARAM_CHARS = 500
MAX_SOURCE_CHARS = 96  # of a repository's name


@dataclass(frozen=True)
class Pushed:
    """Where a version went. `url` is the page of it, or an address in the other tool's words."""

    target: str
    url: str


def begin_push(db: Session, version: ModelVersionView, *, actor: Actor, target: str) -> None:
    """Note in the audit that the version is sent to `target`; call it before the push.

    Raises Forbidden where the actor may not, InvalidInput where the version is deleted.
    """
    require(actor, Permission.EXPORT_DATA)
    require(actor, Permission.PROMOTE_MODELS)
    if version.deleted_at is not None:
        raise InvalidInput(f"{version.name} is deleted: its files are gone.")
    record_event(
        db, actor=actor, action="model.push", target_kind="model_version", target_id=version.id,
        details={"model": version.model_name, "number": version.number, "target": target},
    )  # fmt: skip


def hub_repository(version: ModelVersionView, repository: str = "") -> str:
    """`owner/name` of the repository that gets the version; by default made of the setting.

    Raises InvalidInput where none is configured, or the name is none.
    """
    owner = get_settings().hub_owner
    if not repository and not owner:
        raise InvalidInput(
            "No repository is configured: set RLHF_HUB_OWNER, or name one (owner/name).",
            field="repository",
        )
    usual = re.sub(r"[^\w.-]+", "-", version.model_name).strip("-.") or "model"
    name = repository or f"{owner}/{usual}"[:MAX_SOURCE_CHARS]
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or ".." in name or "--" in name:
        raise InvalidInput(f"{name!r} is no repository: write owner/name.", field="repository")
    return name


def push_to_hub(version: ModelVersionView, *, card: str, repository: str) -> Pushed:
    """Upload the files and the card as one commit, and tag it `v<number>`; private if it is new.

    Uses the token that `huggingface_hub` knows (`HF_TOKEN`). A repository of another version
    becomes this one: what the version has not is removed, the former commit keeps its tag.

    Raises:
        Unavailable: the hub cannot be reached, or refuses the token.
        InvalidInput: the files are damaged, the repository's card is of another model, or the hub
            refuses the repository.
    """
    folder = open_artifact(version.folder, version.manifest_sha256)
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise Unavailable(
            "huggingface_hub is not installed: `pip install huggingface_hub`."
        ) from error
    api = HfApi()
    tag = f"v{version.number}"
    try:
        made = api.create_repo(repository, repo_type="model", private=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="rlhf-push-") as temporary:
            readme = Path(temporary) / "README.md"
            readme.write_text(hub_card(version, card))
            known = set(api.list_repo_files(repository))
            if "README.md" in known:
                _check_card(api, repository, card, Path(temporary) / "known")
            commit = _commit(api, folder, readme, repository, version, known)
        _tag(api, repository, tag, commit)
    except HfHubHTTPError as error:
        raise _translate(error, repository) from error
    except Exception as error:
        if not isinstance(error, OSError) and not _is_network(error):
            raise
        raise Unavailable(
            f"The Hugging Face hub cannot be reached ({_first_line(error)}): try again when this "
            "machine has network."
        ) from error
    return Pushed(target=f"hub:{repository}", url=f"{made}/tree/{tag}")


def hub_card(version: ModelVersionView, card: str) -> str:
    """The card with the head that the hub reads."""
    tags = ["rlhf", version.kind.value.replace("_", "-")]
    lines = ["---", "tags:", *(f"- {tag}" for tag in tags), "---", "", card]
    return "\n".join(lines)


def _check_card(api: Any, repository: str, card: str, folder: Path) -> None:
    """Raise InvalidInput where the repository's card is of another model: its files would go."""
    known = Path(api.hf_hub_download(repository, "README.md", cache_dir=folder)).read_text()
    title = _find_title(known)
    if title is not None and title != _find_title(card):
        raise InvalidInput(
            f"{repository} is of another model ({title[:MAX_SOURCE_CHARS]}), whose files a push "
            "would remove: name another repository.",
            field="repository",
        )


def _find_title(card: str) -> str | None:
    """The first heading without the version's number; None where the card has none."""
    found = re.search(r"^# +(.+?)(?: v\d+)? *$", card, re.MULTILINE)
    return None if found is None else found[1]


def _tag(api: Any, repository: str, tag: str, commit: str) -> None:
    """Let the tag name the commit, also where it named another one."""
    standing = {one.name: one.target_commit for one in api.list_repo_refs(repository).tags}
    if standing.get(tag, commit) != commit:
        api.delete_tag(repository, tag=tag)
    api.create_tag(repository, tag=tag, revision=commit, exist_ok=True)


def _commit(
    api: Any,
    folder: Path,
    readme: Path,
    repository: str,
    version: ModelVersionView,
    known: set[str],
) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix() for path in files}
    operations: list[Any] = [
        CommitOperationAdd(path.relative_to(folder).as_posix(), str(path)) for path in files
    ]
    operations.append(CommitOperationAdd("README.md", str(readme)))
    kept = {*names, "README.md", ".gitattributes"}
    operations += [CommitOperationDelete(name) for name in sorted(known - kept)]
    done = api.create_commit(
        repository,
        operations=operations,
        commit_message=f"{version.name} (manifest {version.manifest_sha256[:12]})",
    )
    return str(done.oid)


def _translate(error: Any, repository: str) -> RlhfError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return Unavailable(
            f"The Hugging Face hub refuses the token for {repository}: set HF_TOKEN to one that "
            "may write there."
        )
    if status is not None and status < 500:
        return InvalidInput(f"The Hugging Face hub refuses {repository}: {_first_line(error)}")
    return Unavailable(f"The Hugging Face hub fails ({_first_line(error)}): try again later.")


def log_to_mlflow(version: ModelVersionView, *, card: str) -> Pushed:
    """Log the files, figures and card as a run, and register it in MLflow's model registry.

    Raises Unavailable where MLflow is not set, not installed or does not answer; InvalidInput where
    the files are damaged.
    """
    uri = get_settings().mlflow_uri
    if not uri:
        raise Unavailable("No MLflow is configured: set RLHF_MLFLOW_URI to its address.")
    if find_spec("mlflow") is None:
        raise Unavailable("MLflow is set but not installed: `pip install mlflow`.")
    folder = open_artifact(version.folder, version.manifest_sha256)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return _log(MlflowClient(tracking_uri=uri), version, folder, card)
    except MlflowException as error:
        raise Unavailable(
            f"MLflow at {uri} does not take {version.name}: {_first_line(error)}"
        ) from error
    except OSError as error:
        raise Unavailable(f"MLflow at {uri} cannot be reached: {_first_line(error)}") from error


def _log(client: Any, version: ModelVersionView, folder: Path, card: str) -> Pushed:
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT)
    name = re.sub(r"[/:]", "-", version.model_name)
    tags = {
        "model": version.model_name,
        "version": str(version.number),
        "version_id": str(version.id),
        "kind": version.kind.value,
        "manifest_sha256": version.manifest_sha256,
    }
    if version.job_id is not None:
        tags["job_id"] = str(version.job_id)
    _ensure_model(client, name)
    run = client.create_run(experiment, tags=tags, run_name=f"{version.name} files")
    run_id = run.info.run_id
    try:
        for metric, value in version.metrics.items():
            client.log_metric(run_id, re.sub(r"[^\w\-./ ]", "_", metric), float(value))
        for param, value in version.params.items():
            client.log_param(
                run_id, re.sub(r"[^\w\-./ ]", "_", param), str(value)[:MAX_PARAM_CHARS]
            )
        client.log_artifacts(run_id, str(folder), "model")
        client.log_text(run_id, card, "MODEL_CARD.md")
        made = client.create_model_version(
            name,
            source=f"{run.info.artifact_uri}/model",
            run_id=run_id,
            tags=tags,
            description=card[:10_000],
        )
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return Pushed(target="mlflow", url=f"models:/{name}/{made.version}")


def _ensure_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _is_network(error: Exception) -> bool:
    """Whether the hub's HTTP client says that nobody answers; its errors are no OSErrors."""
    packages = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    return bool(packages & {"httpx", "httpx2", "httpcore"})


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:MAX_REASON_CHARS]
