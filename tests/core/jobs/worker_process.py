"""`worker_process.py EXECUTOR CHILD`: a real worker whose runs are the script CHILD."""

import logging
import sys
import uuid
from pathlib import Path

from rlhf_core.cli.output import run_command
from rlhf_core.config import get_settings
from rlhf_core.jobs.worker import Worker, run_worker
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Resource


def child_command(job_id: uuid.UUID, attempt: int) -> list[str]:
    if not Path(sys.argv[2]).exists():
        raise LookupError(f"no script {sys.argv[2]}")
    return [sys.executable, sys.argv[2], str(job_id), str(attempt)]


def tell_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def main() -> None:
    worker = Worker(
        get_store(),
        get_settings(),
        executor_id=sys.argv[1],
        resources=tuple(Resource),
        command=child_command,
    )
    run_worker(worker, exit_with_parent=True, on_ready=tell_ready)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr)
    run_command(main)
