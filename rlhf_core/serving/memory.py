"""Versions in memory: each is loaded once, and the ones used least go when there are too many."""

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from rlhf_core.registry.views import ModelVersionView

Model = TypeVar("Model")


class VersionMemory(Generic[Model]):
    """At most `capacity` versions, and those that `pinned` names beside. Safe in threads.

    Requests hold the version that they began with: one that goes ends none of them.
    """

    def __init__(
        self,
        load: Callable[[ModelVersionView], Model],
        *,
        capacity: int,
        pinned: Callable[[], Collection[uuid.UUID]] = tuple,
    ) -> None:
        self._load = load
        self._capacity = capacity
        self._pinned = pinned
        self._kept: OrderedDict[uuid.UUID, Model] = OrderedDict()
        self._loading: dict[uuid.UUID, threading.Lock] = {}
        self._lock = threading.Lock()

    def take(self, version: ModelVersionView) -> Model:
        """The version, loaded by the first who asks; others wait for that one only.

        Raises what loading it raises.
        """
        known = self.find(version.id)
        if known is not None:
            return known
        with self._lock:
            gate = self._loading.setdefault(version.id, threading.Lock())
        with gate:
            known = self.find(version.id)
            if known is None:
                known = self._load(version)
                with self._lock:
                    self._kept[version.id] = known
                    self._loading.pop(version.id, None)
                    self._forget_surplus(version.id)
        return known

    def find(self, version_id: uuid.UUID) -> Model | None:
        """The version if it is in memory; that counts as its use."""
        with self._lock:
            known = self._kept.get(version_id)
            if known is not None:
                self._kept.move_to_end(version_id)
            return known

    def list_ids(self) -> list[uuid.UUID]:
        """What is in memory, the one used last at the end."""
        with self._lock:
            return list(self._kept)

    def forget_surplus(self) -> None:
        """Let go what is too much, once something is no longer pinned."""
        with self._lock:
            self._forget_surplus()

    def _forget_surplus(self, newest: uuid.UUID | None = None) -> None:
        pinned = {newest, *self._pinned()}
        for version_id in list(self._kept):
            if len(self._kept) <= self._capacity:
                return
            if version_id not in pinned:
                del self._kept[version_id]
