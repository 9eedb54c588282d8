"""Policy, critic and reference: one trunk with two heads, and what it was before training.

The value head sits on the policy's own trunk, or on a small one of its own. The reference is a
frozen copy where all weights are trained; with LoRA it is the trunk with the adapter switched off,
or with a frozen copy of the adapter that training started from.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from rlhf_core.policies.lean_trunk import LeanTrunk, make_lean
from rlhf_core.policies.narrow import Narrowed
from rlhf_core.policies.processes import Processes
from rlhf_core.policies.sharding import (
    Dealt,
    cut_part,
    is_dealt,
    make_mesh,
    own_part,
    put_together,
)
from rlhf_core.pretrained import float32_attention

if TYPE_CHECKING:
    import torch

TRAINED, REFERENCE = "default", "reference"


class ActorCritic:
    """A causal model (plain, or with a LoRA adapter) with a value head.

    `model` is what is trained and saved; `critic` a trunk of its own for the values (None: the
    policy's). The reference needs `frozen` (a copy of the model) where all weights are trained.
    Their weights may be dealt to the processes, but for the value head's.
    """

    def __init__(self, model: Any, *, critic: Any = None, frozen: Any = None) -> None:
        import torch

        self.model = model
        self.critic = critic
        self._frozen = frozen
        self.is_adapted = hasattr(model, "peft_config")
        causal = model.get_base_model() if self.is_adapted else model
        trunk = causal.base_model
        self._trunks = {"policy": trunk}
        if critic is not None:
            self._trunks["critic"] = critic
        if frozen is not None:
            self._trunks["reference"] = frozen.base_model
        self.head = causal.get_output_embeddings()
        self.config = causal.config
        self.device: torch.device = self.head.weight.device
        self._takes_positions = "position_ids" in inspect.signature(trunk.forward).parameters
        width = (critic or causal).config.get_text_config().hidden_size
        self.value_head = torch.nn.Linear(width, 1).to(self.device)
        torch.nn.init.zeros_(self.value_head.weight)
        torch.nn.init.zeros_(self.value_head.bias)
        self._lean: dict[str, LeanTrunk] = {}
        self._narrowed: dict[str, Narrowed] = {}
        self._dealt: dict[str, Dealt] = {}

    def states(
        self,
        ids: "torch.Tensor",
        *,
        mask: "torch.Tensor | None" = None,
        positions: "torch.Tensor | None" = None,
        cache: Any = None,
    ) -> "torch.Tensor":
        """The trunk's last states (rows, tokens, width) for ids (rows, tokens)."""
        lean = self._lean.get("policy")
        if lean is not None:
            return lean.run(ids, mask=mask, positions=positions, cache=cache)
        options = {"position_ids": positions} if self._takes_positions else {}
        return last_states(self._trunks["policy"], ids, mask, past_key_values=cache, **options)

    def values(self, states: "torch.Tensor") -> "torch.Tensor":
        """The critic's values (n,) in float32 at its states (n, width)."""
        found: torch.Tensor = self.value_head(states.float())[..., 0]
        return found

    def answer_states(
        self,
        prompts: Sequence[Sequence[int]],
        tokens: "torch.Tensor",
        lengths: Sequence[int],
        *,
        of: str = "policy",
    ) -> "torch.Tensor":
        """The states before each token of the answers, row after row: (sum of lengths, width).

        `tokens` (rows, T) are the answers' ids, of which the first `lengths` are real. `of` names
        the trunk: policy, critic, or reference. The rows should be of like length: they are padded
        on the right, where causal attention needs no mask.
        """
        import torch

        rows = [
            [*prompt, *answer[: length - 1]]
            for prompt, answer, length in zip(prompts, tokens.tolist(), lengths, strict=True)
        ]
        of = of if of in self._trunks else "policy"  # the reference of an adapter is one without
        lean = self._lean.get(of)
        width = max(len(row) for row in rows)
        if lean is not None:
            starts = list(accumulate((len(row) for row in rows), initial=0))[:-1]
        else:
            starts = [row * width for row in range(len(rows))]
        listed = [
            start + len(prompt) - 1 + step
            for start, prompt, length in zip(starts, prompts, lengths, strict=True)
            for step in range(length)
        ]
        places = torch.tensor(listed, device=self.device)
        if lean is not None:
            return lean.run_rows(rows, places)
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=self.device)
        narrowed = self._narrowed.get(of)
        with narrowed.at(places) if narrowed else nullcontext():
            states = last_states(self._trunks[of], ids)
        return states.reshape(-1, states.shape[-1])[places]

    def narrow(self, *, is_dealt: bool) -> None:
        """From now on, compute in the last layer of each trunk what `answer_states` gives alone.

        On a CPU, trunks are run leaner altogether, but where they are to be dealt to processes.
        """
        is_lean = self.device.type == "cpu" and not is_dealt
        for name, trunk in self._trunks.items():
            lean = make_lean(trunk) if is_lean else None
            if lean is not None:
                self._lean[name] = lean
            else:
                self._narrowed[name] = Narrowed(trunk)

    @property
    def packs_rows(self) -> bool:
        """Whether rows of any lengths run together with padding but in attention."""
        return "policy" in self._lean

    def deal(self, processes: Processes, dtype: "torch.dtype") -> None:
        """Deal the weights to the processes, from now on; `dtype` is that of computing."""
        self.device = processes.device
        self.value_head.to(self.device)
        mesh = make_mesh(processes.device, processes.count)
        causal = self.model.get_base_model() if self.is_adapted else self.model
        models = {"policy": causal, "critic": self.critic, "reference": self._frozen}
        self._dealt = {
            name: Dealt(one, mesh, dtype=dtype) for name, one in models.items() if one is not None
        }
        self._trunks = {name: dealt.run for name, dealt in self._dealt.items()}

    @property
    def is_dealt(self) -> bool:
        """Whether the weights are dealt to processes."""
        return bool(self._dealt)

    @contextmanager
    def together(self, *names: str) -> Iterator[None]:
        """Within, dealt weights of these (policy, critic, reference) are whole in each process.

        For any number of passes without gradient; all processes call it alike.
        """
        wanted = dict.fromkeys(name if name in self._dealt else "policy" for name in names)
        with ExitStack() as stack:
            for name in wanted if self._dealt else ():
                stack.enter_context(self._dealt[name].together())
            yield

    def in_step(self, parts: "list[list[int]]", processes: Processes) -> "Iterator[list[int]]":
        """The parts of a step, one after the other, that are run with gradient.

        Where weights are dealt each pass needs all processes: those with fewer parts then run as
        many more, from which nothing is learned.
        """
        import torch

        spare = max(processes.gather(len(parts))) - len(parts) if self._dealt else 0
        yield from parts
        ids = torch.zeros((1, 1), dtype=torch.long, device=self.device)
        for _ in range(spare):
            roots = [self.states(ids)]
            if self.critic is not None:
                roots.append(last_states(self._trunks["critic"], ids))
            leaf = roots[0].detach().requires_grad_()
            (self.head(leaf).sum() * 0.0).backward()
            torch.autograd.backward(roots, [torch.zeros_like(root) for root in roots])

    @contextmanager
    def as_reference(self) -> Iterator[Any]:
        """Within, `answer_states(..., of="reference")` are the reference's; yields its head."""
        if self._frozen is not None:
            yield self._frozen.get_output_embeddings()
        elif REFERENCE in self.model.peft_config:
            try:
                self.model.base_model.set_adapter(REFERENCE, inference_mode=True)
                yield self.head
            finally:
                self.model.base_model.set_adapter(TRAINED)
        else:
            with self.model.disable_adapter():
                yield self.head

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Within, gradient checkpointing (if asked for) holds; without, the cache of sampling.

        On a CPU, attention in bfloat16 is one in float32 meanwhile, as the way back through it is
        so slow. Nothing else changes: there is no dropout.
        """
        import torch

        weight = self.head.weight
        is_slow = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
        with ExitStack() as stack:
            for part in (self.model, self.critic):
                if part is not None:
                    stack.callback(part.train().eval)
                    stack.enter_context(float32_attention(part, is_on=is_slow))
            yield

    def trained(self) -> "dict[str, torch.Tensor]":
        """The policy's (and a separate critic's) trained weights, by name, without the head's."""
        found = {f"model/{name}": value for name, value in self.model.named_parameters()}
        if self.critic is not None:
            found |= {f"critic/{name}": value for name, value in self.critic.named_parameters()}
        return {name: value for name, value in found.items() if value.requires_grad}

    def whole_weights(self, *, keep: bool = True) -> "dict[str, torch.Tensor]":
        """The policy's trained weights, by name, put together where they are dealt.

        Then all processes call it alike, and those that do not `keep` them get none.
        """
        found: dict[str, torch.Tensor] = {}
        for name, weight in self.trained().items():
            if name.startswith("model/"):
                whole = weight.detach()
                if is_dealt(weight):
                    whole = put_together(own_part(weight), weight)
                    whole = whole.cpu() if keep else whole
                if keep:
                    found[name] = whole
        return found

    def fill(self, weights: "Mapping[str, torch.Tensor]") -> None:
        """Put whole weights in the place of those of their names."""
        import torch

        trained = self.trained()
        with torch.no_grad():
            for name, whole in weights.items():
                weight = trained[name]
                if is_dealt(weight):
                    own_part(weight).copy_(cut_part(whole, weight))
                else:
                    weight.copy_(whole)

    def head_weights(self) -> "dict[str, torch.Tensor]":
        """The value head's weights, by name."""
        return {f"value/{name}": value for name, value in self.value_head.named_parameters()}


def last_states(
    trunk: Any, ids: "torch.Tensor", mask: "torch.Tensor | None" = None, **options: Any
) -> "torch.Tensor":
    """The states that the trunk gives for ids (rows, tokens): (rows, tokens, width)."""
    use_cache = options.get("past_key_values") is not None
    found = trunk(input_ids=ids, attention_mask=mask, use_cache=use_cache, **options)
    states: torch.Tensor = found.last_hidden_state
    return states
