"""What every command shares: `--json`, messages on stderr, one sentence on our errors."""

import dataclasses
import json
import sys
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import click
from sqlalchemy.orm import Session

from rlhf_core.store import migrate
from rlhf_core.store.engine import get_store

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout."
)


def emit(data: Any, *, as_json: bool, text: str | None = None) -> None:
    """Print the result: one JSON document, or `text` (default: the JSON, indented)."""
    if as_json:
        click.echo(json.dumps(data, default=to_json, ensure_ascii=False))
    else:
        shown = json.dumps(data, default=to_json, ensure_ascii=False, indent=2)
        click.echo(shown if text is None else text)


def say(message: str) -> None:
    """Print a message for people on stderr."""
    click.echo(message, err=True)


def reading() -> AbstractContextManager[Session]:
    """A reading session on a database whose schema was checked."""
    migrate.check(get_store())
    return get_store().reading()


def writing() -> AbstractContextManager[Session]:
    """One writing transaction on a database whose schema was checked."""
    migrate.check(get_store())
    return get_store().writing()


def to_json(value: Any) -> Any:
    """Plain JSON of what services return: dataclasses, ids, moments, enums, paths."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, uuid.UUID | Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def run_command(command: Callable[[], Any]) -> None:
    """Run the command line; turn our errors into one sentence and exit code 1."""
    from rlhf_core.errors import RlhfError

    try:
        command()
    except RlhfError as error:
        say(f"Error: {error}")
        sys.exit(1)
