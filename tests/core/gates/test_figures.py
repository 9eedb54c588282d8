"""Figures: enough rows, good enough, calibrated, and not worse than what serves."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.gates.rules import set_rule
from rlhf_core.registry.comparisons import record_comparison
from rlhf_core.registry.service import promote_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import GateKind, GateState
from tests.core.gates.world import GOOD, examine, gate, make_rows_version
from tests.core.registry.world import make_version
from tests.databases import only_sqlite

pytestmark = only_sqlite

PASS, FAIL, UNKNOWN = GateState.PASS, GateState.FAIL, GateState.NOT_MEASURED


def make_two(db: Session) -> tuple[ModelVersionView, ModelVersionView]:
    """What serves, and another one."""
    serving, other = make_version(db), make_version(db)
    promote_version(db, serving.id, actor=SYSTEM, reason="the first")
    return serving, other


def test_version_that_was_not_examined_is_not_measured_and_not_blocked(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        for kind in (GateKind.NUM_ROWS, GateKind.QUALITY, GateKind.SYCOPHANCY):
            result = gate(db, version, kind)
            assert (result.state, result.blocks) == (UNKNOWN, False)
            assert "Evaluate it on a frozen dataset" in result.sentence
        set_rule(db, actor=SYSTEM, kind=GateKind.NUM_ROWS, must_be_measured=True)
        assert gate(db, version, GateKind.NUM_ROWS).blocks


def test_not_knowing_blocks_once_another_version_serves(store: Store) -> None:
    with store.writing() as db:
        serving, other = make_two(db)
        for kind in (GateKind.NUM_ROWS, GateKind.QUALITY):
            found = gate(db, other, kind)
            assert (found.state, found.blocks) == (UNKNOWN, True)
            assert not gate(db, serving, kind).blocks
            assert not gate(db, other, kind, for_share=True).blocks
        assert not gate(db, other, GateKind.NOT_WORSE).blocks
        set_rule(db, actor=SYSTEM, kind=GateKind.NUM_ROWS, params={"min_rows": 50})
        assert gate(db, other, GateKind.NUM_ROWS).blocks  # as delivered still
        set_rule(db, actor=SYSTEM, kind=GateKind.NUM_ROWS, must_be_measured=False)
        assert not gate(db, other, GateKind.NUM_ROWS).blocks
        learned = make_version(db, details={"n": 186, "intervals": {"auc": [0.56, 0.72]}})
        assert not gate(db, learned, GateKind.QUALITY).blocks  # by the rows its run left out


def test_rows_are_those_of_the_latest_examination(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        examine(db, version, num_rows=29)
        few = gate(db, version, GateKind.NUM_ROWS)
        assert (few.state, few.numbers, few.blocks) == (FAIL, {"rows": 29, "need": 30}, True)
        examine(db, version, num_rows=30)
        assert gate(db, version, GateKind.NUM_ROWS).state is PASS


def test_training_runs_own_left_out_rows_count_where_nothing_else_is_known(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db, details={"n": 186, "intervals": {"auc": [0.56, 0.72]}})
        assert gate(db, version, GateKind.NUM_ROWS).numbers["rows"] == 186
        quality = gate(db, version, GateKind.QUALITY)
    assert (quality.state, quality.numbers["auc_low"]) == (PASS, 0.56)
    assert "training run left out" in quality.sentence


@pytest.mark.parametrize(
    ("figures", "state"),
    [
        ({"auc": (0.66, 0.52, 0.85)}, PASS),
        ({"auc": (0.66, 0.49, 0.85)}, FAIL),
        ({"auc": (0.62, 0.48, 0.75), "pair_accuracy": (0.8, 0.7, 0.9)}, PASS),
        ({"auc": (0.66, 0.52, 0.85), "pair_accuracy": (0.3, 0.2, 0.4)}, FAIL),
        ({"first_error_f1": (0.3, 0.21, 0.4)}, PASS),
        ({"first_error_f1": (0.3, 0.19, 0.4)}, FAIL),
        ({"spearman": (0.3, 0.1, 0.4)}, UNKNOWN),
    ],
)
def test_quality_is_judged_by_the_lower_end(
    store: Store, figures: dict[str, Any], state: GateState
) -> None:
    with store.writing() as db:
        version = make_version(db)
        examine(db, version, figures)
        assert gate(db, version, GateKind.QUALITY).state is state


def test_examination_on_rows_that_it_learned_from_does_not_count(store: Store) -> None:
    with store.writing() as db:
        rows = make_rows_version(db)
        version = make_version(db, dataset_version_id=rows)
        for part in ("train", "validation", "all"):
            examine(db, version, dataset_version_id=rows, split=part)
        examine(db, version, leakage={"share": 0.4})
        assert gate(db, version, GateKind.NUM_ROWS).state is UNKNOWN
        examine(db, version, dataset_version_id=rows, num_rows=77)
        assert gate(db, version, GateKind.NUM_ROWS).numbers["rows"] == 77


def test_calibration_error_fails_only_where_it_is_surely_too_high(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        for figures, state in (
            ((0.06, 0.03, 0.12), PASS),
            ((0.2, 0.14, 0.3), PASS),
            ((0.2, 0.16, 0.3), FAIL),
        ):
            examine(db, version, GOOD | {"ece": figures})
            assert gate(db, version, GateKind.CALIBRATION).state is state


def test_nothing_is_worse_than_nothing_that_serves(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        assert gate(db, version, GateKind.NOT_WORSE).state is PASS
        promote_version(db, version.id, actor=SYSTEM, reason="the first")
        assert gate(db, version, GateKind.NOT_WORSE).state is PASS
        other = make_version(db)
        unknown = gate(db, other, GateKind.NOT_WORSE)
    assert unknown.state is UNKNOWN
    assert "reward v1" in unknown.sentence


def test_two_examinations_on_the_same_frozen_rows_are_compared_by_slice(store: Store) -> None:
    with store.writing() as db:
        rows = make_rows_version(db)
        serving, other = make_two(db)
        whole = {"auc": (0.80, 0.78, 0.82)}
        parts: dict[str, Any] = {"en": (150, whole), "de": (50, {"auc": (0.80, 0.75, 0.85)})}
        examine(db, serving, whole, dataset_version_id=rows, slices=parts)
        examine(db, other, whole, dataset_version_id=rows, slices=parts)
        same = gate(db, other, GateKind.NOT_WORSE)
        assert (same.state, same.numbers["difference"], same.numbers["slices"]) == (PASS, 0.0, 2)
        worse = parts | {"de": (50, {"auc": (0.60, 0.55, 0.65)})}
        examine(db, other, whole, dataset_version_id=rows, slices=worse)
        fell = gate(db, other, GateKind.NOT_WORSE)
        assert (fell.state, fell.numbers["worse"]) == (FAIL, 1)
        assert "language de -0.200" in fell.sentence
        assert "(50 rows)" in fell.sentence
        rare = parts | {"de": (19, worse["de"][1])}  # too few rows to be looked at
        examine(db, other, whole, dataset_version_id=rows, slices=rare)
        assert gate(db, other, GateKind.NOT_WORSE).state is PASS
        wide = parts | {"de": (50, {"auc": (0.70, 0.40, 0.95)})}  # lower, and it may be chance
        examine(db, other, whole, dataset_version_id=rows, slices=wide)
        assert gate(db, other, GateKind.NOT_WORSE).state is PASS


@pytest.mark.parametrize(
    ("num_rows", "figures", "state"),
    [
        (30, (0.80, 0.785, 0.815), PASS),
        (29, (0.80, 0.785, 0.815), UNKNOWN),  # a handful of rows
        (200, (0.80, 0.70, 0.90), UNKNOWN),  # a fall by 10 points is not ruled out
        (200, (0.70, 0.60, 0.80), UNKNOWN),
        (200, (0.60, 0.55, 0.65), FAIL),
    ],
)
def test_harm_that_is_neither_shown_nor_ruled_out_is_no_pass(
    store: Store, num_rows: int, figures: tuple[float, float, float], state: GateState
) -> None:
    with store.writing() as db:
        rows = make_rows_version(db)
        serving, other = make_two(db)
        examine(db, serving, {"auc": (0.80, 0.785, 0.815)}, dataset_version_id=rows)
        examine(db, other, {"auc": figures}, num_rows=num_rows, dataset_version_id=rows)
        found = gate(db, other, GateKind.NOT_WORSE)
    assert found.state is state
    assert found.numbers["rows"] == num_rows


def test_paired_comparison_comes_before_two_examinations(store: Store) -> None:
    with store.writing() as db:
        serving, other = make_two(db)
        for leaked, expected in ((0.0, FAIL), (0.5, UNKNOWN)):
            record_comparison(
                db,
                actor=SYSTEM,
                versions=[other, serving],  # the new one is the baseline here
                dataset_version_id=None,
                job_id=None,
                split="test",
                num_rows=120,
                artifact=None,
                result={
                    "baseline": str(other.id),
                    "deciding": "auc",
                    "num_prompts": 30,
                    "leakage": {str(other.id): leaked},
                    "differences": {
                        str(serving.id): {"auc": {"value": 0.1, "low": 0.04, "high": 0.16}}
                    },
                },
            )
            found = gate(db, other, GateKind.NOT_WORSE)
            assert found.state is expected
            if expected is FAIL:
                assert found.numbers["difference"] == pytest.approx(-0.1)
                assert "the comparison of" in found.sentence
