"""Relatives of PPO keep the policy that did best where nothing was learned from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from rlhf_core.errors import TrainingFailed
from rlhf_core.policies.trl_best import evaluation_settings
from tests.core.policies.relatives import PAIRS, Learn, dpo, grpo, kto, rloo, run
from tests.core.policies.tiny_policies import Watcher, count_of

FAST: dict[str, Any] = {
    "updates": 10, "batch_size": 16, "micro_batch_size": 16, "lr": 1e-2, "sample_every": 0,
}  # fmt: skip


def dislike(prompts: list[str], completions: list[str]) -> list[float]:
    """Falls as the reward rises."""
    return [-value for value in count_of("d")(prompts, completions)]


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model" / "model.safetensors")


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(bool((one[name] == other[name]).all()) for name in one)


@pytest.mark.parametrize("relative", [pytest.param(rloo, marks=pytest.mark.slow), grpo])
def test_the_policy_at_the_held_out_peak_is_written(
    relative: Callable[..., Learn], tiny: Path, tmp_path: Path
) -> None:
    report = run(relative(tiny, held=dislike, **FAST), tmp_path / "kept")
    audit = report.details["audit"]
    kept = audit["kept_update"]
    assert kept == audit["best_update"] == report.metrics["kept_step"]
    assert kept <= 3 < audit["num_updates"] == 10
    assert audit["points"][kept]["held_out_smoothed"] == max(
        point["held_out_smoothed"] for point in audit["points"]
    )
    assert not list((tmp_path / "kept" / "work").iterdir())
    short = run(relative(tiny, held=dislike, keep_best=False, **FAST | {"updates": max(1, kept)}),
                tmp_path / "short")  # fmt: skip
    expected = weights(tmp_path / "short") if kept else load_file(tiny / "model.safetensors")
    assert same(weights(tmp_path / "kept"), expected)
    assert short.details["audit"]["kept_update"] == max(1, kept)


def test_without_a_judge_the_last_policy_is_kept_and_the_audit_says_so(
    tiny: Path, tmp_path: Path
) -> None:
    report = run(rloo(tiny), tmp_path)
    assert report.metrics["kept_step"] == 5
    assert "No held-out judge looked on" in report.details["audit"]["sentence"]
    assert {"sqrt_kl", "reward", "length"} <= set(report.details["audit"]["points"][0])


@pytest.mark.parametrize("relative", [dpo, pytest.param(kto, marks=pytest.mark.slow)])
def test_the_policy_with_the_lowest_held_out_loss_is_written(
    relative: Callable[..., Learn], tiny: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"epochs": 4, "lr": 0.3, "sample_every": 0}  # far too steep a rate
    tracker = Watcher()
    report = run(relative(tiny, **options), tmp_path / "kept", tracker)
    judged = {e["step"]: e["eval_loss"] for e in report.details["history"] if "eval_loss" in e}
    kept = report.metrics["kept_step"]
    assert judged[kept] == min(judged.values()) == report.metrics["eval_loss"]
    last = run(relative(tiny, keep_best=False, **options), tmp_path / "last")
    assert last.metrics["kept_step"] == max(judged)
    assert same(weights(tmp_path / "kept"), weights(tmp_path / "last")) == (kept == max(judged))


@pytest.mark.slow
def test_a_run_that_was_stopped_keeps_the_same_policy(tiny: Path, tmp_path: Path) -> None:
    whole = run(rloo(tiny, held=dislike, **FAST), tmp_path / "once")
    with pytest.raises(TrainingFailed, match="Stopped on request after step 6"):
        run(rloo(tiny, held=dislike, **FAST), tmp_path / "twice", Watcher(6))
    again = run(rloo(tiny, held=dislike, **FAST), tmp_path / "twice")
    assert again.details["audit"] == whole.details["audit"]
    assert same(weights(tmp_path / "once"), weights(tmp_path / "twice"))


def test_damaged_candidates_do_not_count(tiny: Path, tmp_path: Path) -> None:
    def damage() -> None:
        for file in (tmp_path / "work" / "candidates").glob("*/weights.safetensors"):
            file.write_bytes(b"")

    report = run(rloo(tiny, held=dislike, **FAST), tmp_path, Watcher(9, damage))
    assert report.details["audit"]["kept_update"] > report.details["audit"]["best_update"]


def test_one_epoch_is_judged_on_its_way_too(tiny: Path, tmp_path: Path) -> None:
    report = run(dpo(tiny, PAIRS, epochs=1, batch_size=2, micro_batch_size=2), tmp_path)
    judged = [entry["step"] for entry in report.details["history"] if "eval_loss" in entry]
    steps = int(report.metrics["num_steps"])
    assert len(judged) in (3, 4)
    assert judged[-1] == steps
    assert evaluation_settings(40, 8)["eval_steps"] == 5
    assert evaluation_settings(3, 1)["eval_steps"] == 1
