r"""The column mapping of the format `table`: what each field of a draft is made of.

A mapping is a JSON object:

    {"source": "my_app", "file": "ratings.jsonl",
     "join": [{"file": "answers.jsonl", "on": "answer_id", "to": "id", "as": "answer"}],
     "interactions": [{"external_id": "answer_id", "prompt": "answer.question",
                       "completion": "answer.text", "extra": {"part": "part"},
                       "steps": {"each": "answer.steps", "content": "@item.text"},
                       "feedback": [{"rating": "stars", "rater": "user"},
                                    {"each": "answer.steps", "step": "@index",
                                     "label": "@item.verdict"}]}],
     "comparisons": [{"left": {"text": "{id}/a"}, "right": {"text": "{id}/b"},
                      "choice": {"path": "better", "values": {"a": "left", "b": "right"}}}]}

`source`, `file` (the file to read where a folder is given), `join` and `comparisons` may be absent.
The fields are those of `feedback.drafts`. A field's value is one of:

    "stars"                                   the column; `a.b` and `a.0` go into nested values
    {"path": "x", "values": {...}, "default": v}
                                              each value replaced (one not listed is refused);
                                              `default` where the column is empty
    {"value": v}                              always v
    {"text": "{id}/a"}                        columns put into a text; empty if one of them is
    {"join": ["a", "b"], "with": "\n"}         filled columns joined; `join` may also name a list,
                                              `item` the part of each element, `from` the first

`steps`, `feedback`, `comparisons`, `interactions` and `context` may repeat over a list or an object
with `"each": "column"`: then `@item` is the element, `@index` its number from 0 and `@key` its name
in an object. Feedback that says nothing, a comparison without a choice and an interaction without
prompt and completion inside an `each` are left out. Cells of a CSV file that are empty count as
not given, and numbers written as text are read as numbers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rlhf_core.errors import InvalidInput
from rlhf_core.feedback.drafts import (
    ComparisonDraft,
    FeedbackDraft,
    InteractionDraft,
    Message,
    StepDraft,
)

JsonValue = Any
INTERACTION_FIELDS = frozenset(InteractionDraft.model_fields) - {"source"}
FEEDBACK_FIELDS = frozenset(FeedbackDraft.model_fields)
COMPARISON_FIELDS = frozenset(ComparisonDraft.model_fields)
ONLY_FEEDBACK = FEEDBACK_FIELDS - INTERACTION_FIELDS
EXPRESSION_KEYS = {"path", "values", "default", "value", "text", "join", "with", "item", "from"}


@dataclass(frozen=True)
class Join:
    """A second file: its row whose `to` equals this row's `on` is reached as `<name>.<column>`."""

    file: str
    on: str
    to: str
    name: str


@dataclass(frozen=True)
class TableMapping:
    """A checked mapping."""

    interactions: tuple[dict[str, Any], ...] = ()
    comparisons: tuple[dict[str, Any], ...] = ()
    joins: tuple[Join, ...] = ()
    source: str | None = None
    file: str | None = None
    raw: dict[str, Any] = field(default_factory=dict)


