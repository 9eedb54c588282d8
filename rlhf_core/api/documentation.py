"""The OpenAPI document as one plain page: it works offline and under the strictest policy."""

import html
import json
import re
from typing import Any

from rlhf_core.api.html import render_page


def render_documentation(schema: dict[str, Any]) -> str:
    """Each route with its permission, parameters, fields and answers, then the named types."""
    info = schema["info"]
    routes = [
        _render_operation(path, method, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    types = [
        _render_type(name, definition)
        for name, definition in schema["components"]["schemas"].items()
        if not name.startswith(("HTTPValidationError", "ValidationError"))
    ]
    body = (
        f'<main class="page"><h1>{_text(info["title"])}</h1>'
        f'<p class="soft">{_prose(info["description"])}</p>'
        '<p><a href="openapi.json">OpenAPI document</a></p>'
        f"<h2>Routes</h2>{''.join(routes)}<h2>Types</h2>{''.join(types)}</main>"
    )
    return render_page(info["title"], body)


def _render_operation(path: str, method: str, operation: dict[str, Any]) -> str:
    permission = operation.get("x-permission")
    needs = f"Needs the scope <code>{_text(permission)}</code>. " if permission else ""
    if "security" not in operation:
        needs = "Open to everybody. "
    fields = [
        (item["name"], item["in"], item.get("required", False), item["schema"], item)
        for item in operation.get("parameters", [])
    ]
    content = operation.get("requestBody", {}).get("content", {})
    sends = "".join(
        f"<p>Body: {_type_name(media['schema'])} as <code>{_text(kind)}</code></p>"
        for kind, media in content.items()
    )
    rows = "".join(
        f"<tr><td><code>{_text(name)}</code></td><td>{_text(place)}"
        f"{', required' if required else ''}</td><td>{_type_name(kind)}</td>"
        f"<td>{_prose(item.get('description', kind.get('description', '')))}</td></tr>"
        for name, place, required, kind, item in fields
    )
    answers = "".join(
        f"<tr><td><code>{_text(status)}</code></td><td>{_answer_type(answer)}</td>"
        f"<td>{_text(answer['description'])}</td></tr>"
        for status, answer in sorted(operation["responses"].items())
    )
    head = f'<span class="verb">{_text(method.upper())}</span><code>/api{_text(path)}</code>'
    table = f"<table><tbody>{rows}</tbody></table>" if rows else ""
    return (
        f'<section class="card route"><h3>{head}</h3>'
        f"<div>{needs}{_prose(operation.get('description', ''))}</div>{sends}{table}"
        f"<table><tbody>{answers}</tbody></table></section>"
    )


def _render_type(name: str, definition: dict[str, Any]) -> str:
    required = set(definition.get("required", []))
    rows = "".join(
        f"<tr><td><code>{_text(field)}</code></td>"
        f"<td>{'required' if field in required else ''}</td>"
        f"<td>{_type_name(kind)}</td><td>{_limits(kind)}</td></tr>"
        for field, kind in definition.get("properties", {}).items()
    )
    values = ", ".join(f"<code>{_text(value)}</code>" for value in definition.get("enum", []))
    return (
        f'<section class="card route" id="{_text(name)}"><h3>{_text(name)}</h3>'
        f"<div>{_prose(definition.get('description', ''))} {values}</div>"
        f"<table><tbody>{rows}</tbody></table></section>"
    )


def _type_name(kind: dict[str, Any]) -> str:
    if "$ref" in kind:
        name = _text(kind["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#{name}">{name}</a>'
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in kind:
            return " or ".join(_type_name(option) for option in kind[choice])
    if kind.get("type") == "array":
        return f"list of {_type_name(kind.get('items', {}))}"
    if "enum" in kind:
        return ", ".join(f"<code>{_text(value)}</code>" for value in kind["enum"])
    return _text(kind.get("format") or kind.get("type") or "any")


def _answer_type(answer: dict[str, Any]) -> str:
    content = answer.get("content", {})
    return " or ".join(
        _type_name(media["schema"]) for media in content.values() if "schema" in media
    )


def _limits(kind: dict[str, Any]) -> str:
    options = [kind, *kind.get("anyOf", [])]
    names = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "default")
    found = {name: option[name] for option in options for name in names if name in option}
    return _text(", ".join(f"{name} {json.dumps(value)}" for name, value in found.items()))


def _text(value: object) -> str:
    return html.escape(str(value))


def _prose(value: object) -> str:
    """Text in which `marks` set code, and an empty line begins a paragraph."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(value))
    return marked.replace("\n\n", "<br><br>")
