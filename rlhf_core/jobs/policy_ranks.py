"""One training run in several processes, one a device: started, listened to, ended together.

Of a run on several machines each starts its own (`policy_machines`), under one rendezvous.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, Protocol

from rlhf_core.config import get_settings
from rlhf_core.errors import NotEnoughData, RlhfError, TrainingFailed
from rlhf_core.examples import PreferencePair, PromptOnly, SftExample, UnpairedPreference
from rlhf_core.jobs.machines import Meeting
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


class LostProcess(TrainingFailed):
    """A process of the run ended and did not say why, or another one did."""


class Gang(Protocol):
    """The other machines of a run."""

    def gather(self, folder: Path, tracker: Tracker) -> Meeting:
        """Wait until all are there, and tell them where the work lies and where to meet."""

    def check(self) -> None:
        """Raise TrainingFailed where one of them was lost. Called several times a second."""


def learn_together(
    work: PolicyWork, tracker: Tracker, *, count: int, gang: Gang | None = None
) -> TrainReport:
    """Train in `count` processes of this machine and of each of the `gang`; as `learn` else.

    Raises TrainingFailed where one of them ended without a word: all others are then ended too.
    """
    folder = work.work_dir.parent / "processes"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (EVENTS, STOP, REPORT):
        (folder / name).unlink(missing_ok=True)
    _write(folder / WORK, _plain_work(work))
    (folder / EVENTS).touch()
    meeting = None if gang is None else gang.gather(folder, tracker)
    num_machines = 1 if meeting is None else meeting.num_machines
    words = f"{count * num_machines} processes"
    tracker.log(f"{words} on {num_machines} machines." if meeting else f"{words}.")
    output = folder / OUTPUT
    lost: TrainingFailed | None = None
    with (folder / EVENTS).open() as events, start_ranks(folder, count, output, meeting) as process:
        try:
            _listen(process, events, folder, tracker, gang)
        except TrainingFailed as error:
            lost = error
    if lost is not None and not (folder / REPORT).exists():  # the first process knows best
        raise lost
    return _read_report(folder, work.out_dir, words, process.returncode, tracker)


@contextmanager
def start_ranks(
    folder: Path, count: int, output: Path, meeting: Meeting | None = None, *, machine: int = 0
) -> "Iterator[subprocess.Popen[bytes]]":
    """The processes of this machine, by number among those that meet; at the end none is left."""
    with output.open("wb") as written:
        process = subprocess.Popen(  # noqa: S603 - our own command
            _command(folder, count, meeting, machine),
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(_threads(count))},
        )
        try:
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()  # the shim then ends all that is left
            process.wait()


def read_last_words(output: Path) -> str:
    """What the processes of a machine said at the end."""
    words = output.read_text(errors="replace").splitlines()[-OUTPUT_LINES:]
    return "\n".join(["Last output of the processes:", *words])


def run_rank(folder: Path) -> int:
    """One process of the run; the first one reports."""
    is_first = int(os.environ.get("RANK", "0")) == 0
    tracker = _FileTracker(folder, is_first=is_first)
    try:
        report = learn(_read_work(folder), tracker)
    except RlhfError as error:
        if is_first:
            is_lost = isinstance(error.__cause__, RuntimeError)  # of a connection to another one
            said = {"failure": str(error), "is_short": _shortage(error), "is_lost": is_lost}
            _write(folder / REPORT, said)
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


def _command(folder: Path, count: int, meeting: Meeting | None, machine: int) -> list[str]:
    shim = [sys.executable, "-m", "rlhf_core.jobs.shim", str(get_settings().run_grace_s)]
    launcher = [sys.executable, "-m", "torch.distributed.run"]
    if meeting is None:
        launcher.append("--standalone")
    else:
        # Fixed ranks: the first process of the run, which writes files and tells, is on machine 0.
        launcher += [
            f"--nnodes={meeting.num_machines}",
            f"--node-rank={machine}",
            f"--master-addr={meeting.address}",
            f"--master-port={meeting.port}",
        ]
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
    process: "subprocess.Popen[bytes]",
    events: IO[str],
    folder: Path,
    tracker: Tracker,
    gang: Gang | None,
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
        if gang is not None and not is_over:
            gang.check()
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
    folder: Path, out_dir: Path, processes: str, status: int, tracker: Tracker
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
        raise LostProcess(said["failure"]) if said["is_lost"] else TrainingFailed(said["failure"])
    tracker.log(read_last_words(folder / OUTPUT))
    raise LostProcess(
        f"One of the {processes} of the run ended without a word, and the others were ended: "
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
    code = run_rank(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is written: threads of torch's group may abort a process at its exit
