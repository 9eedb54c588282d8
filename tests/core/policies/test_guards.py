"""Guards: a run that goes wrong ends with what to change, its last checkpoint kept."""

from pathlib import Path

import pytest
import torch

from rlhf_core.errors import TrainingFailed
from rlhf_core.policies import ppo
from rlhf_core.policies.guards import check_update
from rlhf_core.policies.ppo_params import PpoParams
from tests.core.policies.tiny_policies import count_of, train


def test_a_policy_that_leaves_its_sampler_ends_the_run(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"left the one that sampled.*choose a lower lr"):
        train(tiny, tmp_path, count_of("d"), updates=50, lr=0.5, max_ratio=1.5, kl_coef=0.0)


def test_too_much_kl_ends_the_run(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"far from the reference.*higher kl_coef"):
        train(tiny, tmp_path, count_of("d"), updates=50, max_kl=2.0, kl_coef=0.0, lr=1e-2)
    assert list((tmp_path / "work").glob("step-*"))


def test_a_collapse_of_entropy_ends_the_run(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"The entropy collapsed by update .*entropy_coef"):
        train(
            tiny, tmp_path, count_of("d"), updates=80, min_entropy_share=0.5, kl_coef=0.0, lr=1e-2
        )


def test_a_collapse_of_length_ends_the_run(tiny: Path, tmp_path: Path) -> None:
    def short(prompts: list[str], completions: list[str]) -> list[float]:
        return [-float(len(text.split())) for text in completions]

    with pytest.raises(TrainingFailed, match=r"The length collapsed.*short answers"):
        train(tiny, tmp_path, short, updates=80, min_length_share=0.5, kl_coef=0.0, lr=1e-2)


def test_a_collapse_must_last() -> None:
    params = PpoParams(base="folder", min_entropy_share=0.5, patience=2)
    first = {"kl": 0.0, "entropy": 2.0, "length": 5.0, "eos_share": 0.5}
    low = first | {"entropy": 0.9}
    streaks: dict[str, int] = {}
    check_update(low, first, streaks, 1, params)
    check_update(first, first, streaks, 2, params)
    check_update(low, first, streaks, 3, params)
    with pytest.raises(TrainingFailed, match="entropy collapsed by update 4"):
        check_update(low, first, streaks, 4, params)


def test_a_loss_that_is_no_number_ends_the_run_before_it_reaches_the_weights(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, calls = ppo.compute_advantages, [0]

    def broken(
        rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, **options: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        calls[0] += 1
        return own(rewards * (torch.nan if calls[0] == 4 else 1.0), values, mask, **options)

    monkeypatch.setattr(ppo, "compute_advantages", broken)
    with pytest.raises(TrainingFailed, match=r"no number any more in update 4.*lower lr"):
        train(tiny, tmp_path, count_of("d"))
    assert [path.name for path in (tmp_path / "work").glob("step-*")] == ["step-000000002"]
