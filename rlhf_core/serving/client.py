"""The way to the inference process: quick, and never worse than the original order."""

import hashlib
import hmac
import json
import math
import ssl
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from rlhf_core.config import get_settings
from rlhf_core.encoder.model import clean_text
from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.registry.service import REWARD_MODEL
from rlhf_core.serving.logbook import Logbook
from rlhf_core.serving.ranking import Ranking, Scores, keep_order, name_key

SECRET_HEADER = "x-rlhf-inference"  # noqa: S105 - the header's name
CONNECT_TIMEOUT_S = 0.5
HEALTH_TIMEOUT_S = 1.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
NONSENSE = "The inference process gave an answer that makes no sense."


@dataclass(frozen=True)
class DeploymentHealth:
    """The deployment of a model that gets traffic now, as the inference process sees it.

    `canary` is the treatment's version. `problem` says why one that runs gets no traffic.
    """

    deployment_id: uuid.UUID | None = None
    canary: str | None = None
    traffic_percent: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class InferenceHealth:
    """What the inference process says of itself; `problem` is a sentence for people.

    `version` is the reward model that serves, `policy` what answers conversations; `deployments`
    by name of the model.
    """

    is_running: bool
    is_ready: bool
    version: str | None = None
    version_id: uuid.UUID | None = None
    problem: str | None = None
    policy: str | None = None
    policy_problem: str | None = None
    deployments: Mapping[str, DeploymentHealth] = field(default_factory=dict)


class NotRunning(Unavailable):
    """Nothing listens on the inference port."""


class BrokeOff(Unavailable):
    """The process was asked, and went away before it answered."""


class Ended(NotRunning, BrokeOff):
    """The same, and it has not come back."""