def load_mapping(path: Path) -> TableMapping:
    """Read a mapping file.

    Raises:
        InvalidInput: it cannot be read, is no JSON, or names a field that does not exist.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"The mapping {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidInput(f"The mapping {path.name} is no JSON: {error}.") from error
    return check_mapping(data)


def mapping_of_pairs(pairs: Sequence[str], base: TableMapping | None = None) -> TableMapping:
    """The mapping of `field=column` pairs (`field:=value` for a constant), over `base`.

    Fields of feedback that an interaction does not have (rating, thumb, rater, ...) need no prefix;
    the others are written `feedback.occurred_at=rated_at`.
    """
    raw = json.loads(json.dumps(base.raw)) if base else {}
    interaction = raw.setdefault("interactions", [{}])[0]
    for pair in pairs:
        name, found, column = pair.partition("=")
        if not found or not name or not column:
            raise InvalidInput(f"--map {pair!r} is no pair: write FIELD=COLUMN, prompt=question.")
        expression: Any = column
        if name.endswith(":"):
            name, expression = name[:-1], {"value": _constant(column)}
        if name.startswith("feedback.") or name in ONLY_FEEDBACK:
            feedback = interaction.setdefault("feedback", [{}])
            feedback[0][name.removeprefix("feedback.")] = expression
        else:
            interaction[name] = expression
    return check_mapping(raw)


def check_mapping(data: JsonValue) -> TableMapping:
    """Check that a mapping can be used at all, before the first row is read.

    Raises:
        InvalidInput: the message names the place and the fields that exist.
    """
    if not isinstance(data, dict):
        raise InvalidInput("The mapping is no JSON object.")
    _check_names(
        data, {"source", "file", "join", "interactions", "comparisons"}, "mapping", expression=False
    )
    interactions = _list_of_objects(data, "interactions")
    comparisons = _list_of_objects(data, "comparisons")
    if not interactions and not comparisons:
        raise InvalidInput(
            "The mapping makes nothing: give `prompt` and `completion` a column, "
            "--map prompt=COLUMN --map completion=COLUMN."
        )
    for index, spec in enumerate(interactions):
        _check_interaction(spec, f"interactions.{index}")
    for index, spec in enumerate(comparisons):
        _check_entry(spec, COMPARISON_FIELDS, f"comparisons.{index}")
        _need(spec, ("left", "right", "choice"), f"comparisons.{index}")
    source = data.get("source")
    if source is not None and not isinstance(source, str):
        raise InvalidInput("mapping.source is no text.")
    return TableMapping(
        interactions=tuple(interactions),
        comparisons=tuple(comparisons),
        joins=tuple(_check_join(join) for join in _list_of_objects(data, "join")),
        source=source,
        file=None if data.get("file") is None else check_file_name(data["file"]),
        raw=data,
    )


def with_joined_file(mapping: TableMapping, join: Join) -> TableMapping:
    """The mapping with one more joined file."""
    entry = {"file": join.file, "on": join.on, "to": join.to, "as": join.name}
    raw = {**mapping.raw, "join": [*mapping.raw.get("join", []), entry]}
    return replace(mapping, joins=(*mapping.joins, join), raw=raw)


def check_file_name(name: JsonValue) -> str:
    """A bare file name: a mapping never reaches out of the folder of the imported file."""
    if not isinstance(name, str) or not name or Path(name).name != name or name in {".", ".."}:
        raise InvalidInput(f"{name!r} is no bare file name: put the file beside the imported one.")
    return name


def _check_join(join: dict[str, Any]) -> Join:
    _check_names(join, {"file", "on", "to", "as"}, "join", expression=False)
    _need(join, ("file", "on"), "join")
    if any(not isinstance(value, str) for value in join.values()):
        raise InvalidInput("join: file, on, to and as are texts.")
    file = check_file_name(join["file"])
    name = join.get("as", file.partition(".")[0])
    return Join(file=file, on=join["on"], to=join.get("to", join["on"]), name=name)


def _check_interaction(spec: dict[str, Any], place: str) -> None:
    _check_entry(spec, INTERACTION_FIELDS, place)
    _need(spec, ("prompt", "completion"), place)
    for index, item in enumerate(_list_of_objects(spec, "feedback")):
        _check_entry(item, FEEDBACK_FIELDS, f"{place}.feedback.{index}")
    for name, model in (("steps", StepDraft), ("context", Message)):
        part = spec.get(name)
        if isinstance(part, dict) and "each" in part:
            _check_entry(part, frozenset(model.model_fields), f"{place}.{name}")
        elif part is not None:
            _check_expression(part, f"{place}.{name}")


def _check_entry(spec: dict[str, Any], fields: frozenset[str], place: str) -> None:
    _check_names(spec, fields | {"each"}, place, expression=False)
    if not isinstance(spec.get("each", ""), str):
        raise InvalidInput(f"{place}.each is no column, but {spec['each']!r}.")
    for name, expression in spec.items():
        if name in {"steps", "context", "feedback"}:
            continue
        if name in {"extra", "action_data", "aspects"} and isinstance(expression, dict):
            for key, part in expression.items():
                _check_expression(part, f"{place}.{name}.{key}")
        else:
            _check_expression(expression, f"{place}.{name}")


def _check_expression(expression: JsonValue, place: str) -> None:
    if isinstance(expression, str):
        return
    if not isinstance(expression, dict):
        raise InvalidInput(f"{place}: a field is a column's name or an object such as {{'path'}}.")
    _check_names(expression, EXPRESSION_KEYS, place, expression=True)
    if sum(kind in expression for kind in ("path", "value", "text", "join")) != 1:
        raise InvalidInput(f"{place}: give one of path, value, text and join.")
    if not isinstance(expression.get("values", {}), dict):
        raise InvalidInput(f"{place}.values is no object.")
    for part in ("path", "text", "with", "item"):
        if not isinstance(expression.get(part, ""), str):
            raise InvalidInput(f"{place}.{part} is no text, but {expression[part]!r}.")
    joined = expression.get("join", "")
    if isinstance(joined, list):
        for index, part in enumerate(joined):
            _check_expression(part, f"{place}.join.{index}")
    elif not isinstance(joined, str):
        raise InvalidInput(f"{place}.join is no list of columns, but {joined!r}.")
    if not isinstance(expression.get("from", 0), int):
        raise InvalidInput(f"{place}.from is no whole number, but {expression['from']!r}.")


def _check_names(
    spec: Mapping[str, Any], allowed: frozenset[str] | set[str], place: str, *, expression: bool
) -> None:
    unknown = sorted(set(spec) - allowed)
    if unknown:
        what = "part of an expression" if expression else "field"
        raise InvalidInput(
            f"{place}: {unknown[0]!r} is no {what}; there are {', '.join(sorted(allowed))}."
        )


def _need(spec: Mapping[str, Any], names: Sequence[str], place: str) -> None:
    for name in names:
        if name not in spec:
            raise InvalidInput(f"{place}: {name} has no column; map it, {name}=COLUMN.")


def _list_of_objects(data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = data.get(name, [])
    if not isinstance(value, list) or any(not isinstance(item, dict) for item in value):
        raise InvalidInput(f"mapping: {name} is no list of objects.")
    return value


def _constant(text: str) -> JsonValue:
    try:
        return json.loads(text)
    except ValueError:
        return text
