"""The best policy of a run through TRL: kept on the disk on its way, put back in the end.

A learner from its own answers keeps the policy whose answers a held-out reward likes most, as PPO
does; a learner from rows that with the lowest loss on rows that nothing is learned from.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rlhf_core.policies.ppo_peak import (
    FOLDER,
    Candidates,
    drop_candidate,
    list_candidates,
    read_candidate,
    write_candidate,
)
from rlhf_core.policies.ppo_setup import write_together
from rlhf_core.policies.processes import Processes
from rlhf_core.policies.trl_callback import Course

if TYPE_CHECKING:
    import torch

BestBy = Literal["held_out_reward", "eval_loss"]
EVALUATIONS = 4
Weights = Mapping[str, "torch.Tensor"]


class Keeper(Protocol):
    """What keeps candidates, and knows the best of them."""

    def before_step(self, done: int, weights: Callable[[], Weights]) -> None:
        """Called after `done` steps, before the next one."""

    def after_evaluation(self, done: int, weights: Callable[[], Weights]) -> None:
        """Called when the policy after `done` steps was judged on held-out rows."""

    def find_best(self, done: int) -> tuple[int, "dict[str, torch.Tensor]"]:
        """After how many steps the policy was best, and its weights; none where it is the last."""


class PeakKeeper:
    """Keeps the policy at the peak of the held-out reward."""

    def __init__(self, candidates: Candidates, course: Course) -> None:
        self._candidates, self._course = candidates, course

    def before_step(self, done: int, weights: Callable[[], Weights]) -> None:
        """Keep the policy, where it is time."""
        self._candidates.keep(done, self._course.updates, weights)

    def after_evaluation(self, done: int, weights: Callable[[], Weights]) -> None:
        """Nothing is judged on rows."""

    def find_best(self, done: int) -> tuple[int, "dict[str, torch.Tensor]"]:
        """The candidate at the peak."""
        return self._candidates.find_best(done, self._course.updates)


class LowestKeeper:
    """Keeps the policy with the lowest held-out loss: one candidate at a time."""

    def __init__(
        self, folder: Path, processes: Processes, log: Callable[[str], None], course: Course
    ) -> None:
        self._folder, self._processes, self._log = folder, processes, log
        self._course = course

    def before_step(self, done: int, weights: Callable[[], Weights]) -> None:
        """Nothing is known of the policy yet."""

    def after_evaluation(self, done: int, weights: Callable[[], Weights]) -> None:
        """Keep the policy where its loss is the lowest so far, in place of the one before."""
        if self._lowest() != done:
            return

        def write() -> None:
            for place in list_candidates(self._folder):
                drop_candidate(self._folder, place)
            write_candidate(self._folder, done, weights())

        write_together(self._processes, write)

    def find_best(self, done: int) -> tuple[int, "dict[str, torch.Tensor]"]:
        """The candidate with the lowest loss; the last policy where it is damaged."""
        best = self._lowest()
        if best in (-1, done):
            return done, {}
        weights = read_candidate(self._folder, best, self._log)
        if not all(self._processes.gather(weights is not None)) or weights is None:
            return done, {}
        return best, weights

    def _lowest(self) -> int:
        """After how many steps the loss was lowest: the first of them; -1 where none was judged."""
        judged = [one for one in self._course.history if "eval_loss" in one]
        return int(min(judged, key=lambda one: one["eval_loss"])["step"]) if judged else -1


def make_keeper(
    best_by: BestBy,
    course: Course,
    *,
    updates: int,
    work_dir: Path,
    processes: Processes,
    log: Callable[[str], None],
) -> Keeper:
    """A keeper for a run of so many steps."""
    folder = work_dir / FOLDER
    if best_by == "eval_loss":
        return LowestKeeper(folder, processes, log, course)
    return PeakKeeper(Candidates(folder, processes, log, updates), course)


def evaluation_settings(steps: int, epochs: int) -> dict[str, Any]:
    """When held-out rows are judged: after each epoch, but four times at least, and in the end."""
    every = steps // epochs if epochs >= EVALUATIONS else -(-steps // EVALUATIONS)
    return {"eval_strategy": "steps", "eval_steps": every}


@functools.cache
def keeper_callback() -> Any:
    """The class of the callback between a trainer and a keeper."""
    from transformers import TrainerCallback

    class KeeperCallback(TrainerCallback):  # type: ignore[misc]
        def __init__(self, keeper: Keeper) -> None:
            self.keeper = keeper

        def on_step_begin(
            self, args: Any, state: Any, control: Any, model: Any = None, **more: Any
        ) -> None:
            self.keeper.before_step(state.global_step, lambda: learned_weights(model))

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step >= state.max_steps and args.eval_strategy != "no":
                control.should_evaluate = True

        def on_evaluate(
            self, args: Any, state: Any, control: Any, model: Any = None, **more: Any
        ) -> None:
            self.keeper.after_evaluation(state.global_step, lambda: learned_weights(model))

    return KeeperCallback


def learned_weights(model: Any) -> "dict[str, torch.Tensor]":
    """The trained weights of a model by name, themselves."""
    plain = getattr(model, "module", model)
    return {name: value for name, value in plain.named_parameters() if value.requires_grad}


def put_back(model: Any, weights: Weights) -> None:
    """Put kept weights in the place of a model's."""
    import torch

    own = learned_weights(model)
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
