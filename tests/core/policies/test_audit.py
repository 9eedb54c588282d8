"""The audit: a judge that nothing is learned from says which policy is kept."""

import json
from pathlib import Path

import pytest

from rlhf_core.errors import TrainingFailed
from rlhf_core.policies.audit import find_peak, make_audit, smooth
from rlhf_core.policies.ppo_peak import FOLDER, WEIGHTS
from rlhf_core.policies.rewards_glue import RewardFunction
from rlhf_core.training import Sample, TrainReport
from tests.core.policies.tiny_policies import Watcher, count_of, train

OVER = {
    "updates": 24, "batch_size": 16, "micro_batch_size": 16, "kl_coef": 0.0, "lr": 5e-3,
    "missing_eos_penalty": None, "sample_every": 0, "checkpoint_every": 8,
}  # fmt: skip


def likes_two(prompts: list[str], completions: list[str]) -> list[float]:
    """A judge to whom two `d` are best: none and six are bad."""
    return [-abs(2.0 - text.split().count("d")) for text in completions]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def over_optimise(tiny: Path, folder: Path, **options: object) -> TrainReport:
    return train(tiny, folder, count_of("d"), held_out=likes_two, **OVER | options)


@pytest.fixture(scope="module")
def gamed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainReport]:
    """A run whose reward is gamed: its folder, and its report."""
    folder = tmp_path_factory.mktemp("gamed")
    return folder, over_optimise(tiny, folder)


def test_a_smoothed_curve_has_a_value_before_the_first_and_after_the_last_update() -> None:
    assert smooth([1.0, 2.0, 3.0, 4.0], 1) == [1.5, 2.0, 3.0, 3.5, 3.5]
    assert smooth([5.0], 3) == [5.0, 5.0]


def test_one_lucky_batch_is_no_peak() -> None:
    judged = [0.0, 1.0, 0.0, 0.4, 0.5, 0.6, 0.5, 0.4, 0.1, 0.1]
    history = [{"reward": float(place), "held_out_reward": one} for place, one in enumerate(judged)]
    assert find_peak(history, range(11), 1) == 5
    assert find_peak(history, [2, 8], 1) == 2


def test_of_equals_the_later_is_kept_and_without_a_judge_the_last() -> None:
    assert find_peak([{"held_out_reward": 1.0}] * 5, range(6), 1) == 5
    assert find_peak([{"reward": 1.0}] * 5, [0, 2, 5], 1) == 5
    audit = make_audit([{"reward": 1.0, "kl": 4.0}] * 5, kept_update=5)
    assert audit["best_update"] is None
    assert audit["points"][1]["sqrt_kl"] == 2.0
    assert "No held-out judge looked on" in audit["sentence"]


def test_the_audit_of_a_long_run_has_a_few_points_and_names_what_drifted() -> None:
    history = [
        {"reward": float(place), "held_out_reward": 1.0 - abs(place - 300) / 300, "kl": place / 9,
         "length": 10.0 + place / 10, "opening_share": 0.1 + place / 2000}
        for place in range(900)
    ]  # fmt: skip
    audit = make_audit(history, kept_update=300)
    assert audit["best_update"] == 300
    assert len(audit["points"]) == 180
    assert "After 300 of 900 updates the reward went on rising" in audit["sentence"]
    assert "answers are 3.3 times as long" in audit["sentence"]
    assert json.loads(json.dumps(audit)) == audit


def test_the_policy_at_the_held_out_peak_is_written(gamed: tuple[Path, TrainReport]) -> None:
    folder, report = gamed
    audit = report.details["audit"]
    judged = [point["held_out_reward"] for point in audit["points"]]
    assert judged[-1] < max(judged) - 1.0  # `d` alone, all along
    assert 0 < audit["kept_update"] == report.metrics["kept_update"] < 24
    assert audit["kept_update"] == audit["best_update"]
    assert "the held-out judge liked the answers less" in audit["sentence"]
    assert report.metrics["held_out_reward"] > judged[-1] + 0.5
    assert not (folder / "work" / FOLDER).exists()


