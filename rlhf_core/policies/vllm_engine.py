"""Sampling by vLLM, where it is installed: an engine beside the policy, with a copy of its weights.

Written after vLLM's documentation and the way TRL 1.16 uses it within the trainer's processes; it
needs a GPU, and has not been run with vLLM itself. The engine's arithmetic rounds otherwise than
the policy's: what PPO learns from, log-probabilities and values, the policy computes again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rlhf_core.errors import InvalidInput
from rlhf_core.policies.generate import Sampled
from rlhf_core.policies.network import TRAINED, ActorCritic
from rlhf_core.policies.ppo_params import PpoParams
from rlhf_core.policies.processes import Processes
from rlhf_core.pretrained import Precision

if TYPE_CHECKING:
    import torch

MEMORY_SHARE = 0.3
"""Of the GPU's memory for vLLM's weights and cache; the rest is the trainer's."""


@dataclass(frozen=True)
class Answer:
    """The tokens of an answer with their log-probabilities; whether the last one ends it."""

    tokens: list[int]
    logprobs: list[float]
    has_ended: bool


class Engine(Protocol):
    """What samples answers with weights that it is given."""

    def load(self, weights: "Iterable[tuple[str, torch.Tensor]]") -> None:
        """Take the policy's weights as they are now, by their names in transformers."""
        ...

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        end_ids: Sequence[int],
    ) -> list[Answer]:
        """An answer to each prompt, decided by its seed."""
        ...


def sample_by(
    engine: Engine,
    policy: ActorCritic,
    prompts: Sequence[Sequence[int]],
    uniforms: "torch.Tensor",
    *,
    temperature: float,
    end_ids: Sequence[int],
) -> Sampled:
    """As `generate.sample`, by the engine with the policy's weights; `values` are 0.

    Of a row of `uniforms` (n, T) the first makes the seed, and T is the most tokens.
    """
    import torch

    num_rows, num_tokens = uniforms.shape
    engine.load(policy_weights(policy))
    answers = engine.answer(
        prompts,
        [int(value * 2**31) for value in uniforms[:, 0].tolist()],
        max_tokens=num_tokens,
        temperature=temperature,
        end_ids=end_ids,
    )
    tokens = torch.zeros((num_rows, num_tokens), dtype=torch.long)
    logprobs = torch.zeros((num_rows, num_tokens))
    for row, one in enumerate(answers):
        tokens[row, : len(one.tokens)] = torch.tensor(one.tokens)
        logprobs[row, : len(one.tokens)] = torch.tensor(one.logprobs)
    device = policy.device
    return Sampled(
        prompts=[list(prompt) for prompt in prompts],
        tokens=tokens.to(device),
        lengths=torch.tensor([len(one.tokens) for one in answers], device=device),
        logprobs=logprobs.to(device),
        values=torch.zeros((num_rows, num_tokens), device=device),
        has_ended=torch.tensor([one.has_ended for one in answers], device=device),
    )


def policy_weights(policy: ActorCritic) -> "Iterator[tuple[str, torch.Tensor]]":
    """The policy's weights by their names in transformers, adapters added to them on the way."""
    causal = policy.model.get_base_model() if policy.is_adapted else policy.model
    adapted = {name: module for name, module in causal.named_modules() if hasattr(module, "lora_A")}
    for name, weight in causal.named_parameters():
        if ".lora_" in name:
            continue
        owner, _, last = name.rpartition(".base_layer.")
        if not owner:
            yield name, weight.detach()
        elif last == "weight" and TRAINED in adapted[owner].lora_A:
            change = adapted[owner].get_delta_weight(TRAINED)
            yield f"{owner}.weight", (weight + change.to(weight.dtype)).detach()
        else:
            yield f"{owner}.{last}", weight.detach()


def open_engine(
    folder: Path, params: PpoParams, processes: Processes, precision: Precision
) -> Engine:
    """An engine with the model of a checked folder, on this process's GPU.

    Raises InvalidInput where vLLM is not installed, or there is no GPU.
    """
    try:
        from vllm import LLM  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise InvalidInput(
            "generator vllm: vLLM is not installed; install it (`pip install vllm`, on Linux with "
            "a GPU), or choose generator own.",
            field="generator",
        ) from error
    if processes.device.type != "cuda":
        raise InvalidInput(
            f"generator vllm: it needs a GPU, and this run computes on {processes.device.type}; "
            "choose generator own.",
            field="generator",
        )
    together: dict[str, Any] = {}
    if processes.count > 1:
        together["distributed_executor_backend"] = "external_launcher"
    return VllmEngine(
        LLM(
            model=str(folder),
            dtype={"bf16": "bfloat16", "fp16": "float16"}.get(precision.name, "float32"),
            max_model_len=params.prompt_tokens + params.response_tokens,
            gpu_memory_utilization=MEMORY_SHARE,
            tensor_parallel_size=1,
            logprobs_mode="processed_logprobs",
            seed=params.seed,
            trust_remote_code=False,
            **together,
        )
    )


class VllmEngine:
    """The engine of vLLM."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    def load(self, weights: "Iterable[tuple[str, torch.Tensor]]") -> None:
        """Take the policy's weights as they are now."""
        worker = self._llm.llm_engine.model_executor.driver_worker
        worker.model_runner.model.load_weights(weights)
        self._llm.reset_prefix_cache()

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        end_ids: Sequence[int],
    ) -> list[Answer]:
        """An answer to each prompt, decided by its seed."""
        from vllm import SamplingParams

        found = self._llm.generate(
            [{"prompt_token_ids": list(prompt)} for prompt in prompts],
            sampling_params=[
                SamplingParams(
                    max_tokens=max_tokens,
                    temperature=temperature,
                    stop_token_ids=list(end_ids),
                    ignore_eos=False,
                    detokenize=False,
                    logprobs=0,
                    seed=seed,
                )
                for seed in seeds
            ],
            use_tqdm=False,
        )
        return [_read(one.outputs[0], set(end_ids)) for one in found]


def _read(output: Any, ends: set[int]) -> Answer:
    tokens = [int(token) for token in output.token_ids]
    logprobs = [
        float(told[token].logprob) for token, told in zip(tokens, output.logprobs, strict=True)
    ]
    return Answer(tokens, logprobs, tokens[-1] in ends)
