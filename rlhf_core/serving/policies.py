"""The policies that answer: what serves is followed, others are opened when named."""

import math
import re
import threading
import time
import uuid
from dataclasses import dataclass

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.artifacts import open_artifact
from rlhf_core.errors import InvalidInput, NotFound, RlhfError, Unavailable
from rlhf_core.policies.chat import Turn, open_chat_model
from rlhf_core.registry.service import POLICY_MODEL, get_version_by_number
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.serving.answering import AnswerSource, LocalSource
from rlhf_core.serving.loader import RETRY_AFTER_S
from rlhf_core.serving.remote import open_remote
from rlhf_core.serving.traffic import Choice, Traffic
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import ModelKind

PROMOTED = (POLICY_MODEL, "production")
POLICY_KINDS = (ModelKind.POLICY, ModelKind.POLICY_REMOTE)
_NAMED = re.compile(r"(?P<model>.+?)[ @:]?v?(?P<number>[0-9]{1,9})")


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy in memory, or the way to one. Requests hold it, so that a swap ends none of them."""

    version_id: uuid.UUID
    name: str
    source: AnswerSource


def load_policy_version(version: ModelVersionView) -> LoadedPolicy:
    """Verify the files of a version, open it, and let it answer once, which warms everything.

    Raises InvalidInput naming what is wrong with its files, Unavailable where its server is gone.
    """
    if version.kind not in POLICY_KINDS:
        raise InvalidInput(f"{version.name} is no policy: it judges, it does not answer.")
    folder = open_artifact(version.folder, version.manifest_sha256)
    if version.kind is ModelKind.POLICY_REMOTE:
        return LoadedPolicy(version.id, version.name, open_remote(folder, name=version.name))
    model = open_chat_model(folder)
    ids, room = model.encode([("user", "Hello")], max_tokens=2)
    model.answer([Turn(ids, room, temperature=0)])
    return LoadedPolicy(version.id, version.name, LocalSource(model))


class PolicyShelf:
    """Policies by name: what serves, a canary, and the few others that were named last."""

    def __init__(self, store: Store, *, capacity: int = 4) -> None:
        self._store = store
        self.traffic = Traffic(
            store, load_policy_version, model_name=POLICY_MODEL, capacity=capacity
        )
        self._failed: dict[uuid.UUID, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def choose(
        self, name: str, *, key: str | None = None, has_system: bool = False
    ) -> Choice[LoadedPolicy]:
        """Who answers what is asked of `name`: `assistant`, `production`, or a version.

        A named version takes no part in a deployment; one that is not in memory is loaded first,
        which takes seconds. Raises NotFound where there is no such version, Unavailable where its
        files are broken.
        """
        if name in PROMOTED:
            return self.traffic.choose(key, has_system=has_system)
        return Choice(None, self._find(name))

    def _find(self, name: str) -> LoadedPolicy:
        version = self._look_up(name)
        known = self.traffic.memory.find(version.id)
        if known is not None:
            return known
        failed_at, problem = self._failed.get(version.id, (-math.inf, ""))
        if time.monotonic() < failed_at + RETRY_AFTER_S:  # broken files are left alone for a while
            raise Unavailable(problem)
        if version.kind not in POLICY_KINDS:
            raise InvalidInput(f"{version.name} is no policy: it judges, it does not answer.")
        with self._lock:  # one at a time: each takes memory, and all cores
            try:
                return self.traffic.memory.take(version)
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
            version = get_version_by_number(db, match["model"], int(match["number"]), actor=SYSTEM)
        if version.deleted_at is not None:
            raise NotFound(f"{version.name} is deleted: name another version.")
        return version
