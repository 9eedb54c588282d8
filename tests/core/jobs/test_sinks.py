"""Curves beside the database: TensorBoard files byte by byte, and tools that break or lack."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.clock import new_id
from rlhf_core.config import get_settings
from rlhf_core.jobs.event_file import EventFile, crc32c
from rlhf_core.jobs.sinks import RunFacts, SinkTracker, find_openers, flatten
from rlhf_core.training import Sample
from rlhf_core.vocabulary import JobKind, JobState
from tests.core.jobs.trained import Log
from tests.core.jobs.world import World
from tests.databases import only_sqlite

FACTS = RunFacts(new_id(), 1, JobKind.TRAIN_PPO, {"options": {"lr": 0.1}, "base": "starter"})


def read_records(path: Path) -> Iterator[bytes]:
    """The events of a file, each with its checksums checked."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = data[12 : 12 + length]
        for at, part in ((8, data[:8]), (12 + length, event)):
            (masked,) = struct.unpack("<I", data[at : at + 4])
            value = (masked - 0xA282EAD8) & 0xFFFFFFFF
            assert (value >> 17 | value << 15) & 0xFFFFFFFF == crc32c(part)
        yield event
        data = data[16 + length :]


def test_checksum_is_that_of_rfc_3720() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_event_file_holds_a_version_then_a_record_a_step(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.add_numbers(300, {"reward": 0.5})
    file.close()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    version, event = read_records(path)
    assert version[9:] == b"\x1a\x0dbrain.Event:2"
    value = b"\x0a\x06reward\x15" + struct.pack("<f", 0.5)
    summary = b"\x0a" + bytes([len(value)]) + value
    assert event[9:] == b"\x10\xac\x02" + b"\x2a" + bytes([len(summary)]) + summary


def test_second_attempt_says_from_where_on_the_first_does_not_count(tmp_path: Path) -> None:
    EventFile(tmp_path, restart_at=6).close()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    assert list(read_records(path))[1][9:] == b"\x10\x06\x3a\x02\x08\x01"


class Broken:
    """A tool that fails after the first number."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def write(self, step: int, _values: dict[str, float]) -> None:
        self.steps.append(step)
        if step > 1:
            raise ConnectionError("no route to host\nsecond line")

    def show(self, _step: int, _samples: Sequence[Sample]) -> None:
        raise AssertionError("it was left out")

    def close(self, _state: JobState | None) -> None:
        raise AssertionError("it was left out")


class Refusing:
    def __init__(self, _step: int) -> None:
        raise PermissionError("no key")


def test_tool_that_breaks_is_named_once_and_the_run_goes_on() -> None:
    log, broken = Log(), Broken()
    tracker = SinkTracker(log, {"Broken": lambda _: broken, "Refusing": Refusing})  # type: ignore[dict-item]
    for step in (1, 2, 3):
        tracker.metrics(step, {"loss": 1.0})
    tracker.samples(3, [Sample("p", "c")])
    tracker.close(JobState.SUCCEEDED)
    assert broken.steps == [1, 2]
    assert [line.split(" (")[0] for line in log.lines] == [
        "Refusing is left out of this run", "Broken is left out of this run",
    ]  # fmt: skip
    assert "ConnectionError: no route to host)" in log.lines[1]


def test_run_writes_numbers_and_answers_for_tensorboard() -> None:
    log = Log()
    tracker = SinkTracker(log, find_openers(FACTS, get_settings(), log))
    folder = get_settings().data_dir / "tensorboard" / f"train_ppo-{FACTS.job_id}"
    tracker.progress(0.1, "no numbers yet")
    assert not folder.exists()
    tracker.metrics(1, {"kl": 0.25, "bad": float("nan"), "huge": 1e300})
    tracker.samples(1, [Sample("Say hello", "Hello.\n![x](y)", "Hm.")])
    tracker.close(JobState.SUCCEEDED)
    (path,) = folder.iterdir()
    _, numbers, text = read_records(path)
    assert b"kl" in numbers
    assert b"bad" not in numbers
    assert b"huge" not in numbers
    assert b"    Hello.\n    ![x](y)" in text
    assert log.lines == []


def test_files_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_TENSORBOARD", "false")
    get_settings.cache_clear()
    assert find_openers(FACTS, get_settings(), Log()) == {}


def test_tool_that_is_set_but_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_MLFLOW_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("RLHF_WANDB_PROJECT", "rlhf")
    monkeypatch.setattr("rlhf_core.jobs.sinks.find_spec", lambda _: None)
    get_settings.cache_clear()
    log = Log()
    assert list(find_openers(FACTS, get_settings(), log)) == ["TensorBoard"]
    assert [line.rpartition(": ")[2] for line in log.lines] == [
        "`pip install mlflow`.", "`pip install wandb`.",
    ]  # fmt: skip


def test_parameters_are_flat_for_other_tools() -> None:
    assert flatten(FACTS.params) == {"options.lr": "0.1", "base": "starter"}


@only_sqlite
def test_real_run_leaves_its_file(world: World) -> None:
    world.start_worker()
    job_id = world.enqueue(first_attempt_s=0.3)
    done: Any = world.wait_for(job_id)
    (path,) = (get_settings().data_dir / "tensorboard" / f"train_sbert-{job_id}").iterdir()
    assert len(list(read_records(path))) == done.result["steps"] + 1, "NaN is left out"
