"""One function loads a reward model of any kind from its folder."""

from pathlib import Path
from typing import assert_never

from rlhf_core.encoder.model import SentenceEncoder
from rlhf_core.errors import InvalidInput
from rlhf_core.rewards.base import RewardModel
from rlhf_core.rewards.ensemble import EnsembleRewardModel, LatestEncoder, read_ensemble
from rlhf_core.vocabulary import ModelKind


def load_model(
    kind: ModelKind, folder: Path, *, encoder: SentenceEncoder | None = None
) -> RewardModel:
    """The model in `folder`, which `artifacts.open_artifact` has verified.

    `encoder` is needed by models of sentence embeddings, and by ensembles of them. Raises
    InvalidInput where the files are not those of such a model, or fit another encoder.
    """
    match kind:
        case ModelKind.REWARD_SBERT:
            from rlhf_core.rewards.sbert import load_reward_model

            if encoder is None:
                raise InvalidInput(
                    f"{folder} holds a model of sentence embeddings: give an encoder to load it."
                )
            return load_reward_model(folder, encoder=encoder)
        case ModelKind.REWARD_TRANSFORMER:
            from rlhf_core.rewards.transformer import load_transformer

            return load_transformer(folder)
        case ModelKind.REWARD_STEPS:
            from rlhf_core.rewards.steps import load_step_model

            return load_step_model(folder)
        case ModelKind.REWARD_ENSEMBLE:
            spec = read_ensemble(folder)
            shared = None if encoder is None else LatestEncoder(encoder)
            members = [
                load_model(spec.member_kind, folder / name, encoder=shared) for name in spec.members
            ]
            return EnsembleRewardModel(members, aggregate=spec.aggregate)
        case ModelKind.POLICY | ModelKind.POLICY_REMOTE:
            raise InvalidInput(
                f"{folder} holds a policy, which scores nothing: name a reward model."
            )
        case _:
            assert_never(kind)
