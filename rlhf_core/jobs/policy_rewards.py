"""Registered reward models, and Python rules, as reward functions of texts."""

import math
import os
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from rlhf_core.artifacts import open_artifact
from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput, NotFound, RlhfError
from rlhf_core.jobs.policy_bases import find_model_version
from rlhf_core.jobs.policy_params import AUTO, NO_JUDGE, RewardPart, TrainPolicyParams
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.store.tables import ModelVersion
from rlhf_core.vocabulary import ModelKind

if TYPE_CHECKING:
    import numpy as np

    from rlhf_core.policies.rewards_glue import RewardFunction, StepRewardFunction
    from rlhf_core.rewards.base import RewardModel

MAX_REMEMBERED = 20_000  # texts of 384 numbers: 30 MB


@dataclass(frozen=True)
class RewardSource:
    """Where a reward comes from: files of a registered model, or a rule (`kind` None)."""

    part: RewardPart
    name: str
    kind: ModelKind | None = None
    folder: str = ""
    manifest_sha256: str = ""
    version_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `parse_source` reads them."""
        return {**asdict(self), "kind": None if self.kind is None else self.kind.value}


def parse_source(plain: dict[str, Any]) -> RewardSource:
    """What `to_json` wrote."""
    kind = plain["kind"]
    return RewardSource(
        **{
            **plain,
            "part": RewardPart(**plain["part"]),
            "kind": None if kind is None else ModelKind(kind),
        }
    )


def find_rewards(db: Session, parts: Sequence[RewardPart]) -> list[RewardSource]:
    """The reward models and rules that the parts name.

    Raises NotFound where there is none of a name; InvalidInput where it is a policy, or does not
    know an aspect.
    """
    return [_find_reward(db, part) for part in parts]


def find_judge(
    db: Session, params: TrainPolicyParams, rewards: Sequence[RewardSource]
) -> RewardSource | None:
    """Who judges without being learned from; None where nobody does.

    Raises InvalidInput where the judge is a reward of the run.
    """
    wanted = params.held_out.strip()
    if wanted == NO_JUDGE:
        return None
    if wanted == AUTO:
        return _find_own_judge(db, rewards)
    judge = _find_reward(db, RewardPart(wanted))
    if judge.name in {reward.name for reward in rewards}:
        raise InvalidInput(
            f"{judge.name} rewards this run and cannot judge it too: name another judge, or "
            f"{NO_JUDGE}.",
            field="held_out",
        )
    return judge


def open_reward(sources: Sequence[RewardSource]) -> "RewardFunction":
    """One function of all sources, summed by their weights; files are verified first."""
    from rlhf_core.policies.rewards_glue import mix_rewards

    parts = [(_open_one(source), source.part.weight) for source in sources]
    if len(parts) == 1 and parts[0][1] == 1.0:
        return parts[0][0]
    return mix_rewards(parts)


def open_step_reward(sources: Sequence[RewardSource]) -> "StepRewardFunction":
    """A reward for each step of an answer, at its end, of models of steps.

    An answer's steps together get the mean of P(right) over them, times the weight: more steps are
    no more reward.
    """
    from rlhf_core.policies.rewards_glue import reward_steps
    from rlhf_core.rewards.steps import load_step_model
    from rlhf_core.rewards.steps_text import split_steps

    models = [
        (load_step_model(open_artifact(Path(one.folder), one.manifest_sha256)), one.part.weight)
        for one in sources
    ]

    def score(prompts: list[str], steps: list[list[str]]) -> list[list[float]]:
        total = [[0.0] * len(some) for some in steps]
        for model, weight in models:
            for sums, found in zip(total, model.score_steps(prompts, steps), strict=True):
                for place, value in enumerate(found):
                    sums[place] += weight * float(value) / len(sums)
        return total

    return reward_steps(split_steps, score)


def list_rules() -> dict[str, str]:
    """The rules of the setting `RLHF_REWARD_RULES`: `module:function` by name.

    Raises InvalidInput where the setting cannot be read.
    """
    found: dict[str, str] = {}
    for entry in filter(None, (one.strip() for one in get_settings().reward_rules.split(","))):
        name, sign, place = (text.strip() for text in entry.partition("="))
        module, colon, function = place.partition(":")
        if not (name and sign and module and colon and function):
            raise InvalidInput(
                f"RLHF_REWARD_RULES: {entry!r} cannot be read: write name=module:function, "
                "several with commas between them."
            )
        found[name] = place
    return found


def _find_reward(db: Session, part: RewardPart) -> RewardSource:
    if part.rule is not None:
        if part.rule not in list_rules():
            raise NotFound(
                f"There is no rule {part.rule!r}: name it in the setting RLHF_REWARD_RULES as "
                f"{part.rule}=module:function."
            )
        return RewardSource(part, part.model)
    version = find_model_version(db, part.model)
    if version is None:
        raise NotFound(
            f"There is no reward model {part.model!r}: train one first "
            "(`python -m rlhf_core train reward`)."
        )
    return _source_of(version, part)


def _source_of(version: ModelVersionView, part: RewardPart) -> RewardSource:
    if version.kind is ModelKind.POLICY:
        raise InvalidInput(
            f"{version.name} is a policy, which scores nothing: name a reward model.",
            field="rewards",
        )
    if part.aggregate is not None and version.kind is not ModelKind.REWARD_ENSEMBLE:
        raise InvalidInput(f"{version.name} is no ensemble: leave aggregate out.", field="rewards")
    return RewardSource(
        part=part,
        name=version.name,
        kind=version.kind,
        folder=str(version.folder),
        manifest_sha256=version.manifest_sha256,
        version_id=str(version.id),
    )


def _find_own_judge(db: Session, rewards: Sequence[RewardSource]) -> RewardSource | None:
    """The judge that was trained beside the first reward model that has one."""
    for reward in rewards:
        if reward.version_id is None:
            continue
        (version,) = load_versions(db, ModelVersion.id == uuid.UUID(reward.version_id))
        judge_id = version.details.get("judge_version_id")
        if judge_id:
            found = load_versions(db, ModelVersion.id == uuid.UUID(str(judge_id)))
            if found and found[0].deleted_at is None:
                judge = found[0]
                return _source_of(judge, RewardPart(f"{judge.model_name}@{judge.number}"))
    return None


def _open_one(source: RewardSource) -> "RewardFunction":
    if source.kind is None:
        return _open_rule(source.part.rule or "")
    folder = open_artifact(Path(source.folder), source.manifest_sha256)
    model = open_reward_model(source.kind, folder, aggregate=source.part.aggregate)
    weights = source.part.aspects or None
    model.score(["Is it warm?"], ["It is warm."], weights=weights)  # says early what is wrong

    def reward(prompts: list[str], completions: list[str]) -> list[float]:
        return [float(score) for score in model.score(prompts, completions, weights=weights)]

    return reward


def open_reward_model(
    kind: ModelKind, folder: Path, *, aggregate: str | None = None
) -> "RewardModel":
    """The model in a verified folder, with the settings' encoder where it needs one.

    Prompts come again and again, and a judge is asked of what was rewarded: embeddings are
    remembered over all models of this process.
    """
    from rlhf_core.rewards.ensemble import EnsembleRewardModel, read_ensemble
    from rlhf_core.rewards.loading import load_model

    inner = read_ensemble(folder).member_kind if kind is ModelKind.REWARD_ENSEMBLE else kind
    encoder = _shared_encoder() if inner is ModelKind.REWARD_SBERT else None
    model = load_model(kind, folder, encoder=encoder)
    if aggregate in ("mean", "min") and isinstance(model, EnsembleRewardModel):
        return EnsembleRewardModel(model.members, aggregate="min" if aggregate == "min" else "mean")
    return model


class RememberingEncoder:
    """An encoder that keeps the embeddings of the latest texts in memory."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.digest = encoder.digest
        self.dimension = encoder.dimension
        self._known: dict[str, np.ndarray[Any, Any]] = {}

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> "np.ndarray[Any, Any]":
        """L2-normalised float32 embeddings (n, dimension), in the order of `texts`."""
        import numpy as np

        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        if fresh:
            if len(self._known) + len(fresh) > MAX_REMEMBERED:
                wanted = {text: self._known[text] for text in texts if text in self._known}
                self._known = wanted
            found = self._encoder.encode(fresh, batch_size=batch_size)
            self._known |= dict(zip(fresh, found, strict=True))
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        return np.stack([self._known[text] for text in texts])


