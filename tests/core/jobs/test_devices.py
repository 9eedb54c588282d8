"""Devices: what drivers print, what a worker reports, and which GPUs its runs see."""

import os
from pathlib import Path

import psutil
import pytest

from rlhf_core.api.startup import worker_commands
from rlhf_core.errors import InvalidInput
from rlhf_core.jobs import devices, heartbeats
from rlhf_core.jobs.devices import Device
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Resource
from tests.core.jobs.world import World, until
from tests.databases import only_sqlite

TWO_GPUS = """\
0, GPU-11111111-aaaa, NVIDIA L4, 23034, 512, 37
1, GPU-22222222-bbbb, NVIDIA L4, 23034, 21000, [N/A]
"""


def test_gpus_of_nvidia_are_read_with_their_memory_and_load() -> None:
    assert devices.parse_nvidia(TWO_GPUS, None) == [
        Device("cuda", 0, "NVIDIA L4", 23034.0, 512.0, 37.0),
        Device("cuda", 1, "NVIDIA L4", 23034.0, 21000.0, None),
    ]


def test_only_owned_gpus_are_told_by_number_or_uuid() -> None:
    assert [d.index for d in devices.parse_nvidia(TWO_GPUS, ("1",))] == [1]
    assert [d.index for d in devices.parse_nvidia(TWO_GPUS, ("GPU-1111",))] == [0]


def test_what_is_no_table_of_gpus_gives_none() -> None:
    said = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n"
    assert devices.parse_nvidia(said, None) == []


def test_broken_tool_leaves_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexit 9\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(devices, "DRM", tmp_path)
    (cpu,) = devices.list_devices()
    assert (cpu.kind, cpu.is_gpu) == ("cpu", False)
    assert cpu.memory_mb == pytest.approx(psutil.virtual_memory().total / 2**20)


def test_tool_of_nvidia_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{TWO_GPUS}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.count_gpus() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert devices.count_gpus() == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.count_gpus() == 0


def test_gpus_of_amd_are_read_from_the_kernel(tmp_path: Path) -> None:
    for number in (0, 1):
        card = tmp_path / f"card{number}" / "device"
        card.mkdir(parents=True)
        (card / "mem_info_vram_total").write_text(f"{64 * 2**30}\n")
        (card / "mem_info_vram_used").write_text(f"{2**30}\n")
        (card / "gpu_busy_percent").write_text("12\n")
    (tmp_path / "card0-DP-1").mkdir()
    assert devices._list_amd(("1",), tmp_path) == [
        Device("rocm", 1, "AMD GPU", 65536.0, 1024.0, 12.0)
    ]
    assert len(devices._list_amd(None, tmp_path)) == 2


def test_runs_see_the_owned_gpus_and_no_other() -> None:
    assert devices.visible_environment(None) == {}
    assert devices.visible_environment(("2", "3"))["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert devices.visible_environment(())["CUDA_VISIBLE_DEVICES"] == "-1"


def test_option_takes_numbers_uuids_or_none() -> None:
    assert devices.parse_owned(None) is None
    assert devices.parse_owned("none") == ()
    assert devices.parse_owned("0, 2") == ("0", "2")
    assert devices.parse_owned("GPU-11111111") == ("GPU-11111111",)
    for wrong in ("", "first", "0,0", "0,none"):
        with pytest.raises(InvalidInput):
            devices.parse_owned(wrong)


def test_machine_with_gpus_gets_a_worker_each_and_one_for_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [" ".join(c[3:]).split("--")[-1] for c in worker_commands(2).values()] == [
        "devices none", "devices 0", "devices 1",
    ]  # fmt: skip
    (alone,) = worker_commands(0).values()
    assert "cpu,gpu" in alone
    assert "--devices" not in alone


def test_heartbeat_tells_the_devices(store: Store) -> None:
    told = devices.parse_nvidia(TWO_GPUS, None)
    with store.writing() as db:
        heartbeats.beat(db, "a:gpu0", pid=1, resources=(Resource.GPU,), devices=told[:1])
        heartbeats.beat(db, "a:gpu0", pid=1, resources=(Resource.GPU,), devices=told)
    with store.reading() as db:
        (worker,) = heartbeats.list_workers(db)
    assert worker.devices == tuple(told)
    assert devices.parse_devices({"devices": [{"kind": "of another version"}]}) == ()


@only_sqlite
def test_real_worker_reports_its_machine(world: World) -> None:
    world.start_worker()
    with world.store.reading() as db:
        (worker,) = until("it beats", lambda: heartbeats.list_workers(db))
    assert worker.devices[-1].kind == "cpu"
    assert (worker.devices[-1].cores or 0) >= 1
