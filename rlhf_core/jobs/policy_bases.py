"""Which policy a name means: a registered version, a folder, or a hub id."""

import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from rlhf_core.artifacts import open_artifact
from rlhf_core.errors import InvalidInput, NotFound
from rlhf_core.jobs.policy_params import STARTER
from rlhf_core.registry.service import find_production
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.store.tables import Model, ModelVersion
from rlhf_core.vocabulary import JobKind, ModelKind

NUMBERED = re.compile(r"(?P<name>.+)@v?(?P<number>\d{1,9})")


@dataclass(frozen=True)
class PolicyBase:
    """A policy to start from, or to compare with.

    `name` is what people call it, `location` its folder or hub id. The location is empty of a
    starter that is yet to be made. `manifest_sha256` is of a registered version's files.
    """

    name: str
    location: str
    version_id: str | None = None
    manifest_sha256: str | None = None

    @property
    def is_missing(self) -> bool:
        """Whether it is a starter that is yet to be made."""
        return not self.location

    def open(self) -> str:
        """The folder, every byte of it verified where it is registered; or the hub id."""
        if self.manifest_sha256 is None:
            return self.location
        return str(open_artifact(Path(self.location), self.manifest_sha256))


def find_policy_base(db: Session, text: str, *, model: str) -> PolicyBase:
    """What `text` names; `starter` is the newest one of `model`.

    Raises NotFound where it names nothing that is registered, nor a folder, nor could be a hub id;
    InvalidInput where it names a model that is no policy.
    """
    text = text.strip()
    if text == STARTER:
        found = _find_starter(db, model)
        return PolicyBase(STARTER, "") if found is None else base_of_version(found)
    version = find_model_version(db, text)
    if version is not None:
        return base_of_version(version)
    if Path(text).expanduser().is_dir():
        return PolicyBase(text, str(Path(text).expanduser().resolve()))
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not text.startswith("."):
        return PolicyBase(text, text)
    raise NotFound(
        f"There is no base {text!r}: give {STARTER}, a registered policy (name or name@number), a "
        "folder with a causal language model, or a hub id (owner/name)."
    )


def find_model_version(db: Session, text: str) -> ModelVersionView | None:
    """The version that `name@number` means; of `name` what serves, else the newest.

    None where no model has that name. Raises NotFound where it has no such version.
    """
    numbered = NUMBERED.fullmatch(text)
    name = numbered["name"] if numbered else text
    versions = load_versions(db, Model.name == name, ModelVersion.deleted_at.is_(None))
    if not versions:
        return None
    if numbered is None:
        return find_production(db, name) or versions[0]
    wanted = int(numbered["number"])
    found = [version for version in versions if version.number == wanted]
    if not found:
        raise NotFound(f"There is no version {wanted} of model {name!r}.")
    return found[0]


def base_of_version(version: ModelVersionView) -> PolicyBase:
    """The registered version as a base. InvalidInput where it is no policy."""
    if version.kind is ModelKind.POLICY_REMOTE:
        raise InvalidInput(
            f"{version.name} answers from another server and has no files here: name another base.",
            field="base",
        )
    if version.kind is not ModelKind.POLICY:
        raise InvalidInput(
            f"{version.name} is a reward model, not a policy: name another base.", field="base"
        )
    return PolicyBase(version.name, str(version.folder), str(version.id), version.manifest_sha256)


def _find_starter(db: Session, model: str) -> ModelVersionView | None:
    versions = load_versions(
        db,
        Model.name == model,
        ModelVersion.deleted_at.is_(None),
        ModelVersion.kind == ModelKind.POLICY,
    )
    learner = JobKind.TRAIN_STARTER.value
    return next((one for one in versions if one.details.get("learner") == learner), None)
