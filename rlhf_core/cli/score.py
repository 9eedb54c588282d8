"""`score`: P(good) of completions now, or of all stored interactions as a job."""

import json
from pathlib import Path

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, writing
from rlhf_core.cli.waiting import report_job, wait_option
from rlhf_core.errors import InvalidInput
from rlhf_core.jobs.score_interactions import enqueue_score
from rlhf_core.jobs.service import JobView
from rlhf_core.registry.service import get_version_by_number

PATIENCE_S = 120.0


@click.command(
    name="score",
    help="Score completions, or with --stored all stored interactions, with a reward model.",
)
@click.option("--prompt", help="What was asked.")
@click.option("--completion", "completions", multiple=True, help="An answer; may be repeated.")
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON lines with `prompt` and `completion`.",
)
@click.option("--stored", "is_stored", is_flag=True, help="Score what is stored, as a job.")
@click.option("--model", help="With --stored: the model; by default the promoted version.")
@click.option("--number", type=int, help="With --stored and --model: its version.")
@click.option("--again", is_flag=True, help="With --stored: also what was scored before.")
@wait_option
@json_option
def command(
    prompt: str | None,
    completions: tuple[str, ...],
    path: Path | None,
    is_stored: bool,
    model: str | None,
    number: int | None,
    again: bool,
    is_waiting: bool,
    as_json: bool,
) -> None:
    """Score the pairs in their order, or queue the scoring of what is stored."""
    if is_stored:
        if prompt is not None or completions or path is not None:
            raise InvalidInput("--stored scores what is in the database: give no texts with it.")
        job = queue_stored(model, number, only_missing=not again)
        report_job(job, is_waiting=is_waiting, as_json=as_json)
        return
    if model is not None or number is not None or again or is_waiting:
        raise InvalidInput("--model, --number, --again and --wait go with --stored only.")
    if path is not None and prompt is None and not completions:
        pairs = read_pairs(path)
    elif path is None and prompt is not None and completions:
        pairs = [(prompt, completion) for completion in completions]
    else:
        raise InvalidInput(
            "Give --prompt with one --completion or more, or --file alone, or --stored."
        )
    score_pairs(pairs, as_json=as_json)


def queue_stored(model: str | None, number: int | None, *, only_missing: bool) -> JobView:
    """Queue the scoring of the stored interactions by the named or the promoted version."""
    if (model is None) != (number is None):
        raise InvalidInput("Give --model and --number together, or neither.")
    with writing() as db:
        version_id = None
        if model is not None and number is not None:
            version_id = get_version_by_number(db, model, number, actor=SYSTEM).id
        return enqueue_score(db, actor=SYSTEM, version_id=version_id, only_missing=only_missing)


def score_pairs(pairs: list[tuple[str, str]], *, as_json: bool) -> None:
    """Print P(good) of each pair by the promoted version."""
    from rlhf_core.serving.client import InferenceClient
    from rlhf_core.serving.rerank import score_completions

    prompts, answers = zip(*pairs, strict=True)
    with InferenceClient(timeout_s=PATIENCE_S) as client:
        found = score_completions(prompts, answers, client=client)
    lines = [
        f"{'-' if score is None else format(score, '.4f')}  {completion}"
        for score, (_, completion) in zip(found.scores, pairs, strict=True)
    ]
    emit(found, as_json=as_json, text="\n".join([f"P(good) by {found.version}:", *lines]))


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """The (prompt, completion) pairs of a JSON lines file. InvalidInput names the bad line."""
    pairs = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            pair = (row["prompt"], row["completion"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{path}, line {number}: no JSON object with `prompt` and `completion`."
            ) from error
        if not all(isinstance(text, str) for text in pair):
            raise InvalidInput(f"{path}, line {number}: prompt and completion must be texts.")
        pairs.append(pair)
    if not pairs:
        raise InvalidInput(f"{path} has no line to score.")
    return pairs
