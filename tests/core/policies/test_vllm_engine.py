"""Sampling by an engine with the policy's weights: what PPO gets of it, and what it refuses.

vLLM itself needs a GPU. Here the engine's place is taken by a second copy of the model, which is
handed its weights as vLLM is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from rlhf_core.errors import TrainingFailed
from rlhf_core.policies.base import load_causal
from rlhf_core.policies.generate import sample
from rlhf_core.policies.network import ActorCritic
from rlhf_core.policies.ppo_params import PpoParams
from rlhf_core.policies.ppo_setup import Setup, prepare
from rlhf_core.policies.processes import Processes
from rlhf_core.policies.scoring import answer_prompts, draw_uniforms
from rlhf_core.policies.vllm_engine import Answer
from rlhf_core.training import NoOpTracker
from tests.core.policies.tiny_policies import (
    count_of,
    make_adapter,
    make_policy,
    make_prompts,
    train,
)


class Copy:
    """An engine: another model of the same kind, and the uniforms that the seeds stand for."""

    def __init__(self, folder: Path, uniforms: torch.Tensor) -> None:
        self.model = load_causal(folder).eval()
        self.uniforms = uniforms

    def load(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        own = dict(self.model.named_parameters())
        given = dict(weights)
        assert given.keys() == own.keys()
        with torch.no_grad():
            for name, value in given.items():
                own[name].copy_(value)

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        end_ids: Sequence[int],
    ) -> list[Answer]:
        assert len(set(seeds)) == len(prompts)
        found = sample(
            ActorCritic(self.model), prompts, self.uniforms, temperature=temperature,
            end_ids=end_ids, with_values=False,
        )  # fmt: skip
        assert found.tokens.shape[1] == max_tokens
        return [
            Answer(tokens[:length], [-9.0] * length, ended)
            for tokens, length, ended in zip(
                found.tokens.tolist(), found.lengths.tolist(), found.has_ended.tolist(), strict=True
            )
        ]


def make_setup(base: Path) -> Setup:
    params = PpoParams(base=str(base), batch_size=8, response_tokens=6, precision="fp32")
    return prepare(
        make_prompts(), params=params, processes=Processes(0, 1, torch.device("cpu")),
        tracker=NoOpTracker(),
    )  # fmt: skip


@pytest.mark.parametrize("with_adapter", [False, True])
def test_an_engine_answers_with_the_policys_weights_and_ppo_gets_the_policys_figures(
    with_adapter: bool, tiny: Path, tmp_path: Path
) -> None:
    setup = make_setup(make_adapter(tiny, tmp_path / "adapter") if with_adapter else tiny)
    torch.nn.init.normal_(setup.policy.value_head.weight)
    uniforms = draw_uniforms(setup.params, 0)
    own = answer_prompts(setup, range(8), uniforms)
    engine = Copy(make_policy(tmp_path / "other", seed=9), uniforms)
    found = answer_prompts(replace(setup, engine=engine), range(8), uniforms)
    assert torch.equal(found.tokens, own.tokens)
    assert torch.equal(found.lengths, own.lengths)
    assert torch.equal(found.has_ended, own.has_ended)
    assert found.logprobs.numpy() == pytest.approx(own.logprobs.numpy(), abs=1e-4)
    assert found.values.numpy() == pytest.approx(own.values.numpy(), abs=1e-4)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_a_run_that_asks_for_it_says_how_to_install_it(
    tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match="vLLM is not installed; install it"):
        train(tiny, tmp_path, count_of("d"), generator="vllm")
