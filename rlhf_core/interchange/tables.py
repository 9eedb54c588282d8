"""Rows of a table into drafts, as a mapping says (see `mapping`)."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rlhf_core.errors import InvalidInput
from rlhf_core.feedback.drafts import ComparisonDraft, InteractionDraft
from rlhf_core.interchange.bundle import Bundle
from rlhf_core.interchange.mapping import TableMapping

WHOLE = {"rating", "thumb", "label", "occasion", "step", "turn", "strength"}
NUMBERS = {"duration_s"}
OBJECTS = {"extra", "action_data", "aspects"}
SIGNS = {
    "up": 1, "positive": 1, "good": 1, "yes": 1, "true": 1, "thumbs_up": 1, "like": 1,
    "neutral": 0,
    "down": -1, "negative": -1, "bad": -1, "no": -1, "false": -1, "thumbs_down": -1, "dislike": -1,
}  # fmt: skip
SAYS = ("thumb", "rating", "label", "comment", "correction", "aspects", "spans")
_WHOLE_NUMBER = re.compile(r"\s*([+-]?\d{1,18})(?:\.0*)?\s*")
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
MISSING = object()


@dataclass(slots=True)
class Scope:
    """What an expression sees: the row and, inside an `each`, the element."""

    row: dict[str, Any]
    item: Any = None
    index: int | None = None
    key: str | None = None


Expression = Callable[[Scope], Any]
Entry = Callable[[Scope], dict[str, Any]]


class TableParser:
    """A mapping made ready: call it with a row, get what the row says."""

    def __init__(self, mapping: TableMapping, *, source: str) -> None:
        self._source = source
        self._interactions = [
            (spec.get("each"), _compile_interaction(spec)) for spec in mapping.interactions
        ]
        self._comparisons = [(spec.get("each"), _compile(spec)) for spec in mapping.comparisons]

    def __call__(self, row: dict[str, Any]) -> Bundle:
        """The drafts of one row.

        Raises:
            InvalidInput: a column holds a value that the mapping does not list.
            pydantic.ValidationError: a draft breaks a rule.
        """
        bundle = Bundle()
        whole = Scope(row)
        for each, make in self._interactions:
            for scope in _scopes(whole, each):
                data = make(scope)
                if each and not data["prompt"] and not data["completion"]:
                    continue
                data["source"] = self._source
                bundle.add_interaction(self._source, InteractionDraft.model_validate(data))
        for each, make in self._comparisons:
            for scope in _scopes(whole, each):
                data = make(scope)
                if data.get("choice") is not None:
                    draft = ComparisonDraft.model_validate(data)
                    bundle.add_comparison(self._source, draft)
        return bundle


def _compile_interaction(spec: dict[str, Any]) -> Entry:
    plain = _compile({k: v for k, v in spec.items() if k not in {"steps", "context", "feedback"}})
    lists = {name: _compile_list(spec[name]) for name in ("steps", "context") if spec.get(name)}
    feedback = [(entry.get("each"), _compile(entry)) for entry in spec.get("feedback", [])]

    def make(scope: Scope) -> dict[str, Any]:
        data = plain(scope)
        data.setdefault("prompt", "")  # refused as empty, not as missing
        data.setdefault("completion", "")  # an empty cell is an empty completion
        for name, expression in lists.items():
            value = expression(scope)
            if value is not None:
                data[name] = value
        said = [entry(inner) for each, entry in feedback for inner in _scopes(scope, each)]
        data["feedback"] = [item for item in said if _says_something(item)]
        return data

    return make


def _says_something(item: dict[str, Any]) -> bool:
    return any(item.get(name) not in (None, {}, []) for name in SAYS)


def _compile(spec: dict[str, Any]) -> Entry:
    parts = [
        (name, _compile_field(name, expression))
        for name, expression in spec.items()
        if name != "each"
    ]

    def make(scope: Scope) -> dict[str, Any]:
        data = {}
        for name, expression in parts:
            value = expression(scope)
            if value is not None:
                data[name] = value
        return data

    return make


def _compile_field(name: str, expression: Any) -> Expression:
    if name in OBJECTS and isinstance(expression, dict):
        return _compile_object(expression, _to_whole if name == "aspects" else _as_is)
    read = _compile_expression(expression)
    if name in {"thumb", "label"}:
        return lambda scope: _to_sign(read(scope))
    if name in WHOLE:
        return lambda scope: _to_whole(read(scope))
    if name in NUMBERS:
        return lambda scope: _to_number(read(scope))
    if name in OBJECTS or name == "spans":
        return lambda scope: _to_json(read(scope), name)
    return lambda scope: _to_text(read(scope))


def _compile_object(spec: dict[str, Any], convert: Callable[[Any], Any]) -> Expression:
    parts = [(name, _compile_expression(expression)) for name, expression in spec.items()]

    def read(scope: Scope) -> dict[str, Any] | None:
        values = ((name, convert(expression(scope))) for name, expression in parts)
        return {name: value for name, value in values if value is not None} or None

    return read


def _compile_list(spec: Any) -> Expression:
    if isinstance(spec, dict) and "each" in spec:
        entry = _compile(spec)
        return lambda scope: [entry(inner) for inner in _scopes(scope, spec["each"])]
    read = _compile_expression(spec)

    def read_list(scope: Scope) -> Any:
        value = _to_json(read(scope), "list")
        if isinstance(value, list):
            return [{"content": item} if isinstance(item, str) else item for item in value]
        return value

    return read_list


def _compile_expression(expression: Any) -> Expression:
    if isinstance(expression, str):
        return _compile_path(expression)
    if "value" in expression:
        constant = expression["value"]
        return lambda _scope: constant
    if "text" in expression:
        return _compile_template(expression["text"])
    if "join" in expression:
        return _compile_join(expression)
    read, place = _compile_path(expression["path"]), expression["path"]
    values, default = expression.get("values"), expression.get("default")

    def read_mapped(scope: Scope) -> Any:
        value = read(scope)
        if value is None:
            return default
        if values is None:
            return value
        name = value if isinstance(value, str) else json.dumps(value)
        if name not in values:
            known = ", ".join(values)
            raise InvalidInput(f"{place}: {name[:60]!r} is none of {known}", field=place)
        return values[name]

    return read_mapped


def _compile_path(path: str) -> Expression:
    if path == "@index":
        return lambda scope: scope.index
    if path == "@key":
        return lambda scope: scope.key
    parts = path.split(".")
    if parts[0] == "@item":
        return lambda scope: _descend(scope.item, parts[1:])

    def read(scope: Scope) -> Any:
        value = scope.row.get(path, MISSING)
        return _descend(scope.row, parts) if value is MISSING else value

    return read


def _descend(value: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _compile_template(template: str) -> Expression:
    # `split` by a pattern with one group gives text, column, text, column, ..., text
    pieces = _PLACEHOLDER.split(template)
    texts, reads = pieces[::2], [_compile_path(name) for name in pieces[1::2]]

    def fill(scope: Scope) -> str | None:
        filled = [texts[0]]
        for read, text in zip(reads, texts[1:], strict=True):
            value = _to_text(read(scope))
            if value is None:
                return None
            filled += [str(value), text]
        return "".join(filled)

    return fill


def _compile_join(spec: dict[str, Any]) -> Expression:
    glue, item, start = spec.get("with", "\n"), spec.get("item"), spec.get("from", 0)
    if isinstance(spec["join"], list):
        reads = [_compile_expression(part) for part in spec["join"]]
        return lambda scope: glue.join(
            str(value) for read in reads if (value := read(scope)) not in (None, "")
        )
    read_list = _compile_path(spec["join"])
    parts = item.split(".") if item else []

    def join(scope: Scope) -> Any:
        values = read_list(scope)
        if values is None:
            return None
        if not isinstance(values, list):
            raise InvalidInput(f"{spec['join']}: is no list", field=spec["join"])
        texts = (_descend(value, parts) for value in values[start:])
        return glue.join(str(text) for text in texts if text is not None)

    return join


def _scopes(scope: Scope, each: str | None) -> Iterator[Scope]:
    if each is None:
        yield scope
        return
    values = _to_json(_compile_path(each)(scope), each)
    if isinstance(values, dict):
        for index, (key, value) in enumerate(values.items()):
            yield Scope(scope.row, value, index, str(key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield Scope(scope.row, value, index)
    elif values is not None:
        raise InvalidInput(f"{each}: is neither a list nor an object", field=each)


def _as_is(value: Any) -> Any:
    return value


def _to_text(value: Any) -> Any:
    """Ids are often numbers in a table: 17 and 17.0 are the id "17"."""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int) else value


def _to_whole(value: Any) -> Any:
    if isinstance(value, str) and (match := _WHOLE_NUMBER.fullmatch(value)):
        return int(match[1])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _to_sign(value: Any) -> Any:
    if isinstance(value, bool):
        return 1 if value else -1
    if isinstance(value, str) and value.strip().lower() in SIGNS:
        return SIGNS[value.strip().lower()]
    return _to_whole(value)


def _to_number(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _to_json(value: Any, place: str) -> Any:
    """A CSV cell can hold a list or an object only as JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as error:
            raise InvalidInput(f"{place}: is no JSON ({error})", field=place) from error
    return value
