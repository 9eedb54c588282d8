"""Training runs that tune a network: a tiny one, made on the spot."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.errors import TrainingFailed
from rlhf_core.jobs.service import JobView
from rlhf_core.registry.evaluations import list_evaluations
from rlhf_core.registry.service import promote_version
from rlhf_core.serving.loader import ModelSlot, load_version
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetPurpose, JobKind, ModelKind
from tests.builders import make_feedback, make_interaction
from tests.core.jobs.trained import WORDS, Log, add_ratings, enqueue, list_models, run
from tests.core.serving.world import promote_reward_model
from tests.databases import only_sqlite
from tests.learning.tiny_models import make_bert

QUICK = {"epochs": 2, "max_tokens": 48, "precision": "fp32", "checkpoint_every": 2}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models of 32 units are slower on several threads than on one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("bert"))


def enqueue_tuned(store: Store, bert: Path, **params: Any) -> JobView:
    options = {**QUICK, "base": str(bert)}
    return enqueue(store, learner=JobKind.TRAIN_TRANSFORMER, options=options, **params)


@pytest.mark.slow
@only_sqlite
def test_transformer_takes_the_place_of_embeddings_under_one_name_and_serves(
    store: Store, bert: Path
) -> None:
    with store.writing() as db:
        add_ratings(db, 120)
        promote_reward_model(db)
    result = run(store, enqueue_tuned(store, bert))
    newest = list_models(store)[0]
    assert (newest.name, newest.kind) == ("reward v2", ModelKind.REWARD_TRANSFORMER)
    assert result["cost"]["base"] == str(bert)
    assert result["cost"]["row_epochs"] == 2 * 240
    with store.reading() as db:
        (found,) = list_evaluations(db, newest.id, actor=SYSTEM)
    assert found.split == "test"
    assert found.examination["reliability"]
    slot = ModelSlot(store, load_version)
    slot.refresh()
    assert slot.current is not None
    assert slot.current.name == "reward v1"
    with store.writing() as db:
        promote_version(db, newest.id, actor=SYSTEM, reason="test")
    slot.refresh()
    assert slot.problem is None
    assert slot.current.name == "reward v2"
    (score,) = slot.current.score(["amber basket?"], ["No idea."])
    assert score is not None
    assert 0.0 <= score <= 1.0


@only_sqlite
def test_stopped_run_goes_on_from_its_checkpoint_to_the_same_model(
    store: Store, bert: Path
) -> None:
    with store.writing() as db:
        add_ratings(db, 60)
    whole = enqueue_tuned(store, bert, model="whole")
    run(store, whole)
    cut = enqueue_tuned(store, bert, model="cut")
    with pytest.raises(TrainingFailed):
        run(store, cut, log=Log(stop_after="Epoch 1"))
    assert [version.model_name for version in list_models(store)] == ["whole"]
    run(store, cut, attempt=2)
    one, other = (
        (version.folder / "model.safetensors").read_bytes() for version in list_models(store)
    )
    assert one == other


@only_sqlite
def test_base_model_that_does_not_exist_is_said_and_the_version_before_stays(
    store: Store, tmp_path: Path
) -> None:
    with store.writing() as db:
        add_ratings(db, 60)
        before = promote_reward_model(db)
    with pytest.raises(TrainingFailed, match="nowhere"):
        run(store, enqueue_tuned(store, tmp_path / "nowhere"))
    assert [version.id for version in list_models(store)] == [before.id]


def add_solutions(store: Store, number: int) -> None:
    """Solutions of three steps; a step that doubts is wrong."""
    drawn = random.Random(0)
    with store.writing() as db:
        for _ in range(number):
            labels = [drawn.random() < 0.7 for _ in range(3)]
            words = ["because it is so and so", "no idea whatever"]
            steps = [f"{words[not label]} {drawn.choice(WORDS)}." for label in labels]
            prompt = f"{' '.join(drawn.sample(WORDS, 8))}?"
            stored = make_interaction(db, prompt=prompt, steps=steps)
            for place, label in enumerate(labels):
                make_feedback(db, stored.id, step=place, label=1 if label else -1)


@only_sqlite
def test_step_labels_train_a_model_of_steps(store: Store, bert: Path) -> None:
    add_solutions(store, 240)
    job = enqueue(
        store,
        learner=JobKind.TRAIN_STEPS,
        rows=DatasetParams(purpose=DatasetPurpose.STEPS),
        model="steps",
        options={**QUICK, "base": str(bert)},
    )
    result = run(store, job)
    (version,) = list_models(store)
    assert (version.kind, version.dataset) == (ModelKind.REWARD_STEPS, "steps v1")
    assert "first-error F1" in result["message"]
    with store.reading() as db:
        (found,) = list_evaluations(db, version.id, actor=SYSTEM)
    assert {"always_last", "always_first", "logistic"} <= set(
        found.examination["baselines"]["first_error_f1"]
    )
    (score,) = load_version(version).score(["amber basket?"], ["because.\n\nno idea."])
    assert score is not None
