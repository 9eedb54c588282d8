"""Weights dealt to two processes (FSDP2): the result is one process's, the memory half of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from rlhf_core.errors import InvalidInput, TrainingFailed
from rlhf_core.policies.base import load_policy
from rlhf_core.policies.ppo import PpoParams
from tests.core.policies.relatives import dpo, run
from tests.core.policies.tiny_policies import Watcher, count_of, make_adapter, train

ROOT = Path(__file__).resolve().parents[3]
RUNS: dict[str, dict[str, Any]] = {
    "all": {"num_mini_batches": 2, "micro_batch_size": 1, "batch_size": 6, "updates": 5},
    "critic": {"critic": "separate", "critic_layers": 1, "gradient_checkpointing": True},
    "lora": {"lora_rank": 2, "merge_adapter": False},
    "adapter": {},
    "bf16": {"precision": "bf16"},
}
SCRIPT = """
import json, sys
from pathlib import Path
import torch
from rlhf_core.errors import TrainingFailed
from rlhf_core.policies.ppo import PpoParams
from rlhf_core.policies.ppo_setup import prepare
from rlhf_core.policies.processes import open_processes
from rlhf_core.training import NoOpTracker
from tests.core.policies.tiny_policies import Watcher, count_of, make_prompts, train
torch.set_num_threads(1)
base, adapter, folder = (Path(one) for one in sys.argv[1:4])
told = {}
with open_processes() as processes:
    params = PpoParams(base=str(base), sharding="fsdp2", precision="fp32",
                       response_tokens=6)
    setup = prepare(make_prompts(), params=params, processes=processes, tracker=NoOpTracker())
    held = sum(part.numel() for part in setup.optimizer.masters.values())
    told["weights"] = processes.gather(held)
    del setup  # its shards keep the group of processes, which must not outlive them
    for name, options in json.loads(sys.argv[4]).items():
        start = adapter if name == "adapter" else base
        report = train(start, folder / name, count_of("d"), held_out=count_of("e"),
                       sharding="fsdp2", **options)
        told[name] = report.details["history"]
    try:
        train(base, folder / "stopped", count_of("d"), held_out=count_of("e"),
              sharding="fsdp2", tracker=Watcher(3))
    except TrainingFailed as error:
        told["stopped"] = str(error)
    if processes.is_first:
        (folder / "told.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny, tmp_path_factory.mktemp("sft") / "adapter")


@pytest.fixture(scope="module")
def two(
    tiny: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """All runs by two processes under torchrun: the folder, and what the first one told."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
            str(script), str(tiny), str(adapter), str(folder), json.dumps(RUNS),
        ],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, json.loads((folder / "told.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_that_share_the_weights_learn_what_one_does(
    name: str, two: tuple[Path, dict[str, Any]], tiny: Path, adapter: Path, tmp_path: Path
) -> None:
    """Up to rounding, at an equal global batch; and the policy that is written is that policy."""
    folder, told = two
    report = train(
        adapter if name == "adapter" else tiny, tmp_path, count_of("d"), held_out=count_of("e"),
        **RUNS[name],
    )  # fmt: skip
    exact = RUNS[name].get("precision") != "bf16"
    for one, other in zip(report.details["history"], told[name], strict=True):
        if exact:
            assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
        else:
            assert one["length"] == pytest.approx(other["length"], abs=1.5)
    (written,) = (folder / name / "model").glob("*model.safetensors")
    mine, theirs = (load_file(path) for path in (tmp_path / "model" / written.name, written))
    assert mine.keys() == theirs.keys()
    for weight, value in mine.items():
        assert value.dtype == theirs[weight].dtype
        if exact:
            assert value.numpy() == pytest.approx(theirs[weight].numpy(), abs=1e-3)
    load_policy(folder / name / "model")
    assert not list((folder / name / "work").glob("*/step-*"))


@pytest.mark.slow
def test_each_process_keeps_a_half(two: tuple[Path, dict[str, Any]], tiny: Path) -> None:
    total = sum(value.numel() for value in load_file(tiny / "model.safetensors").values())
    value_head = 33  # is whole in each
    assert sum(two[1]["weights"]) == total + 2 * value_head
    assert max(two[1]["weights"]) < 0.52 * total


@pytest.mark.slow
def test_one_process_goes_on_with_what_two_have_kept(
    two: tuple[Path, dict[str, Any]], tiny: Path, tmp_path: Path
) -> None:
    folder, told = two
    assert "Stopped on request after update 3 of 4" in told["stopped"]
    whole = train(tiny, tmp_path, count_of("d"), held_out=count_of("e"))
    tracker = Watcher()
    again = train(tiny, folder / "stopped", count_of("d"), held_out=count_of("e"), tracker=tracker)
    assert "Resumed from the checkpoint of update 3." in tracker.lines
    for one, other in zip(whole.details["history"], again.details["history"], strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)


def test_other_plugins_of_accelerate_are_refused_with_a_sentence(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TrainingFailed, match="Only PPO shards its weights"):
        run(dpo(tiny), tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(TrainingFailed, match="DeepSpeed does not run these learners"):
        train(tiny, tmp_path, count_of("d"))


def test_what_does_not_go_together_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="own with sharding fsdp2"):
        PpoParams(base="folder", sharding="fsdp2", generator="vllm")
    with pytest.raises(InvalidInput, match="sharding"):
        PpoParams(base="folder", sharding="fsdp1")  # type: ignore[arg-type]
