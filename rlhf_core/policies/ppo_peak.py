"""The policy at the held-out peak: candidates are kept on the disk while a run goes on."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf_core.checkpoints import open_checkpoint, save_checkpoint
from rlhf_core.policies.audit import candidate_every, find_peak, half_window, is_settled
from rlhf_core.policies.ppo_setup import Setup, write_together
from rlhf_core.policies.ppo_state import PpoProgress

if TYPE_CHECKING:
    import torch

FOLDER = "candidates"
WEIGHTS = "weights.safetensors"
ALL = 10**6


def keep_candidate(setup: Setup, progress: PpoProgress, work_dir: Path) -> None:
    """Every so often, write the policy's weights; those that cannot be the best any more go.

    Call before an update, where a held-out judge is given. A run that goes on from a checkpoint
    writes what comes after it anew.
    """
    updates, done = setup.params.updates, progress.update
    if done % candidate_every(updates) or not setup.params.keep_best:
        return
    folder = work_dir / FOLDER

    def write() -> None:
        from safetensors.torch import save_file

        _drop_losers(folder, progress, updates)
        ready = {name: value.contiguous().cpu() for name, value in _weights(setup).items()}
        save_checkpoint(folder, done, lambda path: save_file(ready, path / WEIGHTS), keep=ALL)

    write_together(setup, write)


def restore_peak(setup: Setup, progress: PpoProgress, work_dir: Path) -> int:
    """Put the best candidate's weights into the policy; after how many updates it was so.

    Candidates that are damaged do not count; the policy as it is always is one.
    """
    folder = work_dir / FOLDER
    found: list[int] = []
    if setup.processes.is_first:
        found = _list(folder)
    found = setup.processes.gather(found)[0]
    half = half_window(setup.params.updates)
    while setup.params.keep_best:
        best = find_peak(progress.history, [*found, progress.update], half)
        if best == progress.update:
            break
        candidate = open_checkpoint(folder, best, setup.tracker.log)
        if all(setup.processes.gather(candidate is not None)) and candidate is not None:
            _load(setup, candidate.path)
            return best
        found.remove(best)
    return progress.update


def remove_candidates(work_dir: Path) -> None:
    """Remove them all, after the policy was written."""
    shutil.rmtree(work_dir / FOLDER, ignore_errors=True)


def _weights(setup: Setup) -> "dict[str, torch.Tensor]":
    trained = setup.policy.trained()
    return {name: value.detach() for name, value in trained.items() if name.startswith("model/")}


def _load(setup: Setup, path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    kept = load_file(path / WEIGHTS)
    with torch.no_grad():
        for name, weight in _weights(setup).items():
            weight.copy_(kept[name])


def _drop_losers(folder: Path, progress: PpoProgress, updates: int) -> None:
    """Remove the candidates of a future that is not this run's, and those that were beaten."""
    done, half = progress.update, half_window(updates)
    places = _list(folder)
    for place in [one for one in places if one >= done]:
        _drop(folder, place)
    settled = [one for one in places if one < done and is_settled(one, done, half, updates)]
    if settled:
        best = find_peak(progress.history, settled, half)
        for place in set(settled) - {best}:
            _drop(folder, place)


def _drop(folder: Path, place: int) -> None:
    shutil.rmtree(folder / f"step-{place:09d}", ignore_errors=True)


def _list(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))
