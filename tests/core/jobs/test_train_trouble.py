"""Training runs where something goes wrong beside the learning itself."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.config import get_settings
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import freeze_version
from rlhf_core.dataset.splits import SplitParams, assign_split
from rlhf_core.errors import InvalidInput, TrainingFailed, Unavailable
from rlhf_core.feedback.drafts import prompt_hash
from rlhf_core.jobs.train_params import TrainRewardParams
from rlhf_core.serving.loader import load_version
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Choice, DatasetPurpose, Split, TieRule
from tests.core.dataset.world import vote
from tests.core.jobs.trained import WORDS, Log, add_ratings, enqueue, list_models, run
from tests.databases import only_sqlite
from tests.learning.rated import add_interaction

QUICK = {"folds": 2, "regularisation": [0.1]}


class BrokenLine(Store):
    """A store whose first commit of a model goes through, and then the connection breaks."""

    is_broken = False

    @contextmanager
    def writing(self) -> Iterator[Session]:
        with super().writing() as db:
            yield db
        if not self.is_broken and list_models(self):
            self.is_broken = True
            raise Unavailable("The database is away.")


@pytest.fixture
def rated(store: Store) -> Store:
    with store.writing() as db:
        add_ratings(db, 30)
    return store


def test_version_whose_commit_went_through_as_the_line_broke_keeps_its_files(rated: Store) -> None:
    job = enqueue(rated, options=QUICK)
    broken = BrokenLine(rated.url)
    with pytest.raises(Unavailable):
        run(broken, job)
    broken.engine.dispose()
    (version,) = list_models(rated)
    assert load_version(version).score(["a?"], ["b."])[0] is not None
    assert run(rated, job, attempt=2)["version_id"] == str(version.id)


@only_sqlite
def test_failed_run_leaves_no_files(rated: Store) -> None:
    with pytest.raises(TrainingFailed, match="Stopped"):
        run(rated, enqueue(rated, options=QUICK), log=Log(stop_after="Trained"))
    assert list((get_settings().artifact_dir / "models").iterdir()) == []


@only_sqlite
def test_run_that_was_taken_up_again_says_nothing_of_the_speed(rated: Store) -> None:
    job = enqueue(rated, options=QUICK, seeds=2)
    with pytest.raises(TrainingFailed, match="Stopped"):
        run(rated, job, log=Log(stop_after="seed 1: Trained"))
    resumed = run(rated, job, attempt=2)["cost"]
    whole = run(rated, enqueue(rated, options={**QUICK, "seed": 7}, seeds=2))["cost"]
    assert (resumed["row_epochs"], whole["row_epochs"]) == (0, 120)


@only_sqlite
def test_model_stays_where_all_test_rows_are_ties(store: Store) -> None:
    drawn = random.Random(0)
    with store.writing() as db:
        for _ in range(90):
            prompt = f"{' '.join(drawn.sample(WORDS, 8))}?"
            part = assign_split(prompt_hash(prompt), seed=0, test_percent=20)
            good = add_interaction(db, prompt, f"Gladly, {drawn.choice(WORDS)}.")
            bad = add_interaction(db, prompt, f"No {drawn.choice(WORDS)}.")
            vote(db, good, bad, Choice.TIE if part is Split.TEST else Choice.LEFT)
    params = DatasetParams(purpose=DatasetPurpose.PREFERENCES, ties=TieRule.KEEP)
    with store.reading() as db:
        staged = stage_rows(db, params=params, split=SplitParams(test_percent=20))
    with store.writing() as db:
        freeze_version(db, actor=SYSTEM, name="pairs", staged=staged)
    log = Log()
    run(store, enqueue(store, dataset="pairs", number=1, options=QUICK), log=log)
    assert [version.name for version in list_models(store)] == ["reward v1"]
    assert any("is not examined on the" in line for line in log.lines)


@pytest.mark.parametrize("names", [{"model": "a\0b"}, {"dataset": "a/b"}, {"dataset": "a\nb"}])
def test_name_that_could_not_be_registered_is_refused_before_the_run(
    names: dict[str, str],
) -> None:
    with pytest.raises(InvalidInput, match="printable characters"):
        TrainRewardParams(**names)  # type: ignore[arg-type]
