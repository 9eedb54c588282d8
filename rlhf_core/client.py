"""The product's API from another program: log interactions, send feedback, rerank, chat.

Needs httpx alone. A request that got no answer, or a 429 or 503, is sent again; as each one bears
an `Idempotency-Key`, nothing is stored twice.
"""

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self, TypedDict, Unpack

import httpx

RETRIED = frozenset({429, 502, 503, 504})
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
ANSWER_TIMEOUT_S = 180.0
RERANK_TIMEOUT_S = 2.0

Message = Mapping[str, str]


class InteractionFields(TypedDict, total=False):
    """What else may be known of an interaction.

    `source` and `external_id` identify it, or chat, message and text do. `user` is an id of yours,
    kept as a pseudonym. `served_id` is the `id` of the `Ranked` whose candidate the completion is:
    what is said of the interaction is then credited to the version that ranked.
    """

    source: str
    external_id: str
    chat_id: str
    message_id: str
    turn: int
    user: str
    context: Sequence[Message]
    action_type: str
    action_data: Mapping[str, Any]
    model_name: str
    served_id: uuid.UUID | str | None
    language: str
    occurred_at: datetime | str
    extra: Mapping[str, Any]
    feedback: Sequence["Said"]


class Said(TypedDict, total=False):
    """What somebody says of a completion, or with `step` (its place from 0) of a step.

    `thumb` and, of a step, `label`: 1, 0 or -1; `rating` and those of `aspects`: 1 to 5. `rater` is
    an id of yours, kept as a pseudonym; with `rater_kind` "end_user" and no `rater` it is the user
    of the interaction.
    """

    thumb: Literal[-1, 0, 1]
    rating: Literal[1, 2, 3, 4, 5]
    label: Literal[-1, 0, 1]
    step: int
    step_id: uuid.UUID | str
    comment: str
    correction: str
    aspects: Mapping[str, int]
    spans: Sequence[Mapping[str, Any]]
    rater: str
    rater_kind: Literal["sme", "end_user", "model"]
    occasion: int
    duration_s: float
    external_id: str
    queue_id: uuid.UUID | str
    occurred_at: datetime | str
    extra: Mapping[str, Any]


