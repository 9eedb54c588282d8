"""The policy at the held-out peak: candidates are kept on the disk while a run goes on."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf_core.checkpoints import open_checkpoint, save_checkpoint
from rlhf_core.policies.audit import candidate_every, find_peak, half_window, is_settled
from rlhf_core.policies.ppo_setup import Setup, write_together
from rlhf_core.policies.ppo_state import PpoProgress
from rlhf_core.policies.processes import Processes

if TYPE_CHECKING:
    import torch

FOLDER = "candidates"
WEIGHTS = "weights.safetensors"
ALL = 10**6

History = Sequence[Mapping[str, float]]
Weights = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True)
class Candidates:
    """Those of a run of so many `updates`, in a folder that all its processes see."""

    folder: Path
    processes: Processes
    log: Callable[[str], None]
    updates: int

    def keep(self, done: int, history: History, collect: Callable[[], Weights]) -> None:
        """Every so often, write the weights; those that cannot be the best any more go.

        Call before an update, after `done` of them, with the figures of these. `collect` is called
        in all processes, and what it gives is written by the first. A run that goes on from a
        checkpoint writes what comes after it anew.
        """
        if done % candidate_every(self.updates):
            return
        weights = collect()

        def write() -> None:
            self._drop_losers(history, done)
            write_candidate(self.folder, done, weights)

        write_together(self.processes, write)

    def find_best(self, done: int, history: History) -> tuple[int, "dict[str, torch.Tensor]"]:
        """After how many updates the policy was best, and its weights; none where it is the last.

        Candidates that are damaged do not count; the policy as it is always is one.
        """
        found = self.processes.gather(list_candidates(self.folder))[0]
        while True:
            best = find_peak(history, [*found, done], half_window(self.updates))
            if best == done:
                return done, {}
            weights = read_candidate(self.folder, best, self.log)
            if all(self.processes.gather(weights is not None)) and weights is not None:
                return best, weights
            found.remove(best)

    def _drop_losers(self, history: History, done: int) -> None:
        """Remove the candidates of a future that is not this run's, and those that were beaten."""
        half, places = half_window(self.updates), list_candidates(self.folder)
        losers = {place for place in places if place >= done}
        settled = [
            place
            for place in places
            if place < done and is_settled(place, done, half, self.updates)
        ]
        if settled:
            losers |= set(settled) - {find_peak(history, settled, half)}
        for place in losers:
            drop_candidate(self.folder, place)


def keep_candidate(setup: Setup, progress: PpoProgress, work_dir: Path) -> None:
    """Keep PPO's policy as a candidate, where it is time; see `Candidates.keep`."""
    if setup.params.keep_best:
        is_first = setup.processes.is_first
        _of(setup, work_dir).keep(
            progress.update, progress.history, lambda: setup.policy.whole_weights(keep=is_first)
        )


def restore_peak(setup: Setup, progress: PpoProgress, work_dir: Path) -> int:
    """Put the best candidate's weights into the policy; after how many updates it was so."""
    if not setup.params.keep_best:
        return progress.update
    best, weights = _of(setup, work_dir).find_best(progress.update, progress.history)
    setup.policy.fill(weights)
    return best


def _of(setup: Setup, work_dir: Path) -> Candidates:
    return Candidates(work_dir / FOLDER, setup.processes, setup.tracker.log, setup.params.updates)


def write_candidate(folder: Path, place: int, weights: Weights) -> None:
    """Write the weights of the policy after `place` updates."""
    from safetensors.torch import save_file

    ready = {name: value.detach().contiguous().cpu() for name, value in weights.items()}
    save_checkpoint(folder, place, lambda path: save_file(ready, path / WEIGHTS), keep=ALL)


def read_candidate(
    folder: Path, place: int, log: Callable[[str], None]
) -> "dict[str, torch.Tensor] | None":
    """The weights; None where they are damaged."""
    from safetensors.torch import load_file

    candidate = open_checkpoint(folder, place, log)
    if candidate is None:
        return None
    weights: dict[str, torch.Tensor] = load_file(candidate.path / WEIGHTS)
    return weights


def list_candidates(folder: Path) -> list[int]:
    """After how many updates there is one."""
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def drop_candidate(folder: Path, place: int) -> None:
    """Remove one."""
    shutil.rmtree(folder / f"step-{place:09d}", ignore_errors=True)


def remove_candidates(work_dir: Path) -> None:
    """Remove them all, after the policy was written."""
    shutil.rmtree(work_dir / FOLDER, ignore_errors=True)
