"""Where a run's curves go beside the database: TensorBoard files, MLflow, Weights & Biases.

TensorBoard files are written unless switched off; the other two where a setting names them and
their package is installed. They are opened with the first number, so that a job without curves
loads none of them, and none of them ever fails a run: one that breaks is named in the log and left.
"""

import queue
import re
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

from rlhf_core.config import Settings
from rlhf_core.jobs.event_file import EventFile
from rlhf_core.training import Sample, Tracker
from rlhf_core.vocabulary import JobKind, JobState

FOLDER = "tensorboard"
EXPERIMENT = "rlhf"
MAX_WAITING = 10_000  # numbers that a slow server has not taken yet; more are dropped
CLOSE_WITHIN_S = 10.0
LARGEST = 3.4e38  # of a number of 32 bits; NaN is not below it either
MAX_PARAM_CHARS = 500  # the limit of MLflow's oldest stores


@dataclass(frozen=True)
class RunFacts:
    """Which run it is."""

    job_id: uuid.UUID
    attempt: int
    kind: JobKind
    params: dict[str, Any]

    @property
    def name(self) -> str:
        """What the run is called in the other tools."""
        return f"{self.kind.value}-{self.job_id}"


class Sink(Protocol):
    """A place for curves. Its methods may raise; the run goes on without it then."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Keep numbers at a step."""

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        """Keep answers at a step."""

    def close(self, state: JobState | None) -> None:
        """The run ended so; None where it goes on in another attempt."""


Opener = Callable[[int], Sink]
"""Opens a sink at the first step that an attempt reports."""


