"""`rerank`: candidates in the order of the promoted reward model."""

import json
from pathlib import Path
from typing import Any

import click

from rlhf_core.cli.output import emit, json_option, say
from rlhf_core.errors import InvalidInput


@click.command(name="rerank", help="Rerank candidates with the promoted reward model.")
@click.option("--query", required=True, help="What was asked.")
@click.option("--candidate", "candidates", multiple=True, help="An answer; repeat it.")
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="One candidate a line; in a .jsonl file each a JSON text or an object with `text`.",
)
@click.option("--top-k", type=click.IntRange(min=1), help="How many to return.")
@json_option
def command(
    query: str, candidates: tuple[str, ...], path: Path | None, top_k: int | None, as_json: bool
) -> None:
    """Print the best first. Without a model the order stays, and a message says so."""
    from rlhf_core.serving.rerank import rerank_candidates

    if (path is None) == (not candidates):
        raise InvalidInput("Give candidates either by --candidate or by --file.")
    given = list(candidates) if path is None else read_candidates(path)
    found = rerank_candidates(query, given, top_k=top_k)
    if found.is_fallback:
        say(f"Original order: {found.reason}")
    lines = [_line(found.scores[index], given[index]) for index in found.ranking]
    emit(found, as_json=as_json, text="\n".join(lines))


def read_candidates(path: Path) -> list[Any]:
    """The candidates of a file, one a line."""
    lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    if path.suffix != ".jsonl":
        return [line.decode("utf-8", "replace") for line in lines]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise InvalidInput(f"{path} is no JSON lines file: {error}.") from error


def _line(score: float | None, candidate: Any) -> str:
    text = candidate.get("text", "") if isinstance(candidate, dict) else candidate
    return f"{'-' if score is None else format(score, '.4f')}  {text}"