class InferenceClient:
    """Asks the inference process of this machine. Safe in threads; keeps its connections open.

    With a `logbook` it takes down the answers that it had to give itself, for want of a process.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        timeout_s: float | None = None,
        logbook: Logbook | None = None,
    ) -> None:
        settings = get_settings()
        self.timeout_s = settings.inference_timeout_s if timeout_s is None else timeout_s
        self._logbook = logbook
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port or settings.inference_port}",
            headers={SECRET_HEADER: derive_secret(settings.read_secret_key())},
            trust_env=False,  # no proxy of the environment between this machine and itself
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # no TLS here: read no authorities
        )

    def rerank(
        self,
        prompt: str,
        candidates: Sequence[str],
        *,
        top_k: int | None = None,
        user: str | None = None,
        served_id: uuid.UUID | None = None,
    ) -> Ranking:
        """Order candidates by the promoted reward model, or as a deployment says, best first.

        `user` is a pseudonym, which keeps to its side of a deployment; the row of the served log
        gets `served_id`. No process, no model, a broken or slow one: the original order, flagged.
        Raises InvalidInput for what is no text or a `top_k` below 1.
        """
        started = time.perf_counter()
        try:
            return self.request_ranking(
                prompt, candidates, top_k=top_k, user=user, served_id=served_id
            )
        except Unavailable as error:
            fallback = keep_order(len(candidates), str(error), top_k=top_k)
            is_crash = isinstance(error, BrokeOff)
        if self._logbook is not None:
            # The process took what it knew along: a version that ends it is to blame all the same.
            key = name_key(user, served_id)
            route = self._logbook.find_route(REWARD_MODEL, key) if is_crash else None
            self._logbook.note(
                "rerank",
                num_candidates=len(candidates),
                latency_ms=(time.perf_counter() - started) * 1000,
                version_id=None if route is None else route.version_id,
                route=route,
                user_pseudonym=user,
                is_fallback=True,
                is_error=True,
                reason=fallback.reason,
                served_id=served_id,
            )
        return fallback

    def request_ranking(
        self,
        prompt: str,
        candidates: Sequence[str],
        *,
        top_k: int | None = None,
        user: str | None = None,
        served_id: uuid.UUID | None = None,
    ) -> Ranking:
        """What the process answers. Raises Unavailable where `rerank` falls back."""
        if top_k is not None and top_k < 1:
            raise InvalidInput(f"top_k is {top_k}: choose 1 or more.", field="top_k")
        texts = [clean_text(text) for text in candidates]
        body = {
            "prompt": clean_text(prompt),
            "candidates": texts,
            "top_k": top_k,
            "user": user,
            "served_id": None if served_id is None else str(served_id),
        }
        return _read_ranking(self._send("POST", "/rerank", body), len(texts), top_k)

    def score(self, prompts: Sequence[str], completions: Sequence[str]) -> Scores:
        """P(good) of each pair. Raises Unavailable where the model does not answer in time."""
        if len(prompts) != len(completions):
            raise InvalidInput(f"{len(prompts)} prompts, but {len(completions)} completions.")
        body = {
            "prompts": [clean_text(text) for text in prompts],
            "completions": [clean_text(text) for text in completions],
        }
        answer = self._send("POST", "/score", body)
        try:
            scores = _read_scores(answer["scores"], len(prompts))
            return Scores(scores, str(answer["version"]), uuid.UUID(answer["version_id"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(NONSENSE) from error

    def transcribe(self, content: bytes) -> str:
        """What is said in a WAV recording. Raises Unavailable where no speech model answers."""
        text = self._send("POST", "/transcribe", content).get("text")
        if not isinstance(text, str):
            raise Unavailable(NONSENSE)
        return text

    def health(self) -> InferenceHealth:
        """Whether the process runs and which version serves. Never raises."""
        try:
            answer = self._send("GET", "/health", None, HEALTH_TIMEOUT_S)
            version_id = answer["version_id"]
            return InferenceHealth(
                is_running=True,
                is_ready=bool(answer["is_ready"]),
                version=answer["version"],
                version_id=None if version_id is None else uuid.UUID(version_id),
                problem=answer["problem"],
                policy=answer.get("policy"),
                policy_problem=answer.get("policy_problem"),
                deployments={
                    name: _read_deployment(said)
                    for name, said in answer.get("deployments", {}).items()
                },
            )
        except NotRunning as error:
            return InferenceHealth(is_running=False, is_ready=False, problem=str(error))
        except (Unavailable, KeyError, TypeError, ValueError, AttributeError) as error:
            return InferenceHealth(is_running=True, is_ready=False, problem=str(error))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | bytes | None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """The JSON answer. Raises Unavailable after about `timeout_s` (default: the client's)."""
        timeout_s = timeout_s or self.timeout_s
        deadline = time.monotonic() + timeout_s
        is_asked = False
        try:
            try:
                status, content = self._exchange(method, path, body, deadline)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                # The process was started anew and this was a connection to the old one.
                is_asked = True
                status, content = self._exchange(method, path, body, deadline)
            answer = json.loads(content)
        except httpx.ConnectError as error:
            if is_asked:
                raise Ended("The inference process broke off.") from error
            raise NotRunning("The inference process does not run.") from error
        except httpx.TimeoutException as error:
            raise Unavailable(f"The model took longer than {timeout_s:g} s.") from error
        except ValueError as error:
            raise Unavailable(NONSENSE) from error
        except httpx.HTTPError as error:
            raise BrokeOff(f"The inference process broke off: {error}.") from error
        if not isinstance(answer, dict):
            raise Unavailable(NONSENSE)
        if status == httpx.codes.UNPROCESSABLE_ENTITY:
            raise InvalidInput(str(answer.get("error")))
        if status != httpx.codes.OK:
            raise Unavailable(str(answer.get("error")))
        return answer

    def _exchange(
        self, method: str, path: str, body: dict[str, Any] | bytes | None, deadline: float
    ) -> tuple[int, bytes]:
        content = bytearray()
        left_s = max(deadline - time.monotonic(), 0.001)
        timeout = httpx.Timeout(left_s, connect=min(CONNECT_TIMEOUT_S, left_s))
        sent: dict[str, Any] = {"content" if isinstance(body, bytes) else "json": body}
        with self._http.stream(method, path, timeout=timeout, **sent) as response:
            for chunk in response.iter_bytes():
                content += chunk
                if time.monotonic() > deadline or len(content) > MAX_ANSWER_BYTES:
                    raise httpx.ReadTimeout("the answer trickles")
        return response.status_code, bytes(content)


def derive_secret(key: bytes) -> str:
    """The secret between this machine's processes, made of the installation's key."""
    return hmac.new(key, b"rlhf inference process", hashlib.sha256).hexdigest()


def _read_deployment(said: dict[str, Any]) -> DeploymentHealth:
    deployment_id = said["deployment_id"]
    return DeploymentHealth(
        deployment_id=None if deployment_id is None else uuid.UUID(deployment_id),
        canary=said["canary"],
        traffic_percent=said["traffic_percent"],
        problem=said["problem"],
    )


def _read_ranking(answer: dict[str, Any], num_candidates: int, top_k: int | None) -> Ranking:
    try:
        version_id = answer["version_id"]
        ranking = Ranking(
            ranking=tuple(int(index) for index in answer["ranking"]),
            scores=_read_scores(answer["scores"], num_candidates),
            is_fallback=bool(answer["is_fallback"]),
            reason=answer["reason"],
            version=answer["version"],
            version_id=None if version_id is None else uuid.UUID(version_id),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unavailable(NONSENSE) from error
    expected = num_candidates if top_k is None else min(top_k, num_candidates)
    places = set(ranking.ranking) & set(range(num_candidates))
    if len(places) != expected or len(ranking.ranking) != expected:
        raise Unavailable(NONSENSE)
    return ranking


def _read_scores(values: list[Any], expected: int) -> tuple[float | None, ...]:
    scores = tuple(None if value is None else float(value) for value in values)
    if len(scores) != expected or any(s is not None and not math.isfinite(s) for s in scores):
        raise ValueError("scores do not fit")
    return scores
