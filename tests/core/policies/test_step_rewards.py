"""Rewards of steps stand at the tokens that end them, and are learned from."""

import math
from pathlib import Path

import pytest

from rlhf_core.errors import TrainingFailed
from rlhf_core.policies.generate import sample
from rlhf_core.policies.ppo import PpoParams, train_ppo
from rlhf_core.policies.ppo_setup import prepare
from rlhf_core.policies.ppo_state import PpoProgress
from rlhf_core.policies.processes import Processes
from rlhf_core.policies.rewards_glue import StepRewardFunction, reward_steps
from rlhf_core.policies.scoring import Scored, draw_uniforms, place_steps
from rlhf_core.pretrained import choose_device
from rlhf_core.training import NoOpTracker, TrainReport
from tests.core.policies.tiny_policies import make_prompts


def each_word(prompts: list[str], completions: list[str]) -> list[list[tuple[int, float]]]:
    """Every word is a step; `d` is right."""
    found = []
    for text in completions:
        steps, end = [], 0
        for word in text.split():
            end = text.index(word, end) + len(word)
            steps.append((end, float(word == "d")))
        found.append(steps)
    return found


def train_steps(
    base: Path, folder: Path, steps: StepRewardFunction, **options: object
) -> TrainReport:
    (folder / "model").mkdir(parents=True)
    settings = {
        "updates": 15, "batch_size": 16, "micro_batch_size": 16, "response_tokens": 6,
        "lr": 6e-3, "value_lr": 6e-3,
        "precision": "fp32", "sample_every": 0, "kl_coef": 0.0, "missing_eos_penalty": None,
        "min_entropy_share": 0.0,
    }  # fmt: skip
    return train_ppo(
        make_prompts(), params=PpoParams(str(base), **settings | options), reward=None,  # type: ignore[arg-type]
        step_reward=steps, out_dir=folder / "model", work_dir=folder / "work",
        tracker=NoOpTracker(),
    )  # fmt: skip


def test_a_policy_learns_from_rewards_of_steps_alone(tiny: Path, tmp_path: Path) -> None:
    report = train_steps(tiny, tmp_path, each_word)
    first, last = report.details["history"][0], report.details["history"][-1]
    assert last["step_reward"] > first["step_reward"] + 0.3
    assert first["num_steps"] > 1
    assert first["reward"] == pytest.approx(first["step_reward"], abs=0.2)  # mean of answers' means


def test_each_reward_stands_at_the_token_that_ends_its_step(tiny: Path) -> None:
    params = PpoParams(str(tiny), response_tokens=6, center_rewards=False, precision="fp32")
    setup = prepare(
        make_prompts(), params=params, processes=Processes(0, 1, choose_device()),
        tracker=NoOpTracker(),
    )  # fmt: skip
    sampled = sample(
        setup.policy, [[5, 6], [4], [5, 6, 7]], draw_uniforms(params, 0)[:3], temperature=1.0,
        end_ids=setup.end_ids,
    )  # fmt: skip
    texts = setup.decode(sampled)
    steps = each_word([], texts)
    scored = Scored([], [], [[(end, 1.0 + end) for end, _ in some] for some in steps])
    table, figures = place_steps(setup, sampled, scored, PpoProgress("", kl_coef=0.0))
    for row, some in enumerate(scored.steps):
        places = table[row].nonzero()[:, 0].tolist()
        real = sampled.tokens[row, : sampled.lengths[row]].tolist()
        special = set(setup.tokenizer.all_special_ids)
        assert places == [place for place, token in enumerate(real) if token not in special]
        assert table[row][places].tolist() == [min(10.0, value) for _, value in some]
    assert figures["num_steps"] == sum(map(len, steps)) / len(steps)


def test_centred_the_first_batchs_answers_have_a_mean_of_0_with_steps_and_without(
    tiny: Path,
) -> None:
    params = PpoParams(str(tiny), response_tokens=6, precision="fp32", reward_clip=None)
    setup = prepare(
        make_prompts(), params=params, processes=Processes(0, 1, choose_device()),
        tracker=NoOpTracker(),
    )  # fmt: skip
    sampled = sample(
        setup.policy, [[5, 6], [4], [5, 6, 7]], draw_uniforms(params, 0)[:3], temperature=1.0,
        end_ids=setup.end_ids,
    )  # fmt: skip
    steps = each_word([], setup.decode(sampled))
    scored = Scored([], [], [[], [(steps[1][0][0], 2.0)], [(end, 1.0) for end, _ in steps[2]]])
    table, _ = place_steps(setup, sampled, scored, PpoProgress("", kl_coef=0.0))
    mean = (2.0 + len(steps[2])) / 3
    assert table.sum(1).tolist() == pytest.approx([-mean, 2.0 - mean, len(steps[2]) - mean])


def test_steps_of_a_model_are_found_in_the_text() -> None:
    asked: list[list[str]] = []

    def score(prompts: list[str], steps: list[list[str]]) -> list[list[float]]:
        asked.extend(steps)
        return [[0.25 * (place + 1) for place in range(len(some))] for some in steps]

    reward = reward_steps(lambda text: [line.strip() for line in text.splitlines()], score)
    found = reward(["p", "q", "r"], ["so\n so \nend", "", "one"])
    assert found == [[(2, 0.25), (6, 0.5), (11, 0.75)], [], [(3, 0.25)]]
    assert asked == [["so", "so", "end"], ["one"]]


def fails(prompts: list[str], completions: list[str]) -> list[list[tuple[int, float]]]:
    raise KeyError("step")


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (fails, "The step reward function failed"),
        (lambda p, c: [[]], "gave steps of 1 completions for 16"),
        (lambda p, c: [[(1, math.nan)]] * len(c), "gave nan for a step"),
        (lambda p, c: [[(999, 1.0)]] * len(c), "ends at character 999"),
    ],
)
def test_a_bad_step_reward_ends_the_run_with_a_sentence(
    steps: StepRewardFunction, words: str, tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match=words):
        train_steps(tiny, tmp_path, steps, updates=1)


def test_without_any_reward_nothing_starts(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="There is no reward"):
        train_ppo(
            make_prompts(), params=PpoParams(str(tiny)), reward=None, out_dir=tmp_path,
            work_dir=tmp_path, tracker=NoOpTracker(),
        )  # fmt: skip
