"""`models add-remote`: a policy that another server holds becomes a version."""

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, reading, writing
from rlhf_core.jobs.train_policy import check_model_name
from rlhf_core.registry.service import POLICY_MODEL
from rlhf_core.serving.remote import KEY_PREFIX, RemoteSource, RemoteSpec, register_remote


@click.command(
    name="add-remote",
    help="Register a model of another server (vLLM, a hosted one) as a version: it is promoted, "
    "tried out and rolled back as any other.",
)
@click.option("--base-url", required=True, help="Its OpenAI-compatible API: http(s)://<host>/v1.")
@click.option("--model", "remote_model", required=True, help="What that server calls the model.")
@click.option("--name", "model_name", default=POLICY_MODEL, show_default=True, help="Model name.")
@click.option(
    "--api-key-env",
    metavar="VARIABLE",
    help=f"Environment variable with its key, which begins with {KEY_PREFIX}; the key itself is "
    "never stored, and must be set for the inference process.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=float,
    default=60.0,
    show_default=True,
    help="Longest wait, in seconds, for each piece of an answer.",
)
@click.option("--untested", is_flag=True, help="Register it without asking the server first.")
@json_option
def add_remote(
    base_url: str,
    remote_model: str,
    model_name: str,
    api_key_env: str | None,
    timeout_s: float,
    untested: bool,
    as_json: bool,
) -> None:
    """Ask the server for a word, then register it."""
    spec = RemoteSpec(base_url, remote_model, api_key_env, timeout_s)
    with reading() as db:
        check_model_name(db, model_name)
    if not untested:
        RemoteSource(spec, name=remote_model).try_out()
    with writing() as db:
        version = register_remote(db, spec, actor=SYSTEM, model_name=model_name)
    emit(version, as_json=as_json, text=f"{version.name} answers through {base_url}.")