_ENCODERS: dict[str, RememberingEncoder] = {}


def _shared_encoder() -> Any:
    from rlhf_core.encoder.model import load_encoder

    name = get_settings().encoder
    if name not in _ENCODERS:
        _ENCODERS[name] = RememberingEncoder(load_encoder(name))
    return _ENCODERS[name]


def _open_rule(name: str) -> "Callable[[list[str], list[str]], Sequence[float]]":
    """The function that the setting names, from a module that Python finds.

    Also one in the folder where the product was started, as for a command line.
    """
    place = list_rules().get(name)
    if place is None:
        raise NotFound(f"There is no rule {name!r}: name it in the setting RLHF_REWARD_RULES.")
    module, _, function = place.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(import_module(module), function)
    except RlhfError:
        raise
    except Exception as error:  # the module is the user's own
        raise InvalidInput(
            f"The rule {name!r} cannot be opened at {place} ({type(error).__name__}: {error}): "
            "mend RLHF_REWARD_RULES, or the module."
        ) from error
    if not callable(found):
        raise InvalidInput(f"The rule {name!r}: {place} is no function.")

    def rule(prompts: list[str], completions: list[str]) -> list[float]:
        values = [float(value) for value in found(prompts, completions)]
        if not all(math.isfinite(value) for value in values):
            raise ValueError("it gave a value that is no finite number")
        return values

    return rule
