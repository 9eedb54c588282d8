"""`inference`: the process that scores and reranks."""

import logging
import sys

import click

from rlhf_core.cli.output import emit, json_option, say
from rlhf_core.config import get_settings
from rlhf_core.store import migrate
from rlhf_core.store.engine import get_store


@click.command(name="inference", help="Run the inference process until it is told to end (Ctrl-C).")
@click.option("--exit-with-parent", is_flag=True, help="End when stdin reaches its end.")
@json_option
def command(exit_with_parent: bool, as_json: bool) -> None:
    """Check the schema, then serve on the loopback address."""
    from rlhf_core.serving.inference import run_inference

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    settings = get_settings()
    store = get_store()
    migrate.check(store)

    def tell_ready() -> None:
        if as_json:
            emit({"port": settings.inference_port}, as_json=True)
        say(f"Inference process on 127.0.0.1:{settings.inference_port}.")

    run_inference(store, settings, exit_with_parent=exit_with_parent, on_ready=tell_ready)