class ChatOptions(TypedDict, total=False):
    """How to answer: those of OpenAI's chat completions, and two of this product.

    `best_of`: as many answers, of which the reward model takes the best. `user`: an id of yours,
    who gets the same version throughout a canary.
    """

    chat_id: str
    user: str
    best_of: int
    max_tokens: int
    temperature: float
    top_p: float
    stop: str | Sequence[str]
    seed: int
    store: bool


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

    `is_fallback`: no model judged, the order is the candidates' own; `reason` says why. `id` is for
    `choose` and `served_id`; None where no model judged.
    """

    order: tuple[int, ...]
    scores: tuple[float | None, ...]
    is_fallback: bool
    reason: str | None
    version: str | None
    id: uuid.UUID | None = None

    @property
    def best(self) -> int:
        """The place of the best candidate."""
        return self.order[0]


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
        self,
        prompt: str,
        completion: str,
        *,
        steps: Sequence[str] = (),
        **fields: Unpack[InteractionFields],
    ) -> Logged:
        """Store a prompt and its completion; `steps` are the texts of the reasoning steps.

        Without an `external_id` or a `message_id` each call is an interaction of its own: two users
        may get the same answer to the same question.
        """
        body = {
            "prompt": prompt,
            "completion": completion,
            "steps": [{"content": step} for step in steps],
            **fields,
        }
        if body.get("served_id") is None:
            body.pop("served_id", None)
        if "message_id" not in body:
            body.setdefault("external_id", uuid.uuid4().hex)
        found = self._post("/v1/interactions", body)
        ids = tuple(uuid.UUID(one) for one in found["step_ids"])
        return Logged(uuid.UUID(found["id"]), ids, found["was_created"])

    def send_feedback(self, interaction_id: uuid.UUID | str, **said: Unpack[Said]) -> uuid.UUID:
        """Store what somebody says of an interaction; the feedback's id."""
        found = self._post("/v1/feedback", {"interaction_id": interaction_id, **said})
        return uuid.UUID(found["id"])

    def send_thumb(self, reply: Reply, *, is_good: bool) -> uuid.UUID:
        """Store an end user's thumb on an answer of `chat`; the feedback's id."""
        body = {
            "chat_id": reply.chat_id,
            "message_id": reply.message_id,
            "feedback_type": "positive" if is_good else "negative",
        }
        return uuid.UUID(self._post("/assistant/feedback", body)["id"])

    def rerank(
        self,
        query: str,
        candidates: Sequence[str],
        *,
        top_k: int | None = None,
        user: str | None = None,
    ) -> Ranked:
        """Order candidates by the reward model; `user` is an id of yours.

        A server that is away, too slow (2 s) or too busy is no error: the candidates keep their
        order, and `reason` says why. Raises ApiError for what the server refuses.
        """
        body: dict[str, Any] = {"query": query, "candidates": list(candidates), "top_k": top_k}
        if user is not None:
            body["user"] = user
        try:
            found = self._post(
                "/v1/rerank", body, is_safe=True, timeout_s=RERANK_TIMEOUT_S, retries=0
            )
        except ApiError as error:
            is_refused = 0 < error.status < httpx.codes.INTERNAL_SERVER_ERROR
            if is_refused and error.status not in RETRIED:
                raise
            order = tuple(range(len(candidates)))[:top_k]
            return Ranked(order, (None,) * len(candidates), True, str(error), None)
        scores: list[float | None] = [None] * len(candidates)
        for place in found["ranking"]:
            scores[place["index"]] = place["score"]
        return Ranked(
            order=tuple(place["index"] for place in found["ranking"]),
            scores=tuple(scores),
            is_fallback=found["is_fallback"],
            reason=found["reason"],
            version=found["model_version"],
            id=None if found["is_fallback"] else uuid.UUID(found["id"]),
        )

    def choose(self, ranked: Ranked, index: int) -> None:
        """Say which candidate (its place in the request) of a rerank was used in the end.

        Nothing is sent where no model judged.
        """
        if ranked.id is not None:
            self._post(f"/v1/rerank/{ranked.id}/choice", {"index": index})

    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        model: str = "assistant",
        **options: Unpack[ChatOptions],
    ) -> Reply:
        """Answer a conversation by what serves, or by the version that `model` names."""
        body = _chat_body(messages, model, options)
        found = self._post("/v1/chat/completions", body, is_safe=True, timeout_s=ANSWER_TIMEOUT_S)
        text = found["choices"][0]["message"]["content"]
        return Reply(text, found["id"], body["chat_id"], found["model"])

    def stream_chat(
        self,
        messages: str | Sequence[Message],
        *,
        model: str = "assistant",
        **options: Unpack[ChatOptions],
    ) -> Iterator[Reply]:
        """The same in pieces: each reply holds the text so far. It is not tried again."""
        body = {**_chat_body(messages, model, options), "stream": True}
        text = ""
        try:
            with self._http.stream(
                "POST", "/v1/chat/completions", json=body, timeout=ANSWER_TIMEOUT_S
            ) as response:
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
        retries: int | None = None,
    ) -> Any:
        """The JSON answer. `is_safe`: it bears no key, as it stores nothing that matters twice.

        With a `timeout_s` of its own a request that may have arrived is not sent again.
        """
        headers = {"content-type": "application/json"}
        headers |= {} if is_safe else {"Idempotency-Key": uuid.uuid4().hex}
        content = json.dumps(body, default=_as_json)
        retries = self._retries if retries is None else retries
        retried = httpx.TransportError if timeout_s is None else httpx.ConnectError
        timeout: Any = httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s
        for number in range(retries + 1):
            is_last = number == retries
            pause_s = min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S)
            try:
                response = self._http.post(path, content=content, headers=headers, timeout=timeout)
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


def _as_json(value: Any) -> str:
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} {value!r} is no JSON value; send text or numbers.")


def _read_error(status: int, content: bytes) -> ApiError:
    try:
        error = json.loads(content)["error"]
        field = error.get("field") or error.get("param")
        kind = error.get("code") or error["type"]
        return ApiError(error["message"], status=status, kind=kind, field=field)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(f"The server answered {status} without a word.", status=status)
