"""The examination, on models whose answers are known beforehand."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from rlhf_core.errors import InvalidInput, NotEnoughData
from rlhf_core.examples import PreferencePair, PromptOnly, ScoredCompletion, UnpairedPreference
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.examination import CEILING, Examination, examine


class Told:
    """A reward model that says what it was told of each completion."""

    aspects = ()

    def __init__(self, scores: Mapping[str, float], *, is_probability: bool = True) -> None:
        self._scores = scores
        self.is_probability = is_probability

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Floats:
        return np.array([self._scores[completion] for completion in completions])


def make_scored(number: int = 200, *, seed: int = 0) -> list[ScoredCompletion]:
    """Four completions a prompt; every second one is good, of any length."""
    rng = np.random.default_rng(seed)
    return [
        ScoredCompletion(
            prompt=f"Question {index // 4}",
            completion=f"{index} " + "word " * int(rng.integers(1, 40)),
            score=4.5 if index % 2 else 1.5,
            num_ratings=1,
            group=f"g{index // 4}",
            interaction_id=f"i{index}",
            segments={"source": "a" if index % 4 < 2 else "b", "language": "en"},
        )
        for index in range(number)
    ]


def tell(rows: Sequence[ScoredCompletion], wrong: Sequence[int] = ()) -> Told:
    """A model that says 0.9 of good and 0.1 of bad rows; of `wrong` ones the other way round."""
    return Told(
        {
            row.completion: 0.9 if (row.score >= 4) != (number in wrong) else 0.1
            for number, row in enumerate(rows)
        }
    )


def make_pairs(rows: Sequence[ScoredCompletion]) -> list[PreferencePair]:
    return [
        PreferencePair(
            prompt=good.prompt,
            chosen=good.completion,
            rejected=bad.completion,
            margin=3.0,
            group=good.group,
            chosen_interaction_id=good.interaction_id,
            rejected_interaction_id=bad.interaction_id,
            comparison_id=f"c{number}",
            segments=good.segments,
        )
        for number, (bad, good) in enumerate(zip(rows[::2], rows[1::2], strict=True))
    ]


def test_a_model_that_is_always_right_has_the_figures_of_one() -> None:
    rows = make_scored()
    found = examine(tell(rows), rows, threshold=4.0)
    assert (found.purpose, found.num_rows, found.num_prompts) == ("scores", 200, 50)
    assert found.metrics["auc"] == 1.0
    assert found.metrics["accuracy"] == 1.0
    assert found.metrics["pair_accuracy"] == 1.0
    assert found.metrics["spearman"] == pytest.approx(1.0)
    assert found.metrics["brier"] == pytest.approx(0.01)
    assert found.metrics["ece"] == pytest.approx(0.1)
    assert found.confusion == {
        "true_good": 100, "false_good": 0, "true_bad": 100, "false_bad": 0,
    }  # fmt: skip
    assert found.worst == ()
    assert found.leakage is None


def test_every_figure_stands_beside_what_is_had_for_nothing() -> None:
    rows = make_scored()
    found = examine(tell(rows), rows, threshold=4.0, agreement_ceiling=0.7)
    assert found.baselines["accuracy"] == {"majority": 0.5, CEILING: 0.7}
    assert found.baselines["brier"] == {"base_rate": 0.25}
    # lengths were drawn without regard to what is good
    assert abs(found.baselines["auc"]["length_only"] - 0.5) < 0.12
    assert found.metrics["gain_over_length_auc"] == pytest.approx(
        1.0 - found.baselines["auc"]["length_only"]
    )


def test_a_model_of_length_gains_nothing_over_length() -> None:
    rows = [
        replace(row, completion="x" * (300 if row.score > 4 else 100) + row.completion)
        for row in make_scored()
    ]
    by_length = Told({row.completion: min(1.0, len(row.completion) / 500) for row in rows})
    found = examine(by_length, rows, threshold=4.0)
    assert found.metrics["auc"] > 0.95
    assert found.metrics["gain_over_length_auc"] <= 0.05
    low, high = found.intervals["gain_over_length_auc"]
    assert low <= 0.05
    assert high < 0.1


def test_mistakes_are_named_by_their_interaction_the_worst_first() -> None:
    rows = make_scored()
    model = tell(rows, wrong=[3, 8])
    model._scores = {**model._scores, rows[8].completion: 0.99}
    found = examine(model, rows, threshold=4.0)
    assert [(one.row, one.interaction_id) for one in found.worst] == [(8, "i8"), (3, "i3")]
    assert found.worst[0].error == pytest.approx(0.99)
    assert found.worst[0].rating == 1.5
    assert found.confusion["false_good"] == found.confusion["false_bad"] == 1


def test_no_text_of_a_row_is_kept() -> None:
    rows = [replace(row, completion=row.completion + " SECRET") for row in make_scored()]
    found = examine(tell(rows, wrong=[1]), rows, threshold=4.0, train_prompts=["A SECRET prompt"])
    assert "SECRET" not in json.dumps(found.to_json())


def test_slices_hold_the_rows_of_their_segment() -> None:
    rows = make_scored()
    wrong = [number for number in range(0, 200, 4)]  # all of source a, half of it
    found = examine(tell(rows, wrong=wrong), rows, threshold=4.0)
    by_name = {(one.segment, one.value): one for one in found.slices}
    assert by_name["source", "a"].metrics["accuracy"] == 0.5
    assert by_name["source", "b"].metrics["accuracy"] == 1.0
    assert by_name["language", "en"].num_rows == 200
    lengths = [one for one in found.slices if one.segment == "length"]
    assert len(lengths) == 4
    assert sum(one.num_rows for one in lengths) == 200
    assert by_name["source", "a"].num_prompts == 50


def test_pairs_are_right_where_the_chosen_side_scores_higher() -> None:
    rows = make_scored()
    found = examine(tell(rows, wrong=[2, 3]), make_pairs(rows), threshold=4.0)
    assert found.purpose == "preferences"
    assert found.threshold is None
    assert found.metrics["pair_accuracy"] == 0.99
    assert found.baselines["pair_accuracy"]["majority"] == 0.5
    worst = found.worst[0]
    assert (worst.interaction_id, worst.other_interaction_id) == ("i3", "i2")
    assert (worst.reward, worst.other_reward, worst.comparison_id) == (0.1, 0.9, "c1")
    # odds of 9 to 1 twice over: said to be right at 81 to 1
    assert found.metrics["brier"] == pytest.approx((99 * (1 / 82) ** 2 + (81 / 82) ** 2) / 100)
    assert sum(one["n"] for one in found.reliability) == 200


def test_ties_are_left_out_and_noted() -> None:
    rows = make_scored()
    pairs = make_pairs(rows)
    pairs[5] = replace(pairs[5], margin=0.0)
    pairs[6] = replace(pairs[6], rejected=pairs[6].chosen)
    found = examine(tell(rows), pairs, threshold=4.0)
    assert found.metrics["pair_accuracy"] == 1.0
    assert "2 of 100 pairs are ties" in found.notes[0]


def test_thumbs_need_no_threshold() -> None:
    rows = make_scored()
    thumbs = [
        UnpairedPreference(row.prompt, row.completion, row.score > 4, row.group) for row in rows
    ]
    found = examine(tell(rows, wrong=[0]), thumbs, threshold=4.0)
    assert found.purpose == "unpaired"
    assert found.metrics["accuracy"] == 0.995
    assert found.worst[0].rating == 0.0


def test_free_numbers_have_an_order_but_no_calibration() -> None:
    rows = make_scored()
    free = Told({row.completion: row.score * 7.0 - 90.0 for row in rows}, is_probability=False)
    found = examine(free, rows, threshold=4.0)
    assert found.metrics["auc"] == 1.0
    assert not {"ece", "brier", "accuracy"} & set(found.metrics)
    assert (found.reliability, found.confusion, found.worst) == ((), {}, ())
    assert examine(free, make_pairs(rows), threshold=4.0).metrics["pair_accuracy"] == 1.0


def test_prompts_seen_in_training_are_counted_also_the_nearly_same() -> None:
    rows = [
        replace(row, prompt=f"How would one best {row.prompt} in the shortest possible time today")
        for row in make_scored()
    ]
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    known = [prompts[0], prompts[1].replace("today", "now"), "Something else"]
    found = examine(
        tell(rows), rows, threshold=4.0, train_groups={"g2"}, train_prompts=known
    ).leakage
    assert found is not None
    assert (found.num_prompts, found.num_seen) == (50, 2)
    assert found.num_near >= 1
    assert found.share == (found.num_seen + found.num_near) / 50


def test_one_class_only_leaves_out_what_is_not_defined() -> None:
    rows = [row for row in make_scored() if row.score > 4]
    found = examine(tell(rows), rows, threshold=4.0)
    assert "auc" not in found.metrics
    assert found.metrics["accuracy"] == 1.0
    assert np.isfinite(list(found.metrics.values())).all()
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("number", [1, 2, 7])
def test_few_rows_give_figures_and_no_error(number: int) -> None:
    rows = make_scored(200)[:number]
    found = examine(tell(rows), rows, threshold=4.0)
    assert found.num_rows == number
    json.dumps(found.to_json(), allow_nan=False)


def test_rows_that_cannot_be_examined_are_refused() -> None:
    rows = make_scored()
    model = tell(rows)
    with pytest.raises(NotEnoughData, match="0 rows to examine"):
        examine(model, [], threshold=4.0)
    with pytest.raises(InvalidInput, match="PromptOnly"):
        examine(model, [PromptOnly("p", "g")], threshold=4.0)
    with pytest.raises(InvalidInput, match="one kind at a time"):
        examine(model, [rows[0], *make_pairs(rows)], threshold=4.0)
    with pytest.raises(InvalidInput, match="Row 1 has an empty completion"):
        examine(model, [replace(rows[0], completion=" ")], threshold=4.0)
    with pytest.raises(InvalidInput, match="gives no number for 1 of 200"):
        examine(Told({**model._scores, rows[3].completion: np.nan}), rows, threshold=4.0)


def test_what_is_sent_is_plain_json() -> None:
    rows = make_scored()
    plain = examine(tell(rows, wrong=[1]), rows, threshold=4.0, train_groups=set()).to_json()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again == plain
    assert set(plain) == set(Examination.__dataclass_fields__)
    assert plain["leakage"] == {"num_prompts": 50, "num_seen": 0, "num_near": 0, "share": 0.0}
