"""Models in and out: a folder becomes a version, a version a card and a push.

Here and not in the registry, because opening a model needs the learners, and its card what became
of the people whose data it learned from.
"""

import uuid
from dataclasses import replace
from pathlib import Path

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.artifacts import open_artifact
from rlhf_core.dataset.standing import count_licences, read_standing
from rlhf_core.demo.marks import find_marks
from rlhf_core.errors import InvalidInput, RlhfError
from rlhf_core.jobs.train_policy import check_model_name
from rlhf_core.registry.cards import CardFacts, write_card
from rlhf_core.registry.evaluations import list_evaluations
from rlhf_core.registry.imports import (
    StagedModel,
    discard,
    register_imported,
    stage_folder,
)
from rlhf_core.registry.lineage import get_lineage
from rlhf_core.registry.push import (
    Pushed,
    begin_push,
    hub_repository,
    log_to_mlflow,
    push_to_hub,
)
from rlhf_core.registry.service import alias_history, get_version
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import DatasetVersion, Model, ModelVersion
from rlhf_core.vocabulary import Alias, ModelKind

IMPORTABLE = tuple(kind for kind in ModelKind if kind is not ModelKind.POLICY_REMOTE)


def import_model(
    store: Store,
    folder: Path,
    *,
    actor: Actor,
    kind: ModelKind,
    model_name: str,
    notes: str = "",
    inside: Path | None = None,
) -> ModelVersionView:
    """Copy a folder, open the copy once to prove it, and register it as the next version.

    Nothing is left behind where that fails. `inside`: the folder below which it has to lie.

    Raises:
        InvalidInput: it holds code or no such model, does not fit its manifest, lies elsewhere, or
            the name is that of another kind of models.
        Forbidden, Unavailable: the actor may not; the folder cannot be read or copied.
    """
    require(actor, Permission.RUN_JOBS)
    if kind not in IMPORTABLE:
        raise InvalidInput(
            "A model of another server has no files: register it by `models add-remote`.",
            field="kind",
        )
    with store.reading() as db:
        _check_name(db, model_name, kind)
    staged = stage_folder(folder, kind=kind, inside=inside)
    try:
        prove(staged)
        with store.writing() as db:
            _check_name(db, model_name, kind)
            return register_imported(db, staged, actor=actor, model_name=model_name, notes=notes)
    except BaseException:
        discard(staged)
        raise


def prove(staged: StagedModel) -> None:
    """Open the copy as it will be served and let it work once.

    Raises InvalidInput where it is no such model.
    """
    folder = open_artifact(staged.artifact.path, staged.artifact.manifest_sha256)
    try:
        if staged.kind is ModelKind.POLICY:
            from rlhf_core.policies.chat import Turn, open_chat_model

            model = open_chat_model(folder)
            ids, room = model.encode([("user", "Hello")], max_tokens=2)
            model.answer([Turn(ids, room, temperature=0)])
        else:
            from rlhf_core.serving.loader import LoadedModel, open_model

            reward = open_model(staged.kind, folder)
            LoadedModel(uuid.UUID(int=0), staged.source, reward).score(["Is it?"], ["It is."])
    except RlhfError as error:
        raise InvalidInput(
            f"{staged.source} is no model of kind {staged.kind.value}: {error}", field="folder"
        ) from error
    except Exception as error:  # whatever a library raises on files that are not what it expects
        what = (str(error).strip().splitlines() or [""])[0][:300]
        raise InvalidInput(
            f"{staged.source} cannot be opened as {staged.kind.value} "
            f"({type(error).__name__}: {what}).",
            field="folder",
        ) from error


def read_card(db: Session, version_id: uuid.UUID, *, actor: Actor) -> str:
    """The model card as it is now: Markdown."""
    lineage = get_lineage(db, version_id, actor=actor)
    version = lineage.version
    facts = CardFacts(
        lineage=lineage,
        evaluations=list_evaluations(db, version_id, actor=actor),
        history=[
            change
            for alias in Alias
            for change in alias_history(db, version.model_name, actor=actor, alias=alias)
            if change.to_version_id is not None
        ],
    )
    cautions = []
    if version_id in find_marks(db).model_versions:
        cautions.append("Rows of the demo world made it, which are no real ratings")
    facts = replace(facts, cautions=cautions)
    dataset_id = version.dataset_version_id
    if lineage.dataset is None or dataset_id is None:
        return write_card(facts)
    standing = read_standing(db, [dataset_id])
    since = [
        (standing.num_opted_out, "rows are of people who withdrew their consent since"),
        (standing.num_erased, "rows were erased since"),
        (standing.num_withdrawn, "rows had a rating or comparison withdrawn since"),
    ]
    frozen = db.get(DatasetVersion, dataset_id)
    return write_card(
        replace(
            facts,
            dataset_card=(frozen.card if frozen else None) or {},
            licences=count_licences(db, [dataset_id]),
            cautions=[*cautions, *(f"{count:,} {what}" for count, what in since if count)],
        )
    )


def push_version(
    store: Store, version_id: uuid.UUID, *, actor: Actor, target: str, repository: str = ""
) -> Pushed:
    """Send a version to `hub` or `mlflow`.

    Raises:
        InvalidInput: there is no such target, or the repository's name is none.
        Unavailable: it is not configured, not installed, or cannot be reached.
    """
    if target not in ("hub", "mlflow"):
        raise InvalidInput(f"There is no target {target!r}: choose hub or mlflow.", field="target")
    with store.writing() as db:
        version = get_version(db, version_id, actor=actor)
        where = hub_repository(version, repository) if target == "hub" else ""
        begin_push(db, version, actor=actor, target=f"{target}:{where}".rstrip(":"))
        card = read_card(db, version_id, actor=actor)
    if target == "hub":
        return push_to_hub(version, card=card, repository=where)
    return log_to_mlflow(version, card=card)


def _check_name(db: Session, model_name: str, kind: ModelKind) -> None:
    """One name serves one purpose: policies and reward models never share it."""
    if kind is ModelKind.POLICY:
        check_model_name(db, model_name)
        return
    found = load_versions(db, Model.name == model_name.strip(), ModelVersion.deleted_at.is_(None))
    if any(one.kind in (ModelKind.POLICY, ModelKind.POLICY_REMOTE) for one in found):
        raise InvalidInput(
            f"{model_name!r} is the name of a policy: give the reward model another one.",
            field="model_name",
        )
