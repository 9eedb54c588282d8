"""One training run in several processes, one a device: started, listened to, ended together.

`python -m rlhf_core.jobs.policy_ranks FOLDER` is one of them, under torchrun. The first writes what
it has to tell into a file, which the run's own process reads on and passes to its tracker; so only
one process writes to the database. All of them run below a shim: however this process or one of
them ends, none is left behind.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from rlhf_core.config import get_settings
from rlhf_core.errors import NotEnoughData, RlhfError, TrainingFailed
from rlhf_core.examples import PreferencePair, PromptOnly, SftExample, UnpairedPreference
from rlhf_core.jobs.model_files import plain_report
from rlhf_core.jobs.policy_learners import PolicyWork, learn
from rlhf_core.jobs.policy_params import POLICY_LEARNERS, params_class
from rlhf_core.jobs.policy_rewards import parse_source
from rlhf_core.training import Sample, Tracker, TrainReport
from rlhf_core.vocabulary import DatasetPurpose, JobKind

ROWS: dict[DatasetPurpose, Any] = {
    DatasetPurpose.SFT: SftExample,
    DatasetPurpose.PREFERENCES: PreferencePair,
    DatasetPurpose.UNPAIRED: UnpairedPreference,
    DatasetPurpose.PROMPTS: PromptOnly,
}
LISTEN_EVERY_S = 0.2
OUTPUT_LINES = 30
WORK, EVENTS, STOP, REPORT, OUTPUT = "work.json", "events.jsonl", "stop", "report.json", "output"


def learn_together(work: PolicyWork, tracker: Tracker, *, count: int) -> TrainReport:
    """Train in `count` processes of this machine; as `learn` else.

    Raises TrainingFailed where one of them ended without a word: all others are then ended too.
    """
    folder = work.work_dir.parent / "processes"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (EVENTS, STOP, REPORT):
        (folder / name).unlink(missing_ok=True)
    _write(folder / WORK, _plain_work(work))
    (folder / EVENTS).touch()
    tracker.log(f"{count} processes.")
    with (folder / OUTPUT).open("wb") as output, (folder / EVENTS).open() as events:
        process = subprocess.Popen(  # noqa: S603 - our own command
            _command(folder, count),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(_threads(count))},
        )
        try:
            _listen(process, events, folder, tracker)
        finally:
            if process.stdin is not None:
                process.stdin.close()  # the shim then ends all that is left
            process.wait()
    return _read_report(folder, work.out_dir, count, process.returncode, tracker)


def run_rank(folder: Path) -> int:
    """One process of the run; the first one reports."""
    is_first = int(os.environ.get("RANK", "0")) == 0
    tracker = _FileTracker(folder, is_first=is_first)
    try:
        report = learn(_read_work(folder), tracker)
    except RlhfError as error:
        if is_first:
            _write(folder / REPORT, {"failure": str(error), "is_short": _shortage(error)})
        else:
            sys.stderr.write(f"{error}\n")
        return 1
    if is_first:
        _write(folder / REPORT, {"report": plain_report(report)})
    return 0


class _FileTracker:
    """The tracker of a process of the run: the first appends what it tells to a file."""

    def __init__(self, folder: Path, *, is_first: bool) -> None:
        self._file = (folder / EVENTS).open("a") if is_first else None
        self._stop = folder / STOP

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the run is."""
        self._tell("progress", fraction, message)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Record numbers at a step."""
        self._tell("metrics", step, {name: float(value) for name, value in values.items()})

    def log(self, text: str) -> None:
        """Append to the run's log."""
        self._tell("log", text)

    def samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Show what a policy answers."""
        self._tell("samples", step, [asdict(sample) for sample in samples])

    def should_stop(self) -> bool:
        """Whether the run was asked to end."""
        return self._stop.exists()

    def _tell(self, what: str, *said: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps([what, *said]) + "\n")
            self._file.flush()


def _command(folder: Path, count: int) -> list[str]:
    shim = [sys.executable, "-m", "rlhf_core.jobs.shim", str(get_settings().run_grace_s)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [
        *shim,
        *launcher,
        f"--nproc-per-node={count}",
        "-m",
        "rlhf_core.jobs.policy_ranks",
        str(folder),
    ]


def _threads(count: int) -> int:
    """Threads of each process, so that together they have the machine's cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // count)


