"""The inference application on a real socket, in a thread of the test."""

import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn

from rlhf_core.config import get_settings
from rlhf_core.registry.service import REWARD_MODEL
from rlhf_core.serving.client import derive_secret
from rlhf_core.serving.inference import InferenceService, build_app
from rlhf_core.serving.loader import LoadedModel, ModelSlot, load_version
from rlhf_core.serving.logbook import Logbook
from rlhf_core.serving.policies import PolicyShelf
from rlhf_core.serving.traffic import Traffic
from rlhf_core.store.engine import Store


class StubModel:
    """A reward model that computes what the test wants, or waits until the test lets it go on."""

    def __init__(self, compute: Callable[[str, str], float]) -> None:
        self._compute = compute

    def score(self, prompts: Sequence[str], completions: Sequence[str]) -> np.ndarray[Any, Any]:
        pairs = zip(prompts, completions, strict=True)
        return np.array([self._compute(prompt, completion) for prompt, completion in pairs])


def loaded_stub(compute: Callable[[str, str], float], name: str = "stub v1") -> LoadedModel:
    return LoadedModel(uuid.uuid4(), name, StubModel(compute))  # type: ignore[arg-type]


@contextmanager
def serve(
    store: Store, current: LoadedModel | None
) -> Iterator[tuple[int, ModelSlot[LoadedModel]]]:
    """(port, slot) of a running server; the slot holds `current` and follows nothing."""
    rewards = Traffic(store, load_version, model_name=REWARD_MODEL, capacity=2)
    slot = rewards.production
    slot.current, slot.problem = current, None if current else "No model is promoted yet."
    shelf = PolicyShelf(store)
    shelf.traffic.production.refresh()
    with serve_traffic(store, rewards, shelf) as port:
        yield port, slot


@contextmanager
def serve_traffic(
    store: Store,
    rewards: Traffic[LoadedModel],
    shelf: PolicyShelf,
    *,
    patience_s: float | None = None,
) -> Iterator[int]:
    """The port of a running server, which follows nothing by itself."""
    logbook = Logbook(store, knows_best=True)
    settings = get_settings()
    service = InferenceService(
        rewards, shelf, logbook, patience_s=patience_s or settings.inference_timeout_s
    )
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # connections wait from here on: no need to ask whether it is up
    config = uvicorn.Config(
        build_app(service, derive_secret(settings.read_secret_key())),
        log_level="warning",
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        logbook.close()
        listener.close()
