"""Training runs of policies: tiny ones, made on the spot."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import Conflict, InvalidInput, NotEnoughData, NotFound, TrainingFailed
from rlhf_core.jobs.policy_params import RewardPart, TrainPolicyParams, parse_policy_params
from rlhf_core.jobs.service import find_unfinished
from rlhf_core.policies.base import load_policy
from rlhf_core.registry.service import promote_version
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import JobKind, ModelKind
from tests.builders import make_feedback, make_interaction
from tests.core.jobs.trained import Log, list_models, run, work_dir_of
from tests.core.jobs.trained_policies import GOOD, QUICK, add_prompts, enqueue_policy
from tests.core.jobs.world import ROOT, is_alive, until
from tests.core.serving.world import promote_reward_model
from tests.databases import only_sqlite

pytestmark = pytest.mark.usefixtures("reward_rules")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models of 32 units are slower on several threads than on one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_run_freezes_prompts_and_registers_a_policy_that_opens(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    log = Log()
    job = enqueue_policy(store, base)
    result = run(store, job, log=log)
    (version,) = list_models(store)
    assert (version.name, version.kind) == ("assistant v1", ModelKind.POLICY)
    assert (version.job_id, version.dataset) == (job.id, "prompts v1")
    assert version.details["learner"] == "train_ppo"
    assert version.details["rewards"] == [{"name": "rule:good", "version_id": None, "weight": 1.0}]
    assert version.params["base"] == str(base)
    assert result["version_id"] == str(version.id)
    assert "Trained assistant v1" in result["message"]
    assert result["cost"]["units"] == 24
    load_policy(version.folder)


def test_run_that_is_taken_up_again_registers_once(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    job = enqueue_policy(store, base)
    first = run(store, job)
    second = run(store, job, attempt=2)
    assert second["version_id"] == first["version_id"]
    assert len(list_models(store)) == 1


@only_sqlite
def test_stopped_run_goes_on_from_its_checkpoint_to_the_same_policy(
    store: Store, base: Path
) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    whole = enqueue_policy(store, base, model="whole")
    run(store, whole)
    cut = enqueue_policy(store, base, model="cut")
    with pytest.raises(TrainingFailed, match="Stopped on request"):
        run(store, cut, log=Log(stop_after="Update 2"))
    assert [version.model_name for version in list_models(store)] == ["whole"]
    log = Log()
    run(store, cut, attempt=2, log=log)
    assert any("Resumed" in line for line in log.lines)
    one, other = (
        (version.folder / "model.safetensors").read_bytes() for version in list_models(store)
    )
    assert one == other


@only_sqlite
def test_policy_that_was_finished_before_the_kill_is_not_trained_again(
    store: Store, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_core.jobs import train_policy

    with store.writing() as db:
        add_prompts(db, 60)
    job = enqueue_policy(store, base)
    with monkeypatch.context() as broken:
        broken.setattr(train_policy, "_finish", _break)
        with pytest.raises(TrainingFailed, match="power"):
            run(store, job)
    log = Log()
    run(store, job, attempt=2, log=log)
    assert "The policy was finished before the run was interrupted." in log.lines
    assert [version.name for version in list_models(store)] == ["assistant v1"]


def _break(*_: Any) -> None:
    raise TrainingFailed("no power")


@only_sqlite
def test_version_that_was_trained_is_the_next_base_by_name_or_number(
    store: Store, base: Path
) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    run(store, enqueue_policy(store, base))
    run(store, enqueue_policy(store, "assistant@1"))
    newest = list_models(store)[0]
    assert (newest.name, newest.params["base"]) == ("assistant v2", "assistant v1")
    with store.writing() as db:
        promote_version(db, list_models(store)[1].id, actor=SYSTEM, reason="test")
    run(store, enqueue_policy(store, "assistant"))
    assert list_models(store)[0].details["base"]["name"] == "assistant v1"
    with pytest.raises(NotFound, match="no version 9"):
        enqueue_policy(store, "assistant@9")
    with pytest.raises(NotFound, match="There is no base 'nowhere'"):
        enqueue_policy(store, "nowhere")


@only_sqlite
def test_starter_is_made_first_and_serves_the_next_run_too(store: Store) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    log = Log()
    job = enqueue_policy(store, "starter")
    run(store, job, log=log)
    policy, starter = list_models(store)
    assert (starter.details["learner"], starter.job_id) == ("train_starter", None)
    assert policy.details["base"] == {"name": "assistant v1", "version_id": str(starter.id)}
    assert any("no starter policy yet" in line for line in log.lines)
    load_policy(starter.folder)
    again = Log()
    run(store, enqueue_policy(store, "starter", held_out="none"), log=again)
    assert not any("no starter policy yet" in line for line in again.lines)
    assert len(list_models(store)) == 3


@only_sqlite
def test_starter_stays_registered_where_the_policy_fails(store: Store) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    job = enqueue_policy(store, "starter", rewards=(RewardPart("rule:broken"),))
    with pytest.raises(TrainingFailed, match="finite"):
        run(store, job)
    (starter,) = list_models(store)
    assert starter.folder.is_dir()
    assert not list(starter.folder.parent.glob(f"{job.id}-*-policy"))


@pytest.mark.slow
@only_sqlite
def test_thumbs_pairs_and_good_answers_train_without_a_reward(store: Store, base: Path) -> None:
    with store.writing() as db:
        for place in range(60):
            prompt = f"{chr(97 + place % 26)} {chr(97 + place // 26)} {chr(97 + place // 3)}"
            for rating, words in ((5, "yes good"), (1, "no bad")):
                stored = make_interaction(db, prompt=prompt, completion=f"{words} {place % 7}")
                make_feedback(db, stored.id, rating=rating)
    options = {"batch_size": 8, "response_tokens": 8, "precision": "fp32", "sample_every": 0}
    made = {
        JobKind.TRAIN_SFT: "demonstrations v1",
        JobKind.TRAIN_DPO: "pairs v1",
        JobKind.TRAIN_KTO: "thumbs v1",
    }
    for learner, dataset in made.items():
        run(store, enqueue_policy(store, base, learner=learner, options=options))
        newest = list_models(store)[0]
        assert newest.details["learner"] == learner.value
        assert newest.dataset == dataset
        load_policy(newest.folder)


@only_sqlite
@pytest.mark.parametrize("learner", [JobKind.TRAIN_RLOO, JobKind.TRAIN_GRPO])
def test_relatives_of_ppo_take_the_same_rewards(store: Store, base: Path, learner: JobKind) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    options = {"updates": 2, "batch_size": 4, "response_tokens": 5, "precision": "fp32"}
    given = {"learner": learner, "options": options, "rewards": GOOD, "held_out": "rule:short"}
    run(store, enqueue_policy(store, base, **given))
    (version,) = list_models(store)
    assert version.details["held_out"]["name"] == "rule:short"
    assert "reward" in version.metrics


@only_sqlite
def test_big_policy_teaches_a_small_one(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    run(store, enqueue_policy(store, base, model="big"))
    options = {"teacher": "big@1", "updates": 2, "batch_size": 4, "response_tokens": 5,
               "precision": "fp32"}  # fmt: skip
    run(store, enqueue_policy(store, base, learner=JobKind.DISTIL, options=options))
    small = next(one for one in list_models(store) if one.model_name == "assistant")
    assert small.params["teacher"] == "big v1"


def test_equal_runs_wait_for_each_other_and_parameters_survive_the_database(
    store: Store, base: Path
) -> None:
    job = enqueue_policy(store, base)
    with pytest.raises(Conflict):
        enqueue_policy(store, base)
    params = parse_policy_params(job.params)
    with store.reading() as db:
        found = find_unfinished(db, params.dedup_key())
    assert found is not None
    assert found.id == job.id
    assert parse_policy_params(json.loads(json.dumps(params.to_json()))) == params


@only_sqlite
def test_name_of_a_reward_model_is_none_for_a_policy_and_the_other_way_round(
    store: Store, base: Path
) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
        promote_reward_model(db)
    with pytest.raises(InvalidInput, match="name of a reward model"):
        enqueue_policy(store, base, model="reward")
    with pytest.raises(InvalidInput, match="is a reward model, not a policy"):
        enqueue_policy(store, "reward")
    run(store, enqueue_policy(store, base))
    with pytest.raises(InvalidInput, match="is a policy, which scores nothing"):
        enqueue_policy(store, base, rewards=(RewardPart("assistant"),))


@only_sqlite
def test_too_few_prompts_or_rows_of_another_kind_are_a_sentence(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 20)
    job = enqueue_policy(store, base)
    with pytest.raises(NotEnoughData, match="20 prompts, 30 more needed"):
        run(store, job)
    with store.writing() as db:
        add_prompts(db, 60, seed=1)
    run(store, job, attempt=2)
    with pytest.raises(InvalidInput, match="learns from preferences, prompts v1 holds prompts"):
        enqueue_policy(store, base, learner=JobKind.TRAIN_DPO, options={}, dataset="prompts",
                       number=1)  # fmt: skip


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"learner": JobKind.TRAIN_SBERT}, "trains no policy"),
        ({"rewards": ()}, "name a reward model or a rule"),
        ({"learner": JobKind.TRAIN_SFT, "rewards": GOOD}, "learns from no reward"),
        ({"rewards": (RewardPart("a"),) * 9}, "8 at most"),
        ({"num_processes": 0}, "num_processes 0"),
        ({"num_machines": 65}, "num_machines 65: choose 1 to 64"),
        ({"learner": JobKind.TRAIN_STARTER, "rewards": (), "num_processes": 2}, "one process"),
        ({"options": {"base": "x"}}, "beside the options"),
        ({"options": {"colour": 1}}, "Unknown option 'colour'"),
        ({"model": "a@b"}, "without @"),
        ({"test_percent": 60.0}, "test_percent"),
    ],
)
def test_wrong_parameters_are_named(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        TrainPolicyParams(**{"rewards": GOOD, **given})


@only_sqlite
def test_failed_run_leaves_no_files_and_its_work_for_a_retry(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    job = enqueue_policy(store, base, rewards=(RewardPart("rule:broken"),))
    with pytest.raises(TrainingFailed, match="no finite number"):
        run(store, job)
    assert list_models(store) == []
    assert (work_dir_of(job) / "dataset.json").exists()


@only_sqlite
@pytest.mark.slow
def test_two_processes_make_the_policy_that_one_makes(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    run(store, enqueue_policy(store, base, model="one"))
    log = Log()
    run(store, enqueue_policy(store, base, model="two", num_processes=2), log=log)
    two, one = (version.metrics for version in list_models(store))
    assert two["reward"] == pytest.approx(one["reward"], abs=1e-4)
    assert any("2 process(es)" in line for line in log.lines)
    assert any(said.startswith("Update 3 of 3") for said in log.said)


@only_sqlite
@pytest.mark.slow
def test_failure_in_one_of_two_processes_is_its_sentence(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    job = enqueue_policy(store, base, num_processes=2, rewards=(RewardPart("rule:broken"),))
    with pytest.raises(TrainingFailed, match="no finite number"):
        run(store, job)
    assert list_models(store) == []


@only_sqlite
@pytest.mark.slow
def test_two_processes_stop_on_request_and_go_on(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    options = {**QUICK, "updates": 60}
    job = enqueue_policy(store, base, num_processes=2, options=options)
    with pytest.raises(TrainingFailed, match="Stopped on request"):
        run(store, job, log=Log(stop_after="Update 2"))
    log = Log()
    run(store, job, attempt=2, log=log)
    assert any("Resumed" in line for line in log.lines)


@only_sqlite
@pytest.mark.slow
def test_no_process_outlives_the_run_that_started_them(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    options = {**QUICK, "updates": 10_000}
    job = enqueue_policy(store, base, num_processes=2, options=options)
    work_dir_of(job).mkdir(parents=True)
    script = (
        "import sys; from rlhf_core.store.engine import get_store;"
        "from rlhf_core.jobs.service import get_job; from tests.core.jobs.trained import run;"
        "import uuid; store = get_store();\n"
        "with store.reading() as db: job = get_job(db, uuid.UUID(sys.argv[1]))\n"
        "run(store, job)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(job.id)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    events = work_dir_of(job) / "policy" / "processes" / "events.jsonl"
    until("two updates are told", lambda: events.exists() and "Update 2" in events.read_text())
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= 4  # the shim, the launcher, and two at work
    process.kill()
    process.wait()
    until("all are gone", lambda: not any(is_alive(child.pid) for child in below))


@only_sqlite
@pytest.mark.slow
def test_death_of_one_of_two_processes_ends_the_other_with_a_sentence(
    store: Store, base: Path
) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    options = {**QUICK, "updates": 10_000}
    job = enqueue_policy(store, base, num_processes=2, options=options)
    events = work_dir_of(job) / "policy" / "processes" / "events.jsonl"

    def kill_one() -> None:
        until("two updates are told", lambda: events.exists() and "Update 2" in events.read_text())
        ranks = [
            child
            for child in psutil.Process().children(recursive=True)
            if "rlhf_core.jobs.policy_ranks" in child.cmdline()
            and "torch.distributed.run" not in child.cmdline()
        ]
        ranks[-1].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(TrainingFailed, match="of the 2 processes"):
        run(store, job)
    killer.join()
    names = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert not any("policy_ranks" in " ".join(name) for name in names)
    assert list_models(store) == []
