"""The job that compares versions on the same frozen rows: real models, real files."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.config import get_settings
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.errors import Conflict, InvalidInput, NotEnoughData, NotFound, TrainingFailed
from rlhf_core.jobs.compare_versions import enqueue_compare_versions, estimate_compare_s
from rlhf_core.jobs.service import JobView
from rlhf_core.registry.comparisons import (
    ComparisonView,
    find_comparison,
    get_comparison,
    list_comparisons,
    list_differences,
    read_rows,
)
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetPurpose, Resource
from tests.core.jobs.test_evaluate import freeze
from tests.core.jobs.test_evaluate_policy import freeze_more_prompts
from tests.core.jobs.trained import Log, add_ratings, enqueue, list_models, run
from tests.core.jobs.trained_policies import add_prompts, enqueue_policy
from tests.core.registry.world import make_version
from tests.databases import only_sqlite

QUICK: dict[str, Any] = {"folds": 2, "regularisation": [0.1]}


def start(
    store: Store, versions: list[ModelVersionView], dataset: str = "later", **given: Any
) -> JobView:
    with store.writing() as db:
        return enqueue_compare_versions(
            db,
            actor=SYSTEM,
            version_ids=[version.id for version in versions],
            dataset=dataset,
            **{"split": "all", **given},
        )


def kept_of(store: Store) -> ComparisonView:
    with store.reading() as db:
        newest = list_comparisons(db, actor=SYSTEM)[0]
        kept = get_comparison(db, newest.id, actor=SYSTEM)
        assert {name: getattr(kept, name) for name in vars(newest)} == vars(newest)
        return kept


@pytest.fixture
def two(store: Store) -> tuple[Store, list[ModelVersionView]]:
    """`reward v1` of 60 rows and `v2` of hardly any regularisation less; 40 rows came later."""
    with store.writing() as db:
        add_ratings(db, 30)
    run(store, enqueue(store, options=QUICK))
    run(
        store,
        enqueue(store, dataset="ratings", number=1, options={**QUICK, "regularisation": [1e-6]}),
    )
    with store.writing() as db:
        add_ratings(db, 20, seed=1)
    freeze(store, "later", DatasetParams())
    return store, sorted(list_models(store), key=lambda version: version.number)


def test_two_versions_are_compared_on_rows_that_neither_learned(
    two: tuple[Store, list[ModelVersionView]],
) -> None:
    store, versions = two
    log = Log()
    result = run(store, start(store, versions), log=log)
    kept = kept_of(store)
    assert str(result["comparison_id"]) == str(kept.id)
    assert (kept.dataset, kept.split, kept.num_rows) == ("later v1", "all", 40)
    assert kept.version_ids == tuple(version.id for version in versions)
    first, second = (str(version.id) for version in versions)
    assert (kept.result["baseline"], kept.names[second]) == (first, "reward v2")
    assert kept.result["learned"]["reward v1"] == {
        "num_prompts": 50, "num_seen": 30, "num_left_out": 30,
    }  # fmt: skip
    assert kept.result["leakage"] == {first: 0.0, second: 0.0}
    figures = kept.result["versions"]
    difference = kept.result["differences"][second]["auc"]
    assert difference["value"] == pytest.approx(
        figures[second]["auc"]["value"] - figures[first]["auc"]["value"], abs=1e-5
    )
    assert difference["low"] <= difference["value"] <= difference["high"]
    rows = read_rows(kept)
    assert len(rows) == 40
    assert [row["spread"] for row in rows] == sorted((r["spread"] for r in rows), reverse=True)
    assert set(rows[0]["said"]) == {first, second}
    assert rows[0]["interaction_id"]
    assert "Against reward v1 on 40 rows of later v1: reward v2 AUC" in result["message"]
    with store.reading() as db:
        found = find_comparison(db, versions[0].id, versions[1].id, actor=SYSTEM)
        assert estimate_compare_s(db, versions, num_rows=40) > 0
    assert found is not None
    forth = list_differences(found, versions[1].id, versions[0].id)[0].differences["auc"]
    back = list_differences(found, versions[0].id, versions[1].id)[0].differences["auc"]
    assert (back["value"], back["low"]) == (-forth["value"], -forth["high"])


@only_sqlite
def test_a_second_attempt_keeps_what_the_first_one_kept(
    two: tuple[Store, list[ModelVersionView]],
) -> None:
    store, versions = two
    job = start(store, versions, with_learned=True)
    leftover = get_settings().artifact_dir / "comparisons" / f"{job.id}-0"
    leftover.mkdir(parents=True)
    first = run(store, job)
    assert not leftover.exists()
    kept = kept_of(store)
    assert (kept.num_rows, kept.result["learned"]["reward v2"]["num_left_out"]) == (100, 0)
    assert kept.result["leakage"][str(versions[0].id)] == 30 / 50
    again = run(store, job, attempt=2)
    assert again["comparison_id"] == uuid.UUID(str(first["comparison_id"]))
    assert kept_of(store) == kept
    rows = read_rows(kept, limit=3)
    path = get_settings().artifact_dir / str(kept.artifact_path) / "rows.jsonl"
    path.write_text(path.read_text().replace(json.dumps(rows[0]["spread"]), "1.0", 1))
    with pytest.raises(InvalidInput, match="not the file that was registered"):
        read_rows(kept)


@only_sqlite
def test_pairs_compare_models_of_ratings_and_a_damaged_version_none(
    two: tuple[Store, list[ModelVersionView]],
) -> None:
    store, versions = two
    freeze(store, "pairs", DatasetParams(purpose=DatasetPurpose.PREFERENCES))
    run(store, start(store, versions, "pairs"))
    assert kept_of(store).result["deciding"] == "pair_accuracy"
    damaged = next(versions[1].folder.glob("*.skops"))
    damaged.write_bytes(b"\0" + damaged.read_bytes()[1:])
    with pytest.raises(InvalidInput, match="not the file that was registered"):
        run(store, start(store, versions))
    with store.reading() as db:
        assert len(list_comparisons(db, actor=SYSTEM)) == 1


@only_sqlite
def test_a_comparison_that_is_asked_to_stop_keeps_nothing(
    two: tuple[Store, list[ModelVersionView]],
) -> None:
    store, versions = two
    with pytest.raises(TrainingFailed, match="Stopped on request"):
        run(store, start(store, versions), log=Log(stop_after="reward v1 judges 40 rows"))
    with store.reading() as db:
        assert list_comparisons(db, actor=SYSTEM) == []


@only_sqlite
def test_wrong_wishes_are_a_sentence_each(two: tuple[Store, list[ModelVersionView]]) -> None:
    store, versions = two
    with pytest.raises(InvalidInput, match="Name 2 to 5 different versions"):
        start(store, [versions[0], versions[0]])
    with pytest.raises(NotFound, match="no dataset"):
        start(store, versions, "elsewhere")
    with pytest.raises(InvalidInput, match="split 'half'"):
        start(store, versions, split="half")
    with pytest.raises(InvalidInput, match="need no judge"):
        start(store, versions, judge="reward")
    with store.writing() as db:
        stranger = make_version(db, model_name="other")
    with pytest.raises(InvalidInput, match="no version of 'reward'"):
        start(store, [versions[0], stranger])
    freeze(store, "asked", DatasetParams(purpose=DatasetPurpose.PROMPTS))
    with pytest.raises(InvalidInput, match="say nothing of good and bad"):
        start(store, versions, "asked")
    job = start(store, versions, "ratings")
    assert job.resource is Resource.CPU
    with pytest.raises(Conflict, match="under way"):
        start(store, list(reversed(versions)), "ratings")
    with pytest.raises(
        NotEnoughData,
        match=r"none of the models learned from \(reward v1, rewa.*switch on \"Also rows",
    ):
        run(store, job)


@only_sqlite
@pytest.mark.usefixtures("reward_rules")
def test_policies_answer_the_same_prompts(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    run(store, enqueue_policy(store, base))
    run(store, enqueue_policy(store, base, held_out="rule:short"))
    freeze_more_prompts(store, 3)
    freeze_more_prompts(store, 17, seed=2)
    versions = sorted(list_models(store), key=lambda version: version.number)
    job = start(store, versions, "prompts", judge="rule:short", options={"response_tokens": 4})
    assert job.resource is Resource.GPU
    result = run(store, job)
    kept = kept_of(store)
    first, second = (str(version.id) for version in versions)
    assert (kept.purpose, kept.num_rows) == ("policy", 20)
    assert kept.result["judge"]["name"] == "rule:short"
    gain = kept.result["differences"][second]["reward"]
    figures = kept.result["versions"]
    assert gain["value"] == pytest.approx(
        figures[second]["reward"]["value"] - figures[first]["reward"]["value"]
    )
    assert 0.0 <= figures[second]["win_rate"]["value"] <= 1.0
    assert len(kept.result["samples"]) == 20
    assert set(kept.result["samples"][0]["answers"]) == {first, second}
    assert sum(p["num_rows"] for p in kept.result["slices"] if p["segment"] == "source") == 20
    assert "Against assistant v1 on 20 rows of prompts v3: assistant v2 reward" in result["message"]
    few = run(store, start(store, versions, "prompts", judge="rule:short", number=2,
                           options={"response_tokens": 4}))  # fmt: skip
    kept = kept_of(store)
    assert kept.num_rows == 3, "so few that an interval says nothing"
    assert set(kept.result["differences"][second]["reward"]) == {"value"}
    assert all(set(one) == {"value"} for one in kept.result["versions"][second].values())
    assert "that may be chance" in few["message"]