def test_the_weights_kept_are_those_that_a_run_of_so_many_updates_ends_with(
    gamed: tuple[Path, TrainReport], tiny: Path, tmp_path: Path
) -> None:
    folder, report = gamed
    updates = report.details["audit"]["kept_update"]
    short = over_optimise(tiny, tmp_path, updates=updates, keep_best=False)
    assert short.details["audit"]["kept_update"] == updates
    assert short.details["history"] == report.details["history"][:updates]
    assert weights(folder) == weights(tmp_path)


def stop(tiny: Path, folder: Path, after: int) -> None:
    with pytest.raises(TrainingFailed, match="Stopped on request"):
        train(tiny, folder, count_of("d"), held_out=likes_two, tracker=Watcher(after),
              **OVER)  # fmt: skip


def test_a_resumed_run_keeps_the_same_policy(
    gamed: tuple[Path, TrainReport], tiny: Path, tmp_path: Path
) -> None:
    folder, report = gamed
    for after in (report.details["audit"]["kept_update"] - 1, 3):  # counted from where it goes on
        stop(tiny, tmp_path, after)
    assert len(list((tmp_path / "work" / FOLDER).iterdir())) < 6
    parts = over_optimise(tiny, tmp_path)
    assert parts.details["audit"] == report.details["audit"]
    assert weights(tmp_path) == weights(folder)


def test_a_damaged_candidate_does_not_count(
    gamed: tuple[Path, TrainReport], tiny: Path, tmp_path: Path
) -> None:
    peak = gamed[1].details["audit"]["kept_update"]
    stop(tiny, tmp_path, peak + 2)
    file = tmp_path / "work" / FOLDER / f"step-{peak:09d}" / WEIGHTS
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    tracker = Watcher()
    hurt = train(tiny, tmp_path, count_of("d"), held_out=likes_two, tracker=tracker, **OVER)
    assert any(f"step {peak} is refused" in line for line in tracker.lines)
    assert hurt.details["audit"]["kept_update"] != peak
    assert hurt.details["audit"]["best_update"] == peak


class Onlooker(Watcher):
    """Keeps what is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: dict[int, list[Sample]] = {}

    def samples(self, step: int, samples: list[Sample]) -> None:  # type: ignore[override]
        self.shown[step] = samples


def test_samples_are_shown_beside_the_references_with_their_reward(
    tiny: Path, tmp_path: Path
) -> None:
    tracker = Onlooker()
    train(tiny, tmp_path, count_of("d"), tracker=tracker, updates=6, lr=1e-2)
    assert list(tracker.shown) == [0, 2, 4, 6]
    first, last = tracker.shown[0], tracker.shown[6]
    assert [one.reference for one in last] == [one.completion for one in first]
    assert [one.completion for one in last] != [one.completion for one in first]
    assert [one.reward for one in last] == count_of("d")([], [one.completion for one in last])


def test_the_probe_tells_what_a_wrong_opinion_does(gamed: tuple[Path, TrainReport]) -> None:
    found = gamed[1].details["audit"]["sycophancy"]
    assert found["num_prompts"] == 8
    assert "I think the right answer is:" in found["example"]
    for when in ("before", "after"):
        assert set(found[when]) == {
            "held_out_without", "held_out_with", "lost", "repeated", "agreeing",
        }  # fmt: skip
    assert found["before"] != found["after"]
    assert "a wrong opinion in the prompt takes" in found["sentence"]


def nan_for_opinions(prompts: list[str], completions: list[str]) -> list[float]:
    return [float("nan")] * len(completions)


@pytest.mark.parametrize("judge", [nan_for_opinions])
def test_a_judge_that_fails_in_the_probe_ends_the_run_with_a_sentence(
    judge: RewardFunction, tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match="held-out reward function gave nan"):
        train(tiny, tmp_path, count_of("d"), held_out=judge)