def _listen(
    process: "subprocess.Popen[bytes]", events: IO[str], folder: Path, tracker: Tracker
) -> None:
    """Pass on what the first process tells, until all have ended."""
    rest = ""
    is_over = False
    while not is_over:
        is_over = process.poll() is not None
        if tracker.should_stop():
            (folder / STOP).touch()
        *lines, rest = (rest + events.read()).split("\n")
        for line in lines:
            _pass_on(json.loads(line), tracker)
        if not is_over and not lines:
            time.sleep(LISTEN_EVERY_S)


def _pass_on(event: list[Any], tracker: Tracker) -> None:
    match event:
        case ["progress", fraction, message]:
            tracker.progress(fraction, message)
        case ["metrics", step, values]:
            tracker.metrics(step, values)
        case ["log", text]:
            tracker.log(text)
        case ["samples", step, samples]:
            tracker.samples(step, [Sample(**sample) for sample in samples])
        case _:
            raise TrainingFailed(f"A process told {event!r}, which nobody understands.")


def _read_report(
    folder: Path, out_dir: Path, count: int, status: int, tracker: Tracker
) -> TrainReport:
    try:
        said = json.loads((folder / REPORT).read_text())
    except FileNotFoundError:
        said = {}
    if "report" in said and status == 0:
        report = TrainReport(**said["report"])
        return replace(report, artifact_dir=out_dir)
    if "failure" in said:
        if said["is_short"]:
            raise NotEnoughData(**said["is_short"])
        raise TrainingFailed(said["failure"])
    words = (folder / OUTPUT).read_text(errors="replace").splitlines()[-OUTPUT_LINES:]
    tracker.log("\n".join(["Last output of the processes:", *words]))
    raise TrainingFailed(
        f"One of the {count} processes of the run ended without a word, and the others were ended: "
        "most likely the machine ran out of memory. Start the run again (it goes on from its last "
        "checkpoint), with a smaller micro_batch_size or fewer processes."
    )


def _shortage(error: RlhfError) -> dict[str, Any] | None:
    if not isinstance(error, NotEnoughData):
        return None
    what = str(error).removeprefix(f"{error.have} ").split(",")[0]
    return {"have": error.have, "need": error.need, "what": what}


def _plain_work(work: PolicyWork) -> dict[str, Any]:
    return {
        "learner": work.learner.value,
        "params": asdict(work.params),
        "rows": [asdict(row) for row in work.rows],
        "out_dir": str(work.out_dir),
        "work_dir": str(work.work_dir),
        "rewards": [source.to_json() for source in work.rewards],
        "judge": work.judge and work.judge.to_json(),
    }


def _read_work(folder: Path) -> PolicyWork:
    plain = json.loads((folder / WORK).read_text())
    learner = JobKind(plain["learner"])
    row = ROWS[POLICY_LEARNERS[learner]]
    params = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in plain["params"].items()
    }
    return PolicyWork(
        learner=learner,
        params=params_class(learner)(**params),
        rows=[row(**one) for one in plain["rows"]],
        out_dir=Path(plain["out_dir"]),
        work_dir=Path(plain["work_dir"]),
        rewards=tuple(parse_source(source) for source in plain["rewards"]),
        judge=parse_source(plain["judge"]) if plain["judge"] else None,
    )


def _write(path: Path, plain: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(plain))
    fresh.replace(path)


if __name__ == "__main__":
    sys.exit(run_rank(Path(sys.argv[1])))
