"""The step model on real step labels, which are not part of the repository."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.rewards_steps import read_rows, split_rows
from rlhf_core.rewards.steps import StepParams, examine_steps, load_step_model, train_steps
from rlhf_core.rewards.steps_baselines import find_baseline_places, fit_baseline
from rlhf_core.rewards.steps_search import compute_first_error, know_errors
from rlhf_core.training import NoOpTracker

THREE = {"always_last", "always_first", "logistic"}


def test_rows_of_the_files_are_those_of_the_facts(shared_data: Path) -> None:
    facts = json.loads((shared_data / "FACTS.json").read_text())
    rows = read_rows(shared_data / "mr_gsm8k_part")
    labels = [label for row in rows for label in row.labels]
    said = facts["mr_gsm8k_part"]
    assert len(rows) == said["solutions"]
    assert {"1": labels.count(True), "-1": labels.count(False), "None": labels.count(None)} == (
        said["labelled_steps"]
    )
    by_people = read_rows(shared_data / "big_bench_mistake")
    by_task = facts["big_bench_mistake"]["by_task"]
    known = know_errors(by_people)
    assert known.num_unknown == 0
    expected = [counts for task, counts in by_task.items() if task != "dyck_languages"]
    assert len(by_people) == sum(number for number, _ in expected)
    assert (~known.is_faultless).sum() == sum(wrong for _, wrong in expected)


def test_computing_the_arithmetic_finds_more_first_mistakes(shared_data: Path) -> None:
    learned, tested = split_rows(read_rows(shared_data / "mr_gsm8k_part"), seed=0)
    known = know_errors(tested)
    found = {}
    for has_arithmetic in (False, True):
        baseline = fit_baseline(learned, has_arithmetic=has_arithmetic)
        places = find_baseline_places(tested, baseline)["logistic"]
        figures = compute_first_error(places, known, np.ones((1, len(tested))))
        found[has_arithmetic] = figures["first_error_f1"][0]
    assert found[True] > found[False] + 0.03
    assert found[True] > 0.37


@pytest.mark.slow
def test_the_step_model_finds_more_first_mistakes_than_its_baselines(
    shared_data: Path, tmp_path: Path
) -> None:
    learned, tested = split_rows(read_rows(shared_data / "mr_gsm8k_part"), seed=0)
    (tmp_path / "model").mkdir()
    report = train_steps(
        learned,
        params=StepParams(),
        out_dir=tmp_path / "model",
        work_dir=tmp_path / "work",
        tracker=NoOpTracker(),
    )
    assert report.metrics["log_loss"] <= report.metrics["line_log_loss"] + 1e-6
    found = examine_steps(load_step_model(tmp_path / "model"), tested, train_rows=learned)
    beside = found.baselines["first_error_f1"]
    assert set(beside) == THREE
    assert found.metrics["first_error_f1"] > max(beside.values()) + 0.02
    assert found.metrics["ece"] <= 0.05
    assert found.leakage is not None
    assert found.leakage.num_seen == 0
