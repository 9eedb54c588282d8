"""The format `openai-chat`: `{"messages": [{"role", "content"}, ...], "metadata": {...}}`.

The last message is the completion, the user's message nearest before it the prompt, what lies
before that the context. Messages between prompt and completion (tool calls and their results) are
reasoning steps; without any, the texts of the metadata's list `steps`. Of the metadata, fields of
an interaction are taken as such, `rating`, `thumb`, `comment` and `rater` as feedback, `id` as
`external_id` and `model` as `model_name`; the rest goes into `extra`.
"""

import json
from typing import Any

from rlhf_core.errors import InvalidInput
from rlhf_core.feedback.drafts import InteractionDraft
from rlhf_core.interchange.bundle import Bundle

OTHER_NAMES = {"id": "external_id", "model": "model_name"}
TAKEN = frozenset(InteractionDraft.model_fields) - {
    "prompt", "completion", "context", "steps", "extra", "feedback",
}  # fmt: skip
FEEDBACK = ("rating", "thumb", "comment", "rater")


class OpenAiChatParser:
    """Rows with `messages`. `source` stands in where none is named; `forced` replaces it always."""

    def __init__(self, *, source: str, forced: bool) -> None:
        self._source = source
        self._forced = forced

    def __call__(self, row: dict[str, Any]) -> Bundle:
        """The interaction of a row.

        Raises:
            InvalidInput: no messages, no user's message before the last, or no text in it.
            pydantic.ValidationError: a field breaks a rule.
        """
        messages = row.get("messages")
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            raise InvalidInput("messages: is no list of messages", field="messages")
        if not messages or messages[-1].get("role") != "assistant":
            raise InvalidInput("messages: the last one is not the assistant's", field="messages")
        asked = [n for n, message in enumerate(messages) if message.get("role") == "user"]
        if not asked:
            raise InvalidInput("messages: there is none of the user", field="messages")
        at = asked[-1]
        data = self._metadata(row)
        data["prompt"] = _content(messages[at], at)
        data["completion"] = _content(messages[-1], len(messages) - 1)
        if at:
            data["context"] = [
                {"role": message.get("role"), "content": _content(message, n)}
                for n, message in enumerate(messages[:at])
            ]
        between = list(enumerate(messages))[at + 1 : -1]
        if between:
            data["steps"] = [
                {"kind": message.get("role"), "content": _content(message, n)}
                for n, message in between
            ]
        source = self._source if self._forced else data.get("source", self._source)
        draft = InteractionDraft.model_validate({**data, "source": source})
        bundle = Bundle()
        bundle.add_interaction(draft.source, draft)
        return bundle

    def _metadata(self, row: dict[str, Any]) -> dict[str, Any]:
        metadata = row.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise InvalidInput("metadata: is no object", field="metadata")
        data: dict[str, Any] = {}
        feedback: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for name, value in metadata.items():
            field = OTHER_NAMES.get(name, name)
            if field in TAKEN:
                data[field] = str(value) if field == "external_id" and value is not None else value
            elif name in FEEDBACK:
                feedback[name] = value
            elif name == "steps" and isinstance(value, list):
                data["steps"] = [{"content": step} for step in value]
            elif name == "extra" and isinstance(value, dict):
                extra.update(value)
            else:
                extra[name] = value
        if extra:
            data["extra"] = extra
        if any(feedback.get(name) is not None for name in FEEDBACK[:-1]):
            data["feedback"] = [feedback]
        return data


def _content(message: dict[str, Any], number: int) -> Any:
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return json.dumps(message["tool_calls"], ensure_ascii=False)
    if not isinstance(content, list):
        return "" if content is None else content
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, dict) else part
            raise InvalidInput(
                f"messages.{number}: has a part of the type {kind!r}; only texts can be stored",
                field="messages",
            )
        texts.append(str(part.get("text", "")))
    return "\n".join(texts)
