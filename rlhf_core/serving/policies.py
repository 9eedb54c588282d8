"""The policies that answer: the promoted one is followed, others are opened when named."""

import math
import re
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.artifacts import open_artifact
from rlhf_core.errors import InvalidInput, NotFound, RlhfError, Unavailable
from rlhf_core.policies.chat import ChatModel, Turn, open_chat_model
from rlhf_core.registry.service import POLICY_MODEL, get_version_by_number
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.serving.batches import Batcher
from rlhf_core.serving.loader import RETRY_AFTER_S, ModelSlot
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import ModelKind

MAX_OTHERS = 2
"""Versions beside the promoted one that stay in memory."""
PROMOTED = (POLICY_MODEL, "production")
_NAMED = re.compile(r"(?P<model>.+?)[ @:]?v?(?P<number>[0-9]{1,9})")


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy in memory. Requests hold it, so that a swap ends none of them."""

    version_id: uuid.UUID
    name: str
    model: ChatModel
    batches: Batcher


def load_policy_version(version: ModelVersionView) -> LoadedPolicy:
    """Verify the files of a version, open it, and let it answer once, which warms everything.

    Raises InvalidInput naming what is wrong with its files.
    """
    model = open_chat_model(open_artifact(version.folder, version.manifest_sha256))
    ids, room = model.encode([("user", "Hello")], max_tokens=2)
    model.answer([Turn(ids, room, temperature=0)])
    return LoadedPolicy(version.id, version.name, model, Batcher(model.answer))


class PolicyShelf:
    """Policies by name: the promoted one, and the few others that were named last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.promoted = ModelSlot(store, load_policy_version, model_name=POLICY_MODEL)
        self._others: OrderedDict[uuid.UUID, LoadedPolicy] = OrderedDict()
        self._failed: dict[uuid.UUID, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def find(self, name: str) -> LoadedPolicy:
        """The policy that `name` means: `assistant`, `production`, or a version, `assistant v3`.

        A version that is not in memory is loaded first, which takes seconds. Raises NotFound where
        there is no such version, Unavailable where none is promoted or its files are broken.
        """
        if name in PROMOTED:
            if self.promoted.current is None:
                raise Unavailable(self.promoted.problem or "No policy is loaded.")
            return self.promoted.current
        version = self._look_up(name)
        current = self.promoted.current
        if current is not None and current.version_id == version.id:
            return current
        with self._lock:
            known = self._others.get(version.id) or self._load(version)
            self._others[version.id] = known
            self._others.move_to_end(version.id)
            while len(self._others) > MAX_OTHERS:
                self._others.popitem(last=False)
        return known

    def _load(self, version: ModelVersionView) -> LoadedPolicy:
        """Open a version; one whose files are broken is left alone for a while."""
        failed_at, problem = self._failed.get(version.id, (-math.inf, ""))
        if time.monotonic() < failed_at + RETRY_AFTER_S:
            raise Unavailable(problem)
        if version.kind is not ModelKind.POLICY:
            raise InvalidInput(f"{version.name} is no policy: it judges, it does not answer.")
        try:
            return load_policy_version(version)
        except Exception as error:
            what = str(error) if isinstance(error, RlhfError) else type(error).__name__
            problem = f"{version.name} cannot answer: {what}"
            self._failed[version.id] = time.monotonic(), problem
            raise Unavailable(problem) from error

    def _look_up(self, name: str) -> ModelVersionView:
        match = _NAMED.fullmatch(name.strip())
        if match is None:
            raise NotFound(
                f"There is no model {name!r}: name {POLICY_MODEL!r} for the promoted one, or a "
                f"version, such as '{POLICY_MODEL} v3'."
            )
        with self._store.reading() as db:
            return get_version_by_number(db, match["model"], int(match["number"]), actor=SYSTEM)
