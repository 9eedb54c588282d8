"""The product's API from another program: log interactions, send feedback, rerank, chat.

Needs httpx alone. A request that got no answer, or a 429 or 503, is sent again; as each one bears
an `Idempotency-Key`, nothing is stored twice.
"""

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

RETRIED = frozenset({429, 502, 503, 504})
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
ANSWER_TIMEOUT_S = 180.0

Message = Mapping[str, str]


class ApiError(Exception):
    """The server refused. `status` is HTTP's, `kind` the server's word, `field` what is to blame.

    `status` 0: no answer came, however often it was tried.
    """

    def __init__(
        self, message: str, *, status: int = 0, kind: str = "", field: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.field = field


@dataclass(frozen=True)
class Logged:
    """A stored interaction: its id, and those of its steps in their order."""

    id: uuid.UUID
    step_ids: tuple[uuid.UUID, ...]
    was_created: bool


@dataclass(frozen=True)
class Ranked:
    """Places of the candidates, best first, and their scores in 0..1 by place (None: no score).

    `is_fallback`: no model judged, the order is the candidates' own; `reason` says why.
    """

    order: tuple[int, ...]
    scores: tuple[float | None, ...]
    is_fallback: bool
    reason: str | None
    version: str | None


@dataclass(frozen=True)
class Reply:
    """An answer of the assistant. Feedback names it by `message_id` in `chat_id`."""

    text: str
    message_id: str
    chat_id: str
    version: str


class Client:
    """One server, by its address (`http://127.0.0.1:8501`) and an API token. Safe in threads."""

    def __init__(
        self, base_url: str, token: str, *, timeout_s: float = 10.0, retries: int = 3
    ) -> None:
        self._retries = retries
        self._http = httpx.Client(
            base_url=f"{base_url.rstrip('/')}/api",
            headers={"authorization": f"Bearer {token}"},
            timeout=timeout_s,
        )

    def log_interaction(
        self, prompt: str, completion: str, *, steps: Sequence[str] = (), **fields: Any
    ) -> Logged:
        """Store a prompt and its completion; `steps` are the texts of the reasoning steps.

        `fields` are those of `POST /v1/interactions`: `source`, `external_id`, `chat_id`,
        `message_id`, `user`, `context`, `action_type`, `action_data`, `model_name`, ...
        """
        body = {
            "prompt": prompt,
            "completion": completion,
            "steps": [{"content": step} for step in steps],
            **fields,
        }
        found = self._post("/v1/interactions", body)
        ids = tuple(uuid.UUID(one) for one in found["step_ids"])
        return Logged(uuid.UUID(found["id"]), ids, found["was_created"])

    def send_feedback(self, interaction_id: uuid.UUID | str, **said: Any) -> uuid.UUID:
        """Store what somebody says of an interaction; the feedback's id.

        `said` are the fields of `POST /v1/feedback`: `thumb` (+1, 0, -1), `rating` (1 to 5),
        `label` with `step`, `aspects`, `comment`, `correction`; `rater` (an id of yours) with
        `rater_kind` `end_user` for a user of yours.
        """
        found = self._post("/v1/feedback", {"interaction_id": str(interaction_id), **said})
        return uuid.UUID(found["id"])

    def send_thumb(self, reply: Reply, *, is_good: bool) -> uuid.UUID:
        """Store an end user's thumb on an answer of `chat`; the feedback's id."""
        body = {
            "chat_id": reply.chat_id,
            "message_id": reply.message_id,
            "feedback_type": "positive" if is_good else "negative",
        }
        return uuid.UUID(self._post("/assistant/feedback", body)["id"])

    def rerank(self, query: str, candidates: Sequence[str], *, top_k: int | None = None) -> Ranked:
        """Order candidates by the promoted reward model."""
        body = {"query": query, "candidates": list(candidates), "top_k": top_k}
        found = self._post("/v1/rerank", body, is_safe=True)
        scores: list[float | None] = [None] * len(candidates)
        for place in found["ranking"]:
            scores[place["index"]] = place["score"]
        return Ranked(
            order=tuple(place["index"] for place in found["ranking"]),
            scores=tuple(scores),
            is_fallback=found["is_fallback"],
            reason=found["reason"],
            version=found["model_version"],
        )

    def chat(
        self, messages: str | Sequence[Message], *, model: str = "assistant", **options: Any
    ) -> Reply:
        """Answer a conversation by the promoted policy, or by the version that `model` names.

        `options` are those of OpenAI's chat completions, with `best_of` and `chat_id`.
        """
        body = _chat_body(messages, model, options)
        found = self._post("/v1/chat/completions", body, is_safe=True, timeout_s=ANSWER_TIMEOUT_S)
        text = found["choices"][0]["message"]["content"]
        return Reply(text, found["id"], body["chat_id"], found["model"])

    def stream_chat(
        self, messages: str | Sequence[Message], *, model: str = "assistant", **options: Any
    ) -> Iterator[Reply]:
        """The same in pieces: each reply holds the text so far. It is not tried again."""
        body = {**_chat_body(messages, model, options), "stream": True}
        text = ""
        try:
            with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != httpx.codes.OK:
                    raise _read_error(response.status_code, response.read())
                for line in response.iter_lines():
                    data = line.removeprefix("data: ")
                    if not line or data == "[DONE]":
                        continue
                    found = json.loads(data)
                    if "error" in found:
                        raise _read_error(503, data.encode())
                    for choice in found["choices"]:
                        text += choice["delta"].get("content") or ""
                    yield Reply(text, found["id"], body["chat_id"], found["model"])
        except httpx.HTTPError as error:
            raise ApiError(f"The answer broke off: {error}.") from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        is_safe: bool = False,
        timeout_s: float | None = None,
    ) -> Any:
        """The JSON answer. `is_safe`: it bears no key, as it stores nothing that matters twice.

        With a `timeout_s` of its own a request that may have arrived is not sent again.
        """
        headers = {} if is_safe else {"Idempotency-Key": uuid.uuid4().hex}
        retried = httpx.TransportError if timeout_s is None else httpx.ConnectError
        timeout: Any = httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s
        for number in range(self._retries + 1):
            is_last = number == self._retries
            pause_s = min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S)
            try:
                response = self._http.post(path, json=body, headers=headers, timeout=timeout)
            except httpx.TransportError as error:
                if is_last or not isinstance(error, retried):
                    raise ApiError(f"No answer from {self._http.base_url}: {error}.") from error
            else:
                if response.is_success:
                    return response.json()
                if is_last or response.status_code not in RETRIED:
                    raise _read_error(response.status_code, response.content)
                asked = response.headers.get("retry-after", "")
                pause_s = min(float(asked), LONGEST_PAUSE_S) if asked.isdigit() else pause_s
            time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")


def _chat_body(
    messages: str | Sequence[Message], model: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    asked = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    body = {"model": model, "messages": [dict(one) for one in asked], **options}
    body.setdefault("chat_id", uuid.uuid4().hex)
    return body


def _read_error(status: int, content: bytes) -> ApiError:
    try:
        error = json.loads(content)["error"]
        field = error.get("field") or error.get("param")
        kind = error.get("code") or error["type"]
        return ApiError(error["message"], status=status, kind=kind, field=field)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(f"The server answered {status} without a word.", status=status)
