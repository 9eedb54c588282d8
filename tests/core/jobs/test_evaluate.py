from dataclasses import replace

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import DatasetVersionView, freeze_version
from rlhf_core.dataset.splits import SplitParams
from rlhf_core.errors import Conflict, InvalidInput, NotEnoughData, NotFound
from rlhf_core.jobs.evaluate import enqueue_evaluate
from rlhf_core.jobs.examining import check_fit, find_ceiling
from rlhf_core.jobs.service import JobView
from rlhf_core.registry.evaluations import list_evaluations
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetPurpose, ModelKind
from tests.core.jobs.trained import add_ratings, enqueue, list_models, run
from tests.databases import only_sqlite


def freeze(store: Store, name: str, params: DatasetParams, **split: float) -> DatasetVersionView:
    with store.reading() as db:
        staged = stage_rows(db, params=params, split=SplitParams(**split))
    with store.writing() as db:
        return freeze_version(db, actor=SYSTEM, name=name, staged=staged).version


@pytest.fixture
def trained(store: Store) -> Store:
    """`reward v1`, trained on 60 rows of `ratings v1`; 20 more rows came later."""
    with store.writing() as db:
        add_ratings(db, 30)
    run(store, enqueue(store, options={"folds": 2, "regularisation": [0.1]}))
    with store.writing() as db:
        add_ratings(db, 10, seed=1)
    return store


def version_of(store: Store) -> ModelVersionView:
    (version,) = list_models(store)
    return version


def enqueue_on(
    store: Store, dataset: str, *, number: int | None = None, split: str = "test"
) -> JobView:
    with store.writing() as db:
        return enqueue_evaluate(
            db,
            actor=SYSTEM,
            version_id=version_of(store).id,
            dataset=dataset,
            number=number,
            split=split,
        )


def test_version_is_examined_on_another_dataset_and_leakage_is_seen(trained: Store) -> None:
    freeze(trained, "later", DatasetParams())
    result = run(trained, enqueue_on(trained, "later", split="all"))
    with trained.reading() as db:
        (found,) = list_evaluations(db, version_of(trained).id, actor=SYSTEM)
    assert str(result["evaluation_id"]) == str(found.id)
    assert (found.dataset, found.split, found.num_rows) == ("later v1", "all", 80)
    leakage = found.examination["leakage"]
    assert (leakage["num_prompts"], leakage["num_seen"]) == (40, 30)
    assert "later v1" in result["message"]
    assert found.examination["confusion"]


@only_sqlite
def test_pairs_examine_a_model_of_ratings(trained: Store) -> None:
    freeze(trained, "two", DatasetParams(purpose=DatasetPurpose.PREFERENCES))
    result = run(trained, enqueue_on(trained, "two", split="train"))
    assert result["metrics"]["pair_accuracy"] > 0.5


@only_sqlite
def test_empty_part_is_said(trained: Store) -> None:
    freeze(trained, "whole", DatasetParams())
    with pytest.raises(NotEnoughData, match="rows in the part test of whole v1"):
        run(trained, enqueue_on(trained, "whole"))


@only_sqlite
def test_wrong_wishes_are_refused_before_anything_waits(trained: Store) -> None:
    with pytest.raises(NotFound, match="no dataset"):
        enqueue_on(trained, "elsewhere")
    with pytest.raises(InvalidInput, match="split 'half'"):
        enqueue_on(trained, "ratings", split="half")
    freeze(trained, "asked", DatasetParams(purpose=DatasetPurpose.PROMPTS))
    with pytest.raises(InvalidInput, match="say nothing of good and bad"):
        enqueue_on(trained, "asked")
    with pytest.raises(InvalidInput, match="Only a step model"):
        check_fit(ModelKind.REWARD_SBERT, DatasetPurpose.STEPS)
    enqueue_on(trained, "ratings", split="all")
    with pytest.raises(Conflict, match="under way"):
        enqueue_on(trained, "ratings", number=1, split="all")


@only_sqlite
def test_model_and_its_judge_have_seen_a_half_of_the_prompts_each(store: Store) -> None:
    with store.writing() as db:
        add_ratings(db, 60)
    options = {"folds": 2, "regularisation": [0.1], "seed": 3}
    run(store, enqueue(store, options=options, with_judge=True, test_percent=0.0))
    seen = []
    for version in list_models(store):
        with store.writing() as db:
            job = enqueue_evaluate(
                db, actor=SYSTEM, version_id=version.id, dataset="ratings", split="train"
            )
        run(store, job)
        with store.reading() as db:
            (found,) = list_evaluations(db, version.id, actor=SYSTEM)
        seen.append(found.examination["leakage"]["num_seen"])
    assert seen == [30, 30]


@pytest.mark.parametrize(
    ("purpose", "origins", "expected"),
    [
        (DatasetPurpose.SCORES, {"5": 9}, 0.9),
        (DatasetPurpose.PREFERENCES, {"comparison": 9, "correction": 2}, 0.7),
        (DatasetPurpose.PREFERENCES, {"comparison": 9, "ratings": 1}, None),
    ],
)
def test_equal_ratings_are_no_ceiling_of_pairs(
    trained: Store, purpose: DatasetPurpose, origins: dict[str, int], expected: float | None
) -> None:
    agreement = {"raw": 0.7} | ({"good_or_bad": 0.9} if purpose is DatasetPurpose.SCORES else {})
    card = {"agreement": agreement, "labels": {"counts": origins}}
    version = replace(freeze(trained, "later", DatasetParams()), purpose=purpose, card=card)
    assert find_ceiling(version) == expected
