"""Training a policy on several machines: the first one leads, the others join it.

All of them see one `RLHF_DATA_DIR` under the same path: what the processes work on, checkpoints and
the policy lie there. Who loses a machine ends on all of them, with a reason; started again, the run
goes on from its last checkpoint. The rendezvous (torchrun's) asks for no password: the machines
share a network that strangers cannot reach.
"""

import socket
import subprocess
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from rlhf_core.config import get_settings
from rlhf_core.errors import NotFound, RlhfError, TrainingFailed, Unavailable
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.machines import (
    Machine,
    Meeting,
    call_together,
    count_workers,
    dismiss,
    list_machines,
)
from rlhf_core.jobs.policy_learners import PolicyWork
from rlhf_core.jobs.policy_ranks import (
    OUTPUT,
    WORK,
    LostProcess,
    learn_together,
    read_last_words,
    start_ranks,
)
from rlhf_core.jobs.service import get_job
from rlhf_core.training import Tracker, TrainReport
from rlhf_core.vocabulary import JobState, Resource

LOOK_EVERY_S = 1.0
NOBODY_FOR_S = 60.0
"""So long too few workers may be alive: one may be starting."""
SEEN_WITHIN_S = 60.0
"""In which a file that one machine wrote is seen by another."""
TOLD_WITHIN_S = 3.0
AGAIN = "Start the run again: it goes on from its last checkpoint."


def learn_on_machines(
    context: JobContext, work: PolicyWork, tracker: Tracker, *, num_machines: int, count: int
) -> TrainReport:
    """Train on this machine and the others that were reserved; as `learn` else."""
    gang = _Gang(context, num_machines, count)
    try:
        return learn_together(work, tracker, count=count, gang=gang)
    except BaseException as error:
        is_lost = isinstance(error, LostProcess) and not tracker.should_stop()
        said = gang.explain() if is_lost else ""
        dismiss_machines(context)
        if said:
            raise TrainingFailed(f"{error} {said}") from error
        raise


def dismiss_machines(context: JobContext) -> None:
    """End the parts that are left; where the database is away, each sees for itself."""
    with suppress(RlhfError, sa.exc.SQLAlchemyError), context.store.writing() as db:
        dismiss(db, context.job_id)


def run_join(context: JobContext) -> dict[str, Any]:
    """Be one of the machines of a run, from its call until its end."""
    if context.attempt > 1:
        raise TrainingFailed("A part that was interrupted is not taken up: start its run again.")
    meeting = _wait_for_call(context)
    folder, number = Path(meeting.folder), int(context.params["number"])
    _wait_for_work(folder)
    output = folder / f"{OUTPUT}-{number}"
    where = f"machine {number} of {meeting.num_machines}"
    context.tracker.progress(0.5, f"Takes part as {where}, led by {meeting.address}")
    with start_ranks(folder, meeting.num_processes, output, meeting, machine=number) as process:
        while process.poll() is None and _find_end(context) is None:
            time.sleep(LOOK_EVERY_S)
        with suppress(subprocess.TimeoutExpired):  # those of an ended run end by themselves
            process.wait(get_settings().run_grace_s)
    if process.returncode == 0:
        return {"message": f"Done as {where}."}
    context.tracker.log(read_last_words(output))
    raise TrainingFailed(
        _find_end(context) or f"A process on {socket.gethostname()} ended; its log says why."
    )


def find_address(hosts: Iterable[str | None]) -> str:
    """Where the machines of these names reach this one.

    The address of whichever network leads to them; no packet is sent to find it.
    """
    own = socket.gethostname()
    others = [host for host in hosts if host and host != own]
    for host in others:
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
            return str(probe.getsockname()[0])
    return own if others else "127.0.0.1"


