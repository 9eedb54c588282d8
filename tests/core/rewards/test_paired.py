"""Versions on the same rows: what is the same for both falls out of their difference."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from rlhf_core.errors import InvalidInput
from rlhf_core.examples import Example, PreferencePair, ScoredCompletion, SteppedCompletion
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.base_model import choose_precision, load_base, load_tokenizer
from rlhf_core.rewards.calibration import Calibration
from rlhf_core.rewards.paired import Sheet, compare_sheets, is_better
from rlhf_core.rewards.paired_sheets import StepSheet, judge_sheet
from rlhf_core.rewards.steps_examination import NAMES
from rlhf_core.rewards.steps_facts import FACT_NAMES, FactScale, StepLine
from rlhf_core.rewards.steps_model import StepRewardModel, StepSpec
from rlhf_core.rewards.steps_network import Reading, build_network
from rlhf_core.rewards.steps_text import StepReader
from tests.learning.stepped import make_solutions
from tests.learning.tiny_models import make_bert


class Rule:
    """P(good) of a text by a rule: `knows` of ten rows are told right."""

    is_probability = True
    aspects = ()

    def __init__(self, knows: int, *, certain: float = 0.9) -> None:
        self.knows, self.certain = knows, certain

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Floats:
        found = []
        for text in completions:
            is_good, number = text.startswith("good"), int(text.split()[1])
            is_right = number % 10 < self.knows
            found.append(self.certain if is_good is is_right else 1.0 - self.certain)
        return np.array(found)


class Free(Rule):
    """A model whose scores are no chances."""

    is_probability = False

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Floats:
        return 100.0 * super().score(prompts, completions) - 50.0


def rated(number: int, *, a_prompt: int = 2) -> list[ScoredCompletion]:
    rows = []
    for row in range(number):
        prompt, is_good = row // a_prompt, row % a_prompt == 0
        rows.append(
            ScoredCompletion(
                prompt=f"Question {prompt}?",
                completion=f"{'good' if is_good else 'bad'} {prompt} answer",
                score=5.0 if is_good else 1.0,
                num_ratings=1,
                group=f"g{prompt}",
                interaction_id=f"i{row}",
                segments={"source": "app" if prompt % 2 else "web"},
            )
        )
    return rows


def paired_of(first: Rule, second: Rule, rows: Sequence[Example]) -> dict[str, Sheet]:
    models = {"old": first, "new": second}
    return {name: judge_sheet(model, rows, threshold=4.0) for name, model in models.items()}


def test_a_better_version_is_told_with_its_paired_interval() -> None:
    found = compare_sheets(paired_of(Rule(6), Rule(9), rated(200)), baseline="old")
    assert (found.num_rows, found.num_prompts, found.deciding) == (200, 100, "auc")
    assert found.versions["old"]["accuracy"]["value"] == pytest.approx(0.6)
    assert found.versions["new"]["accuracy"]["value"] == pytest.approx(0.9)
    gain = found.differences["new"]["accuracy"]
    assert gain["value"] == pytest.approx(0.3)
    assert 0.2 < gain["low"] < 0.3 < gain["high"] < 0.4
    assert is_better("accuracy", gain) is True
    assert is_better("ece", gain) is False
    assert "old" not in found.differences


def test_a_version_differs_from_itself_by_nothing() -> None:
    found = compare_sheets(paired_of(Rule(7), Rule(7), rated(60)), baseline="old")
    for metric, figure in found.differences["new"].items():
        assert (figure["value"], figure["low"], figure["high"]) == (0.0, 0.0, 0.0)
        assert is_better(metric, figure) is None
    assert found.rows[0].spread == 0.0


def test_paired_interval_is_narrower_than_two_separate_ones() -> None:
    found = compare_sheets(paired_of(Rule(6), Rule(7), rated(200)), baseline="old")
    gain = found.differences["new"]["accuracy"]
    alone = [found.versions[name]["accuracy"] for name in ("old", "new")]
    assert gain["high"] - gain["low"] < 0.8 * max(one["high"] - one["low"] for one in alone)


def test_intervals_draw_prompts_and_not_rows() -> None:
    """Forty answers to a prompt are told right or wrong together: they are hardly more than one."""
    few = compare_sheets(paired_of(Rule(6), Rule(8), rated(400, a_prompt=40)), baseline="old")
    many = compare_sheets(paired_of(Rule(6), Rule(8), rated(400, a_prompt=2)), baseline="old")
    wide, narrow = few.differences["new"]["accuracy"], many.differences["new"]["accuracy"]
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


def test_slices_have_their_own_differences_and_few_prompts_no_interval() -> None:
    rows = rated(80)
    rows[0] = replace(rows[0], segments={"source": "rare"})
    found = compare_sheets(paired_of(Rule(6), Rule(9), rows), baseline="old")
    by_name = {(one.segment, one.value): one for one in found.slices}
    web, rare = by_name["source", "web"], by_name["source", "rare"]
    assert (web.num_rows, rare.num_rows) == (39, 1)
    assert "low" in web.differences["new"]["accuracy"]
    assert set(rare.differences["new"]["accuracy"]) == {"value"}
    assert "auc" not in rare.differences["new"]  # one row has no two classes
    assert sum(one.num_rows for one in found.slices if one.segment == "length") == 80


def test_rows_come_with_the_greatest_disagreement_first() -> None:
    found = compare_sheets(paired_of(Rule(6), Rule(9), rated(40)), baseline="old")
    spreads = [row.spread for row in found.rows]
    assert spreads == sorted(spreads, reverse=True)
    first = found.rows[0]
    assert first.spread == pytest.approx(0.8)
    assert sorted(first.said.values()) == pytest.approx([0.1, 0.9])
    assert (first.interaction_id, first.is_good is not None) == (f"i{first.row}", True)
    assert first.called_good == (("old",) if first.said["old"] > 0.5 else ("new",))
    counted = found.distribution["counts"]["new"]
    assert sum(counted["all"]) == 40
    assert sum(counted["good"]) == sum(counted["bad"]) == 20
    assert [round(one["mean_probability"], 1) for one in found.reliability["new"]] == [0.1, 0.9]


def test_numbers_of_no_common_scale_are_compared_by_their_ranks() -> None:
    rows = rated(40)
    same = compare_sheets(paired_of(Rule(7), Free(7), rows), baseline="old")
    assert same.rows[0].spread == 0.0
    assert same.distribution["edges"][0] < 0.0
    assert same.differences["new"]["auc"]["value"] == 0.0
    assert "ece" not in same.differences["new"]


def test_pairs_are_compared_by_the_chance_of_the_better_side() -> None:
    rows = [
        PreferencePair(
            prompt=f"Q{n}?", chosen=f"good {n} a", rejected=f"bad {n} b",
            margin=float(n % 5), group=f"g{n}",
            chosen_interaction_id=f"c{n}", rejected_interaction_id=f"r{n}",
        )
        for n in range(50)
    ]  # fmt: skip
    found = compare_sheets(paired_of(Rule(5), Rule(10), rows), baseline="old")
    assert (found.num_rows, found.deciding) == (40, "pair_accuracy")  # ten are ties
    assert found.versions["new"]["pair_accuracy"]["value"] == 1.0
    assert found.differences["new"]["pair_accuracy"]["value"] == pytest.approx(0.5)
    first = found.rows[0]
    assert (first.interaction_id, first.other_id) == (f"c{first.row}", f"r{first.row}")
    assert first.said["new"] > 0.9 > 0.1 > first.said["old"]


def test_solutions_are_compared_by_the_first_mistake_and_by_single_steps() -> None:
    rows = [
        SteppedCompletion(
            prompt=f"Q{n}?", completions=("a", "b", "c"),
            labels=(True, False, None) if n % 2 else (True, True, True), group=f"g{n}",
        )
        for n in range(30)
    ]  # fmt: skip
    right = [np.array([0.9, 0.1, 0.5]) if n % 2 else np.array([0.9, 0.9, 0.9]) for n in range(30)]
    wrong = [np.array([0.9, 0.9, 0.9])] * 30
    sheets = {
        "old": StepSheet(tuple(rows), tuple(wrong), 0.5),
        "new": StepSheet(tuple(rows), tuple(right), 0.5),
    }
    found = compare_sheets(sheets, baseline="old")
    assert found.deciding == "first_error_f1"
    assert set(NAMES) <= set(found.differences["new"])
    assert found.versions["old"]["erroneous_accuracy"]["value"] == 0.0
    assert found.differences["new"]["first_error_f1"]["value"] == 1.0
    assert found.differences["new"]["accuracy"]["value"] == pytest.approx(15 / 75)
    assert (found.rows[0].is_good, found.rows[0].called_good) == (False, ("old",))
    assert found.rows[0].said["new"] < found.rows[0].said["old"]


def test_sheets_of_other_rows_are_refused() -> None:
    sheets = paired_of(Rule(5), Rule(6), rated(20))
    other = paired_of(Rule(5), Rule(6), rated(22))["new"]
    with pytest.raises(InvalidInput, match="not examined on the rows of old"):
        compare_sheets({"old": sheets["old"], "new": other}, baseline="old")


def test_a_model_without_steps_is_refused_on_step_labels() -> None:
    row = SteppedCompletion(prompt="Q?", completions=("a",), labels=(True,), group="g")
    with pytest.raises(InvalidInput, match="Only step models"):
        judge_sheet(Rule(5), [row], threshold=4.0)


@pytest.fixture(scope="module")
def step_model(tmp_path_factory: pytest.TempPathFactory) -> StepRewardModel:
    """A real network of steps that learned nothing: its weights are as they were drawn."""
    import torch

    folder = make_bert(tmp_path_factory.mktemp("bert"))
    scale = FactScale(means=(0.0,) * len(FACT_NAMES), deviations=(1.0,) * len(FACT_NAMES))
    line = StepLine(scale=scale, coefficients=(0.0,) * len(FACT_NAMES), intercept=0.0)
    spec = StepSpec(
        line=line, calibration=Calibration(temperature=1.0, shift=0.0), threshold=0.3,
        aggregate="min", reading=Reading.WHOLE, max_tokens=64,
    )  # fmt: skip
    network = build_network(load_base(folder, head="token", num_labels=1, is_trained=False), line)
    return StepRewardModel(
        network, StepReader(load_tokenizer(folder), 64), spec,
        device=torch.device("cpu"), precision=choose_precision("fp32", torch.device("cpu")),
    )  # fmt: skip


def test_a_real_step_model_is_compared_by_its_own_measures(step_model: StepRewardModel) -> None:
    rows = make_solutions(24)
    sheets = {
        "old": judge_sheet(step_model, rows, threshold=4.0),
        "new": StepSheet(
            tuple(rows),
            tuple(np.array([0.9 if label in (True, None) else 0.1 for label in row.labels])
                  for row in rows),
            0.3,
        ),
    }  # fmt: skip
    found = compare_sheets(sheets, baseline="old")
    assert found.deciding == "first_error_f1"
    assert found.versions["new"]["first_error_f1"]["value"] == 1.0
    assert found.differences["new"]["first_error_f1"]["value"] > 0.0
    assert {one.segment for one in found.slices} == {"action_type", "number of steps"}
    assert 0.0 < found.rows[0].said["old"] < 1.0
