"""The words for figures and kinds."""

from pages._ui.curves import tabulate_curve
from pages._ui.measures import (
    JOB_KIND_NAMES,
    MODEL_KIND_NAMES,
    CurveName,
    show_interval,
    sort_metrics,
    split_curve_name,
)
from pages._ui.readiness_panel import ROW_NAMES
from rlhf_core.vocabulary import DatasetPurpose, JobKind, ModelKind


def test_every_kind_has_words() -> None:
    assert set(JOB_KIND_NAMES) == set(JobKind)
    assert set(MODEL_KIND_NAMES) == set(ModelKind)
    assert set(ROW_NAMES) == set(DatasetPurpose)


def test_curve_of_a_member_is_told_from_that_of_a_single_model() -> None:
    assert split_curve_name("loss") == CurveName("loss", "")
    assert split_curve_name("seed 2 held_out_loss") == CurveName("held_out_loss", "seed 2")
    assert split_curve_name("judge seed 0 loss") == CurveName("loss", "judge seed 0")
    assert split_curve_name("judge loss") == CurveName("loss", "judge")


def test_known_metrics_come_first_in_their_order_then_the_others_by_name() -> None:
    assert sort_metrics(["zebra", "ece", "apple", "auc"]) == ["auc", "ece", "apple", "zebra"]


def test_interval_that_is_not_known_is_empty() -> None:
    assert show_interval((0.70119, 0.78)) == "0.701 to 0.780"
    assert show_interval(None) == ""
    assert show_interval([None, 0.5]) == ""


def test_table_of_a_curve_has_a_row_a_step_and_a_column_a_member() -> None:
    import pandas as pd

    points = pd.DataFrame(
        {
            "metric": ["loss"] * 3,
            "member": ["seed 1", "seed 0", "seed 0"],
            "step": [2, 2, 1],
            "value": [0.3, 0.2, 0.4],
        }
    )
    found = tabulate_curve(points)
    assert list(found["Step"]) == [1, 2]
    assert list(found["Seed 0"]) == [0.4, 0.2]
    assert list(found["Seed 1"])[1] == 0.3
