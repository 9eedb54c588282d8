"""`worker`: take background jobs from the queue and run them."""

import logging
import socket
import sys

import click

from rlhf_core.cli.output import emit, json_option, say
from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput
from rlhf_core.store import migrate
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Resource


@click.command(name="worker", help="Run a worker process until it is told to end (Ctrl-C).")
@click.option(
    "--executor",
    default=f"{socket.gethostname()}:cpu",
    show_default="HOST:cpu",
    help="Name of this worker: stable, and unique among all workers around the database.",
)
@click.option(
    "--resources",
    default="cpu,gpu",
    show_default=True,
    help="Which jobs it takes, separated by commas.",
)
@click.option(
    "--devices",
    help="GPUs that its runs may use, by number or UUID (`0`, `0,1`), or `none`; default: all. "
    "One worker a GPU keeps each to one run.",
)
@click.option("--exit-with-parent", is_flag=True, help="End when stdin reaches its end.")
@json_option
def command(
    executor: str, resources: str, devices: str | None, exit_with_parent: bool, as_json: bool
) -> None:
    """Check the schema, then serve."""
    from rlhf_core.jobs.devices import parse_owned
    from rlhf_core.jobs.worker import Worker, run_worker

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    store = get_store()
    migrate.check(store)
    taken = parse_resources(resources)
    worker = Worker(
        store,
        get_settings(),
        executor_id=executor,
        resources=taken,
        owned=parse_owned(devices),
    )

    def tell_ready() -> None:
        names = ", ".join(resource.value for resource in taken)
        if as_json:
            emit({"executor_id": executor, "resources": taken}, as_json=True)
        say(f"Worker {executor} takes {names} jobs.")

    run_worker(worker, exit_with_parent=exit_with_parent, on_ready=tell_ready)


def parse_resources(text: str) -> tuple[Resource, ...]:
    """The resources of `cpu,gpu`; InvalidInput for any other word."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    known = {resource.value for resource in Resource}
    if not words or not set(words) <= known:
        raise InvalidInput(
            f"--resources {text!r}: give one or more of {', '.join(sorted(known))}.",
            field="resources",
        )
    return tuple(dict.fromkeys(Resource(word) for word in words))
