"""`score`: P(good) of completions, by the promoted reward model."""

import json
from pathlib import Path

import click

from rlhf_core.cli.output import emit, json_option
from rlhf_core.errors import InvalidInput

PATIENCE_S = 120.0


@click.command(name="score", help="Score completions with the promoted reward model.")
@click.option("--prompt", help="What was asked.")
@click.option("--completion", "completions", multiple=True, help="An answer; may be repeated.")
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON lines with `prompt` and `completion`.",
)
@json_option
def command(
    prompt: str | None, completions: tuple[str, ...], path: Path | None, as_json: bool
) -> None:
    """Score the pairs in their order."""
    from rlhf_core.serving.client import InferenceClient
    from rlhf_core.serving.rerank import score_completions

    if path is not None and prompt is None and not completions:
        pairs = read_pairs(path)
    elif path is None and prompt is not None and completions:
        pairs = [(prompt, completion) for completion in completions]
    else:
        raise InvalidInput("Give --prompt with one --completion or more, or --file alone.")
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
