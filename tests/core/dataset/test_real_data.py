"""Rows from real files, imported: the figures known of them come out again."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.agreement import count_patterns, krippendorff_alpha
from rlhf_core.interchange.importers import import_file
from rlhf_core.interchange.mapping import load_mapping
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import (
    DatasetPurpose,
    ImportFormat,
    MergeRule,
    PairOrigin,
    TieRule,
)
from tests.core.dataset.world import build_with_voices, params_of
from tests.databases import only_sqlite

MAPPINGS = Path(__file__).resolve().parents[2] / "mappings"
pytestmark = only_sqlite
Importing = Callable[..., None]


@pytest.fixture(scope="session")
def facts(shared_data: Path) -> dict[str, Any]:
    known: dict[str, Any] = json.loads((shared_data / "FACTS.json").read_text())
    return known


@pytest.fixture
def import_real(store: Store, shared_data: Path) -> Importing:
    """Import a real folder with its mapping."""

    def run(mapping: str, folder: str | None = None) -> None:
        import_file(
            store,
            shared_data / (folder or mapping),
            format=ImportFormat.TABLE,
            actor=SYSTEM,
            mapping=load_mapping(MAPPINGS / f"{mapping}.json"),
        )

    return run


def test_pandalm_votes_give_its_majorities_and_its_alpha(
    store: Store, import_real: Importing, facts: dict[str, Any]
) -> None:
    import_real("pandalm")
    params = params_of(
        DatasetPurpose.PREFERENCES,
        merge=MergeRule.MAJORITY,
        ties=TieRule.KEEP,
        pair_origins=(PairOrigin.COMPARISON,),
    )
    rows, built = build_with_voices(store, params)
    known = facts["pandalm"]
    assert len(rows) + sum(built.left_out.values()) == known["pairs"]
    assert set(built.left_out) <= {"both answers are the same", "empty completion"}
    ties = sum(row.margin == 0 for row in rows)
    assert ties == pytest.approx(known["majority"]["tie"], abs=sum(built.left_out.values()))
    alpha = krippendorff_alpha(count_patterns(built.voices.units))
    assert alpha == pytest.approx(known["alpha_nominal"], abs=0.02)  # sides, not models, are tied


@pytest.mark.slow
def test_cohere_ratings_and_comparisons_are_paired_without_counting_twice(
    store: Store, import_real: Importing, facts: dict[str, Any]
) -> None:
    import_real("cohere_hf")
    import_real("cohere_hf_pairs", "cohere_hf")
    rows, built = build_with_voices(store, params_of(DatasetPurpose.PREFERENCES))
    ids = [frozenset((row.chosen_interaction_id, row.rejected_interaction_id)) for row in rows]
    assert len(set(ids)) == len(ids)
    origins = Counter(row.origin for row in rows)
    assert origins["comparison"] > 3_000
    assert built.left_out["tie"] > 100
    assert built.voices.num_raters <= facts["cohere_hf"]["raters"]
    assert all(row.segments["language"] == "en" for row in rows)


def test_big_bench_mistake_steps_keep_the_place_of_the_first_mistake(
    store: Store, import_real: Importing, shared_data: Path
) -> None:
    import_real("big_bench_mistake")
    rows, built = build_with_voices(store, params_of(DatasetPurpose.STEPS))
    with (shared_data / "big_bench_mistake" / "steps.jsonl").open() as file:
        lines = [json.loads(line) for line in file]
    judged = [x for x in lines if any(step["label"] is not None for step in x["steps"])]
    assert len(rows) + sum(built.left_out.values()) == len(judged)
    found = Counter(row.labels.index(False) if False in row.labels else None for row in rows)
    assert found == Counter(x["first_mistake_step"] for x in judged)