class _Gang:
    """The other machines, as the first one sees them."""

    def __init__(self, context: JobContext, num_machines: int, count: int) -> None:
        self._context = context
        self._num_machines = num_machines
        self._count = count
        self._looked_at = 0.0
        self._lost = ""

    def gather(self, folder: Path, tracker: Tracker) -> Meeting:
        """Wait until a worker has taken each part, then tell all where to meet."""
        machines = self._wait_for_all(tracker)
        address = find_address(machine.host for machine in machines)
        meeting = Meeting(
            address, _find_port(), self._num_machines, self._count, str(folder.resolve())
        )
        names = ", ".join(machine.name for machine in machines)
        tracker.log(f"This machine, {address}:{meeting.port}, leads {names}.")
        with self._context.store.writing() as db:
            call_together(db, machines, meeting)
        return meeting

    def check(self) -> None:
        """Raise TrainingFailed where a machine was lost; looks once a second."""
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        with suppress(Unavailable, sa.exc.SQLAlchemyError):  # no reason to end a training
            self._refuse_lost(self._look())

    def explain(self) -> str:
        """What became of the others. Their end may be told a moment after it was felt here."""
        deadline = time.monotonic() + TOLD_WITHIN_S
        machines: list[Machine] = []
        while not self._lost and time.monotonic() < deadline:
            with suppress(RlhfError, sa.exc.SQLAlchemyError):
                machines = self._look()
                self._refuse_lost(machines)
            time.sleep(LOOK_EVERY_S / 4)
        names = ", ".join(machine.name for machine in machines)
        return self._lost or f"With it ran {names}: see in Workers whether that is alive."

    def _wait_for_all(self, tracker: Tracker) -> list[Machine]:
        enough_at = time.monotonic()
        while True:
            if tracker.should_stop():
                raise TrainingFailed("Stopped on request, before all machines were there.")
            machines = self._look()
            missing = sum(one.state is JobState.QUEUED for one in machines)
            self._refuse_lost([one for one in machines if one.state is not JobState.QUEUED])
            if not missing:
                return machines
            with self._context.store.reading() as db:
                alive = count_workers(db, Resource.GPU)
            if alive >= self._num_machines:
                enough_at = time.monotonic()
            elif time.monotonic() - enough_at > NOBODY_FOR_S:
                raise TrainingFailed(
                    f"{self._num_machines} machines are asked for, and {alive} workers that take "
                    "jobs of the GPU's queue are alive: start `python -m rlhf_core worker` on the "
                    "others, then start the run again."
                )
            tracker.progress(0.0, f"Waits for {missing} of {self._num_machines} machines")
            time.sleep(LOOK_EVERY_S)

    def _look(self) -> list[Machine]:
        self._looked_at = time.monotonic()
        with self._context.store.reading() as db:
            return list_machines(db, self._context.job_id, self._context.attempt)

    def _refuse_lost(self, machines: list[Machine]) -> None:
        for one in machines:
            if one.state not in (JobState.RUNNING, JobState.SUCCEEDED):
                said = one.message or one.state.value
                self._lost = f"The run lost {one.name}: {said} {AGAIN}"
                raise TrainingFailed(self._lost)


def _wait_for_call(context: JobContext) -> Meeting:
    context.tracker.progress(0.0, f"Waits for the first machine of run {context.params['run']}")
    while True:
        with context.store.reading() as db:
            meeting = get_job(db, context.job_id).params.get("meeting")
        if meeting is not None:
            return Meeting(**meeting)
        end = "Stopped on request." if context.tracker.should_stop() else _find_end(context)
        if end:
            raise TrainingFailed(end)
        time.sleep(LOOK_EVERY_S)


def _wait_for_work(folder: Path) -> None:
    deadline = time.monotonic() + SEEN_WITHIN_S
    while not (folder / WORK).exists():
        if time.monotonic() > deadline:
            raise TrainingFailed(
                f"The machine {socket.gethostname()} does not see {folder}: let RLHF_DATA_DIR be "
                "one shared folder under the same path on all machines of a run."
            )
        time.sleep(LOOK_EVERY_S)


def _find_end(context: JobContext) -> str | None:
    """Why this part has nothing to do any more; None while its run goes on."""
    try:
        with context.store.reading() as db:
            run = get_job(db, uuid.UUID(str(context.params["run"])))
    except NotFound:
        return "Its run is gone."
    except (RlhfError, sa.exc.SQLAlchemyError):
        return None  # an outage is no reason to end a training
    if run.state is JobState.RUNNING and run.attempt == context.params["attempt"]:
        return None
    return f"Its run {run.id} has ended on the first machine: the log of that run says why."


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
