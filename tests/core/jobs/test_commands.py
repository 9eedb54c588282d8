"""The command line: a real worker, and what `jobs` says about its runs."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.cli.main import main
from rlhf_core.config import get_settings
from rlhf_core.errors import Conflict, InvalidInput, NotFound, TrainingFailed
from rlhf_core.jobs import service
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import JobKind, JobState, Role
from tests.builders import make_actor
from tests.core.jobs.world import World
from tests.databases import postgres_is_slow

pytestmark = postgres_is_slow

ROWS = [{"prompt": f"What is {n} plus 1?", "completion": str(n + 1)} for n in range(3)]


def call(*arguments: str) -> Any:
    """The JSON that the command prints; raises our errors as the command line would see them."""
    done = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
    return json.loads(done.stdout)


def import_rows(store: Store, folder: Path, actor: Actor = SYSTEM) -> uuid.UUID:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.jsonl"
    path.write_text("\n".join([*map(json.dumps, ROWS), "{broken"]))
    params = {"path": str(path), "format": "native"}
    with store.writing() as db:
        return service.enqueue_job(db, actor=actor, kind=JobKind.IMPORT, params=params).id


def test_worker_of_the_command_line_runs_an_import(world: World, tmp_path: Path) -> None:
    with world.store.writing() as db:
        trainer = make_actor(db, Role.TRAINER)
    uploaded = import_rows(world.store, get_settings().data_dir / "uploads", trainer)
    foreign = import_rows(world.store, tmp_path / "elsewhere", trainer)
    world.start(["-m", "rlhf_core", "worker", "--executor", "cli", "--exit-with-parent", "--json"])

    done = call("jobs", "wait", str(uploaded))
    assert done["state"] == "succeeded"
    assert done["message"] == "3 of 4 lines stored, 1 refused, 0 known already."
    assert done["created_by"] == trainer.name
    shown = call("jobs", "show", str(uploaded)[:30])
    assert shown["job"]["executor_id"] == "cli"
    assert call("jobs", "log", str(uploaded))[0]["text"].startswith("line 4: ")

    with pytest.raises(TrainingFailed, match=r"rows.jsonl was not uploaded"):
        call("jobs", "wait", str(foreign))
    assert [job["id"] for job in call("jobs", "list", "--state", "failed")] == [str(foreign)]
    assert call("jobs", "retry", str(foreign))["state"] == "queued"


def test_cancel_and_list_without_any_worker(store: Store, tmp_path: Path) -> None:
    job_id = import_rows(store, tmp_path)
    assert call("jobs", "cancel", str(job_id))["state"] == JobState.CANCELED
    assert call("jobs", "log", str(job_id)) == []
    with pytest.raises(Conflict, match="is canceled already"):
        call("jobs", "cancel", str(job_id))
    with pytest.raises(TrainingFailed, match=r"canceled: Canceled before it started\."):
        call("jobs", "wait", str(job_id))


def test_waiting_says_that_no_worker_is_alive(store: Store, tmp_path: Path) -> None:
    job_id = import_rows(store, tmp_path)
    said = CliRunner().invoke(main, ["jobs", "wait", str(job_id), "--timeout", "0"])
    assert said.exit_code == 1
    assert "No worker is alive for cpu jobs" in said.stderr


def test_wrong_ids_and_resources_are_explained(store: Store) -> None:
    with pytest.raises(InvalidInput, match="is no job id"):
        call("jobs", "show", "seven")
    with pytest.raises(NotFound, match="no job of the last 1000 begin"):
        call("jobs", "show", "abc")
    with pytest.raises(NotFound, match="There is no job"):
        call("jobs", "show", str(uuid.uuid4()))
    with pytest.raises(InvalidInput, match="give one or more of cpu, gpu"):
        call("worker", "--resources", "tpu")