class SinkTracker:
    """A `training.Tracker` that passes everything on, and the curves to the sinks too."""

    def __init__(self, tracker: Tracker, openers: dict[str, Opener]) -> None:
        self._tracker = tracker
        self._openers = dict(openers)
        self._sinks: dict[str, Sink] = {}

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the run is."""
        self._tracker.progress(fraction, message)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Record numbers at a step."""
        self._tracker.metrics(step, values)
        self._open(step)
        kept = {name: float(value) for name, value in values.items() if abs(value) < LARGEST}
        self._each(lambda sink: sink.write(step, kept))

    def log(self, text: str) -> None:
        """Append to the run's log."""
        self._tracker.log(text)

    def samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Show what a policy answers."""
        self._tracker.samples(step, samples)
        self._open(step)
        self._each(lambda sink: sink.show(step, samples))

    def should_stop(self) -> bool:
        """Whether the run was asked to end."""
        return self._tracker.should_stop()

    def close(self, state: JobState | None) -> None:
        """End the sinks; the tracker itself goes on."""
        self._each(lambda sink: sink.close(state))
        self._sinks.clear()
        self._openers.clear()

    def _open(self, step: int) -> None:
        while self._openers:
            name, opener = self._openers.popitem()
            try:
                self._sinks[name] = opener(step)
            except Exception as error:  # noqa: BLE001 - any failure of a foreign tool
                self._leave(name, error)

    def _each(self, call: Callable[[Sink], None]) -> None:
        for name, sink in list(self._sinks.items()):
            try:
                call(sink)
            except Exception as error:  # noqa: BLE001 - as above
                del self._sinks[name]
                self._leave(name, error)

    def _leave(self, name: str, error: Exception) -> None:
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        self._tracker.log(
            f"{name} is left out of this run ({type(error).__name__}: {reason}); the curves are "
            "kept here all the same."
        )


def find_openers(facts: RunFacts, settings: Settings, tracker: Tracker) -> dict[str, Opener]:
    """The sinks that the settings ask for; one whose package is missing is named in the log."""
    found: dict[str, Opener] = {}
    if settings.tensorboard:
        found["TensorBoard"] = lambda step: _TensorBoard(facts, settings, step)
    wanted: list[tuple[str, str, str, Opener]] = [
        (settings.mlflow_uri, "MLflow", "mlflow", lambda _: _Mlflow(facts, settings)),
        (settings.wandb_project, "Weights & Biases", "wandb", lambda _: _Wandb(facts, settings)),
    ]
    for setting, name, package, opener in wanted:
        if setting and find_spec(package) is None:
            tracker.log(f"{name} is set but not installed: `pip install {package}`.")
        elif setting:
            found[name] = opener
    return found


class _TensorBoard:
    """Event files below the data folder, one folder a job."""

    def __init__(self, facts: RunFacts, settings: Settings, first_step: int) -> None:
        # What an earlier attempt wrote from its last checkpoint on is written again.
        again = first_step if facts.attempt > 1 else None
        folder = settings.data_dir.resolve() / FOLDER / facts.name
        self._file = EventFile(folder, restart_at=again)

    def write(self, step: int, values: dict[str, float]) -> None:
        self._file.add_numbers(step, values)

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        for number, sample in enumerate(samples):
            # Indented text is code in Markdown: shown as it is, no link or image in it.
            parts = {"prompt": sample.prompt, "answer": sample.completion}
            parts |= {"reference": sample.reference} if sample.reference else {}
            text = "\n\n".join(
                f"{name}\n\n" + "\n".join(f"    {line}" for line in said.splitlines())
                for name, said in parts.items()
            )
            self._file.add_text(step, f"samples/{number}", text)

    def close(self, _state: JobState | None) -> None:
        self._file.close()


class _Mlflow:
    """A run on an MLflow server; an attempt after a kill goes on in the same one."""

    def __init__(self, facts: RunFacts, settings: Settings) -> None:
        from mlflow import MlflowClient

        self._client: Any = MlflowClient(tracking_uri=settings.mlflow_uri)
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        tag = f"tags.job_id = '{facts.job_id}'"
        known = self._client.search_runs([experiment], tag, max_results=1)
        if known:
            self._run_id = known[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
        else:
            tags = {"job_id": str(facts.job_id), "kind": facts.kind.value}
            run = self._client.create_run(experiment, tags=tags, run_name=facts.name)
            self._run_id = run.info.run_id
            for name, value in flatten(facts.params).items():
                self._client.log_param(self._run_id, name, value[:MAX_PARAM_CHARS])
        self._line = _Line(self._send)

    def write(self, step: int, values: dict[str, float]) -> None:
        self._line.put((step, values))

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        pass  # MLflow has no place for them beside files; the page Runs shows them

    def close(self, state: JobState | None) -> None:
        self._line.close()
        if state is not None:
            ends = {JobState.SUCCEEDED: "FINISHED", JobState.FAILED: "FAILED"}
            self._client.set_terminated(self._run_id, ends.get(state, "KILLED"))

    def _send(self, item: tuple[int, dict[str, float]]) -> None:
        step, values = item
        for name, value in values.items():
            # MLflow takes letters, digits and _-./ and spaces only.
            named = re.sub(r"[^\w\-./ ]", "_", name)
            self._client.log_metric(self._run_id, named, value, step=step)


class _Wandb:
    """A run at Weights & Biases; an attempt after a kill goes on in the same one."""

    def __init__(self, facts: RunFacts, settings: Settings) -> None:
        import wandb

        folder = settings.data_dir.resolve() / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project=settings.wandb_project,
            id=facts.job_id.hex,
            name=facts.name,
            config=facts.params,
            dir=str(folder),
            resume="allow",
            settings=wandb.Settings(silent=True),
        )
        self._run.define_metric("*", step_metric="step")  # its own count never goes back

    def write(self, step: int, values: dict[str, float]) -> None:
        self._run.log({**values, "step": step})

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        import wandb

        rows = [[s.prompt, s.completion, s.reference, s.reward] for s in samples]
        columns = ["prompt", "answer", "reference", "reward"]
        self._run.log({"samples": wandb.Table(columns=columns, data=rows), "step": step})

    def close(self, state: JobState | None) -> None:
        self._run.finish(exit_code=0 if state is JobState.SUCCEEDED else 1)


@dataclass
class _Line:
    """Numbers on their way to a server: a slow one holds up no training."""

    send: Callable[[Any], None]
    _waiting: "queue.Queue[Any]" = field(default_factory=lambda: queue.Queue(MAX_WAITING))
    _error: Exception | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._work, name="sink", daemon=True)
        self._thread.start()

    def put(self, item: Any) -> None:
        """Queue an item. Raises what sending an earlier one raised."""
        if self._error is not None:
            raise self._error
        if not self._waiting.full():
            self._waiting.put_nowait(item)

    def close(self) -> None:
        """Send what waits, for `CLOSE_WITHIN_S` at most."""
        if not self._waiting.full():
            self._waiting.put_nowait(None)
        self._thread.join(CLOSE_WITHIN_S)
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            try:
                self.send(item)
            except Exception as error:  # noqa: BLE001 - told by the next `put`
                self._error = error
                return


def flatten(params: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"options": {"lr": 1}}` as `{"options.lr": "1"}`."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
