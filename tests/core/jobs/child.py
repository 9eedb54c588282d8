"""`child.py JOB_ID ATTEMPT`: the child process of the tests, whose run does what `params` say."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from rlhf_core.errors import TrainingFailed
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.run import run_job
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import JobKind


def scripted_run(context: JobContext) -> dict[str, Any]:
    params, tracker = context.params, context.tracker
    pids = [os.getpid()]
    if params.get("spawn"):  # a grandchild in a session of its own, deaf to SIGTERM
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        pids.append(subprocess.Popen([sys.executable, "-c", code], start_new_session=True).pid)
    with (Path(params["journal"]) / str(context.job_id)).open("a") as journal:
        journal.write(" ".join(map(str, [context.attempt, *pids])) + "\n")
    tracker.log(f"attempt {context.attempt} of {context.actor.name}")
    match params.get("end"):
        case "segfault":
            sys.stdout.write("last words\n")
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGSEGV)
        case "refuse":
            raise TrainingFailed("All ratings are equal: rate some completions lower.")
        case "break":
            raise KeyError("oops")
        case "memory":
            raise MemoryError
    first_attempt_s = params.get("first_attempt_s", 0.0)
    duration_s = first_attempt_s if context.attempt == 1 else params.get("then_s", 0.0)
    checkpoint = context.work_dir / "step"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    deadline = time.monotonic() + duration_s
    while time.monotonic() < deadline:
        step += 1
        tracker.progress(0.5, f"step {step}")
        tracker.metrics(step, {"loss": 1 / step, "broken": float("nan")})
        fresh = checkpoint.with_suffix(".new")
        fresh.write_text(str(step))
        fresh.replace(checkpoint)
        if tracker.should_stop():
            return {}
        time.sleep(0.05)
    return {"message": "Trained.", "metrics": {"auc": 0.7, "odd": float("nan")}, "steps": step}


if __name__ == "__main__":
    kinds = {JobKind.TRAIN_SBERT: scripted_run}
    sys.exit(run_job(get_store(), uuid.UUID(sys.argv[1]), int(sys.argv[2]), kinds=kinds))
