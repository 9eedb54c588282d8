"""Which version answers a request: what serves, or a side of the deployment that runs.

Both sides are in memory, warm, before any request is divided; where one cannot be loaded, ended the
process, or is watched by no worker, all goes to what serves, and `problem` says so.
"""

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.config import get_settings
from rlhf_core.errors import RlhfError, Unavailable
from rlhf_core.registry.service import find_production, get_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.release.assignment import (
    PRODUCTION_ROUTE,
    Route,
    RunningDeployment,
    assign,
    read_running,
)
from rlhf_core.serving.loader import RETRY_AFTER_S, Loaded, ModelSlot, say
from rlhf_core.serving.memory import VersionMemory
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Arm, DeploymentKind

LOGGER = logging.getLogger(__name__)
BLIND_AFTER_S = 30.0
"""So long without the database nobody can see what a canary does: then it gets no traffic."""
UNSEEN = "No canary gets traffic: the database does not answer."
UNWATCHED = (
    "The canary gets no traffic: no worker watches it, which would take it back if it did harm. "
    "Start one (`python -m rlhf_core worker`)."
)
FATAL = (
    "The canary gets no traffic: the process broke off while it was being loaded. End the "
    "deployment; where it was no fault of the version's, start another."
)

Model = TypeVar("Model", bound=Loaded)


@dataclass(frozen=True)
class Choice(Generic[Model]):
    """Who answers a request; `model` is None where nothing is loaded.

    `route` is None for a version that the caller named. `control` is given for a request whose
    order is drawn from both sides: `model` is the treatment.
    """

    route: Route | None
    model: Model | None
    control: Model | None = None


@dataclass(frozen=True)
class Split(Generic[Model]):
    """A deployment that runs, with both of its versions in memory."""

    running: RunningDeployment
    treatment: Model
    control: Model | None

    @property
    def tests_prompts(self) -> bool:
        """Whether its sides differ in the system prompt."""
        return (self.running.control_prompt, self.running.treatment_prompt) != (None, None)


class Traffic(Generic[Model]):
    """Follows what serves of a model, and the deployment that divides its traffic."""

    def __init__(
        self,
        store: Store,
        load: Callable[[ModelVersionView], Model],
        *,
        model_name: str,
        capacity: int,
    ) -> None:
        self._store = store
        self._model_name = model_name
        self.memory = VersionMemory(load, capacity=capacity, pinned=self._list_needed)
        self.production = ModelSlot(store, self.memory.take, model_name=model_name)
        self._split: Split[Model] | None = None
        self._lock = threading.Lock()
        self._failed: uuid.UUID | None = None
        self._retry_at = -math.inf
        self._seen_at = time.monotonic()
        self.problem: str | None = None

    def choose(self, key: str | None, *, has_system: bool = False) -> Choice[Model]:
        """Who answers the request of `key` (a pseudonym, or what else stays the same).

        A request with a system message of its own (`has_system`) takes no part in a test of them.
        """
        split = self._split
        if split is None or self._is_blind or (has_system and split.tests_prompts):
            return Choice(PRODUCTION_ROUTE, self.production.current)
        route = assign(split.running, key)
        if route.arm is not Arm.TREATMENT:
            return Choice(route, split.control or self.production.current)
        if split.running.kind is DeploymentKind.INTERLEAVING:
            control = split.control or self.production.current
            return Choice(route, split.treatment, control)
        return Choice(route, split.treatment)

    def find_control(self) -> Model | None:
        """What answers those who do not get the treatment."""
        split = self._split
        return (split and split.control) or self.production.current

    def refresh_deployment(self) -> None:
        """Look which deployment runs, and load its versions if they are others. Never raises."""
        with self._lock:
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - no trouble of the database ends serving
                if self._is_blind:
                    self._split = None
                    self.problem = f"No canary gets traffic: {say(error)}"

    def describe(self) -> dict[str, Any]:
        """The deployment that gets traffic now, what is wrong, and what is in memory."""
        split = None if self._is_blind else self._split
        is_hidden = split is None and self._split is not None
        return {
            "deployment_id": None if split is None else str(split.running.id),
            "canary": None if split is None else split.treatment.name,
            "traffic_percent": None if split is None else split.running.traffic_percent,
            "problem": UNSEEN if is_hidden else self.problem,
            "in_memory": [str(version_id) for version_id in self.memory.list_ids()],
        }

    def forget_attempt(self) -> None:
        """The process ends in order: what is being loaded is not to blame."""
        self._marker.unlink(missing_ok=True)

    @property
    def _is_blind(self) -> bool:
        """Whether the database was not read for long: it fails, or it hangs."""
        return time.monotonic() > self._seen_at + BLIND_AFTER_S

    @property
    def _marker(self) -> Path:
        """Names the deployment being taken up, and outlives a process that this ends."""
        return get_settings().data_dir / f"taking-up-{self._model_name}"

    def _follow(self) -> None:
        split = self._split
        with self._store.reading() as db:
            running = read_running(db, self._model_name)
            ended_well = (
                running is None
                and split is not None
                and (serves := find_production(db, self._model_name)) is not None
                and serves.id == split.treatment.version_id
            )
        self._seen_at = time.monotonic()
        if ended_well:
            self.production.refresh()  # nobody goes back to the version before in between
        if running is None:
            self._split, self._failed, self.problem = None, None, None
            if split is not None:
                self.memory.forget_surplus()
            return
        if not running.is_watched:
            self._split, self.problem = None, UNWATCHED
            return
        if split is not None and split.running.id == running.id:
            self._split = replace(split, running=running)
            return
        self._split = None
        if self._failed != running.id or time.monotonic() >= self._retry_at:
            self._take_up(running)

    def _take_up(self, running: RunningDeployment) -> None:
        marker = self._marker
        if marker.is_file() and marker.read_text() == str(running.id):
            self.problem = FATAL
            return
        try:
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.write_text(str(running.id))
            treatment = self._load(running.version_id)
            baseline = running.baseline_version_id
            control = None if baseline is None else self._load(baseline)
        except Exception as error:  # noqa: BLE001 - no file of a canary may end what serves
            self._failed, self._retry_at = running.id, time.monotonic() + RETRY_AFTER_S
            self.problem = f"The canary gets no traffic: {say(error)} All goes to what serves."
            LOGGER.error(self.problem)
            return
        finally:
            marker.unlink(missing_ok=True)
            self._seen_at = time.monotonic()  # loading takes its time: that is no hanging database
        self._failed, self.problem = None, None
        self._split = Split(running, treatment, control)
        LOGGER.info("%s takes part of the traffic", treatment.name)

    def _load(self, version_id: uuid.UUID) -> Model:
        with self._store.reading() as db:
            version = get_version(db, version_id, actor=SYSTEM)
        try:
            return self.memory.take(version)
        except RlhfError as error:
            raise Unavailable(f"{version.name} cannot be served: {error}") from error

    def _list_needed(self) -> set[uuid.UUID]:
        current, split = self.production.current, self._split
        used = [current] if split is None else [current, split.treatment, split.control]
        return {model.version_id for model in used if model is not None}
