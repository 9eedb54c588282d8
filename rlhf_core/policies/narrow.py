"""The last layer's feed-forward part, run where its result is wanted and nowhere else.

It sees one token at a time, and of the last layer only the states before an answer's tokens are
used: those of the prompt, which other layers need for attention, can be left out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Narrowed:
    """The trunk of a causal model, as it was unless `at` says where its states are wanted."""

    def __init__(self, trunk: Any) -> None:
        self._places: torch.Tensor | None = None
        self._shape: tuple[int, ...] = ()
        self._hooks: list[Any] = []
        part = _find_part(trunk)
        if part is not None:
            self._hooks = [
                part.register_forward_pre_hook(self._before),
                part.register_forward_hook(self._after),
            ]
            if not self._is_sound(trunk):
                self.undo()

    @contextmanager
    def at(self, places: "torch.Tensor") -> Iterator[None]:
        """Within, states (rows, tokens, width) are right at these places (n,) of rows * tokens."""
        self._places = places
        try:
            yield
        finally:
            self._places = None

    def undo(self) -> None:
        """Leave the trunk as it was, for ever."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _before(self, part: Any, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._places is None:
            return None
        (states,) = given
        self._shape = states.shape
        return (states.flatten(0, 1).index_select(0, self._places)[None],)

    def _after(self, part: Any, given: tuple[Any, ...], found: Any) -> Any:
        if self._places is None:
            return None
        whole = found.new_zeros((self._shape[0] * self._shape[1], self._shape[2]))
        return whole.index_copy(0, self._places, found[0]).view(self._shape)

    def _is_sound(self, trunk: Any) -> bool:
        """Whether the trunk's states at some places are the same when only these are asked for."""
        import torch

        vocabulary = trunk.config.get_text_config().vocab_size
        ids = torch.arange(1, 13, device=next(trunk.parameters()).device).view(3, 4) % vocabulary
        places = torch.tensor([1, 3, 4, 10], device=ids.device)
        try:
            with torch.inference_mode():
                whole = trunk(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)
                with self.at(places):
                    some = trunk(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)
            return torch.allclose(whole[places].float(), some[places].float(), atol=1e-3, rtol=1e-3)
        except (TypeError, ValueError, AttributeError, RuntimeError, IndexError):
            return False  # a part of another make: it takes or gives something else


def find_layers(trunk: Any) -> list[Any]:
    """The layers of a trunk, by transformers' usual names; none where it has others."""
    layers = getattr(trunk, "layers", None)
    return list((getattr(trunk, "h", None) if layers is None else layers) or [])


def _find_part(trunk: Any) -> Any:
    """The feed-forward part of the last layer, where transformers' usual names have one."""
    layers = find_layers(trunk)
    return getattr(layers[-1], "mlp", None) if layers else None
