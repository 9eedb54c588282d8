"""What was made of demo rows is found, wherever it shows."""

import json
from typing import Any

from click.testing import CliRunner
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.main import main
from rlhf_core.dataset.params import DatasetParams, Filters
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import DatasetVersionView, freeze_version
from rlhf_core.demo.marks import DemoMarks, find_marks
from rlhf_core.jobs.service import enqueue_job
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetPurpose, JobKind
from tests.core.registry.world import make_version
from tests.databases import only_sqlite
from tests.learning.rated import add_interaction, add_rater


def freeze(db: Session, name: str, **filters: Any) -> DatasetVersionView:
    params = DatasetParams(purpose=DatasetPurpose.PROMPTS, filters=Filters(**filters))
    staged = stage_rows(db, params=params)
    return freeze_version(db, actor=SYSTEM, name=name, staged=staged).version


def add_demo(db: Session) -> None:
    add_rater(db, "u_demo", is_demo=True)
    for number in range(3):
        add_interaction(db, f"Demo {number}?", is_demo=True, source="demo")


def test_versions_models_and_runs_of_demo_rows_are_marked_and_no_others(store: Store) -> None:
    with store.writing() as db:
        add_demo(db)
        job = enqueue_job(db, actor=SYSTEM, kind=JobKind.TRAIN_SBERT, params={})
        assert find_marks(db).jobs == {job.id}, "there is nothing but the demo world"
        add_interaction(db, "Real?")
        real, demo = freeze(db, "real"), freeze(db, "demo", source="demo")
        mixed = freeze(db, "mixed", include_demo=True)
        own = make_version(db)
        starter = make_version(db, model_name="assistant", details={"is_demo": True})
        marks = find_marks(db)
    assert marks.dataset_versions == {demo.id, mixed.id}
    assert marks.model_versions == {starter.id}
    assert marks.jobs == set()
    assert real.id not in marks.dataset_versions
    assert own.id not in marks.model_versions


@only_sqlite
def test_without_a_demo_world_nothing_is_marked(store: Store) -> None:
    with store.writing() as db:
        add_interaction(db, "Real?")
        freeze(db, "real")
        assert find_marks(db) == DemoMarks()


@only_sqlite
def test_lists_of_the_command_line_say_so(store: Store) -> None:
    with store.writing() as db:
        add_demo(db)
        freeze(db, "demo")
        make_version(db, details={"is_demo": True})
        enqueue_job(db, actor=SYSTEM, kind=JobKind.TRAIN_SBERT, params={})

    def call(*arguments: str) -> str:
        return CliRunner().invoke(main, arguments, catch_exceptions=False).stdout

    for noun in ("dataset", "models", "jobs"):
        (listed,) = json.loads(call(noun, "list", "--json"))
        assert listed["is_demo"] is True
        assert call(noun, "list").rstrip().endswith("demo")
