"""What a policy's training run will take: time, memory, and what it waits for."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from rlhf_core.config import get_settings
from rlhf_core.errors import RlhfError
from rlhf_core.jobs.devices import find_owned, list_devices
from rlhf_core.jobs.heartbeats import list_workers
from rlhf_core.jobs.policy_bases import PolicyBase, find_policy_base
from rlhf_core.jobs.policy_params import TrainPolicyParams
from rlhf_core.jobs.policy_speed import (
    STARTER_S,
    UNKNOWN_WEIGHTS,
    BaseSize,
    PolicyCost,
    count_units,
    measure_base,
    reckon_memory_mb,
    reckon_s,
)
from rlhf_core.jobs.service import list_jobs
from rlhf_core.vocabulary import JobKind, JobState, Resource

START_S = 15.0


@dataclass(frozen=True)
class RunDevice:
    """What a run would compute on: its memory in MiB, and whether something runs there now."""

    name: str
    memory_mb: float
    is_gpu: bool
    is_busy: bool = False


@dataclass(frozen=True)
class PolicyEstimate:
    """About what a run takes. `cost` in the currency of `RLHF_GPU_HOUR_PRICE`; None: no price.

    `wait` says in a sentence what the run will wait for; None where it starts at once.
    """

    took_s: float
    memory_mb: float
    device: str
    fits: bool
    sentence: str
    cost: float | None = None
    wait: str | None = None


def estimate_policy(db: Session, params: TrainPolicyParams, *, num_rows: int) -> PolicyEstimate:
    """What a run on so many rows will take."""
    device = find_device(db)
    base, size = find_base_size(db, params)
    took_s = START_S + _estimate_s(db, params, num_rows, size, device)
    if base is not None and base.is_missing:
        took_s += STARTER_S
    memory_mb = reckon_memory_mb(params, size, on_gpu=device.is_gpu)
    if not device.is_gpu:
        memory_mb *= params.num_processes  # which share their machine's
    fits = memory_mb <= device.memory_mb
    price = get_settings().gpu_hour_price
    cost = price * params.num_ranks * took_s / 3600 if price and device.is_gpu else None
    return PolicyEstimate(
        took_s=took_s,
        memory_mb=memory_mb,
        device=device.name,
        fits=fits,
        sentence=_say(took_s, memory_mb, device, fits, cost),
        cost=cost,
        wait=_find_wait(db, device),
    )


def find_device(db: Session) -> RunDevice:
    """What a run in the queue of the GPUs would compute on.

    The worker processes say what they have; while none is alive, this machine is asked.
    """
    import psutil

    workers = [
        worker
        for worker in list_workers(db)
        if worker.is_alive and Resource.GPU in worker.resources
    ]
    known = [device for worker in workers for device in worker.devices]
    gpus = [device for device in known or list_devices(find_owned()) if device.is_gpu]
    running = list_jobs(db, states=[JobState.RUNNING], limit=1_000)
    num_busy = sum(job.resource is Resource.GPU for job in running)
    if gpus:
        largest = max(gpus, key=lambda device: device.memory_mb)
        return RunDevice(largest.name, largest.memory_mb, True, num_busy >= len(gpus))
    total = psutil.virtual_memory().total / 2**20
    return RunDevice("CPU", total, False, num_busy > 0)


def find_base_size(db: Session, params: TrainPolicyParams) -> tuple[PolicyBase | None, BaseSize]:
    if params.learner is JobKind.TRAIN_STARTER:
        return None, _starter_size(params.learner_params())
    try:
        base = find_policy_base(db, params.base, model=params.model)
    except RlhfError:
        return None, BaseSize(UNKNOWN_WEIGHTS, 24, 1_024, 50_000)
    if base.is_missing:
        from rlhf_core.policies.starter_params import StarterParams

        return base, _starter_size(StarterParams())
    folder = Path(base.location)
    size = measure_base(folder) if folder.is_dir() else BaseSize(0)
    return base, size if size.num_weights else BaseSize(UNKNOWN_WEIGHTS, 24, 1_024, 50_000)


def _starter_size(own: object) -> BaseSize:
    layers = int(getattr(own, "layers", 4))
    width = int(getattr(own, "hidden_size", 256))
    vocabulary = int(getattr(own, "vocab_size", 4_096))
    return BaseSize(12.0 * layers * width**2 + vocabulary * width, layers, width, vocabulary)


def _estimate_s(
    db: Session, params: TrainPolicyParams, num_rows: int, size: BaseSize, device: RunDevice
) -> float:
    """By the newest run of this learner on such a device, in proportion; else reckoned."""
    jobs = list_jobs(db, states=[JobState.SUCCEEDED], kind=params.learner, limit=50)
    where = "gpu" if device.is_gpu else "cpu"
    for job in jobs:
        plain = (job.result or {}).get("cost")
        if not plain:
            continue
        cost = PolicyCost(**plain)
        is_like = (cost.device == "cpu") == (where == "cpu") and cost.units and cost.num_weights
        if is_like:
            units = count_units(params, num_rows) / cost.units
            tokens = int(getattr(params.learner_params(), "response_tokens", 0))
            longer = tokens / cost.response_tokens if tokens and cost.response_tokens else 1.0
            return cost.took_s * units * size.num_weights / cost.num_weights * min(longer, 4.0)
    return reckon_s(params, num_rows=num_rows, weights=size.num_weights, on_gpu=device.is_gpu)


def _say(took_s: float, memory_mb: float, device: RunDevice, fits: bool, cost: float | None) -> str:
    time = f"{took_s:.0f} s" if took_s < 90 else f"{took_s / 60:.0f} min"
    time = f"{took_s / 3600:.1f} h" if took_s > 2 * 3600 else time
    price = "" if cost is None else f", a cost of {cost:.2f}"
    room = device.memory_mb / 1024
    return (
        f"About {time} and {memory_mb / 1024:.1f} GB on {device.name}{price}; fits in "
        f"{room:.0f} GB: {'yes' if fits else 'no'}."
    )


def _find_wait(db: Session, device: RunDevice) -> str | None:
    waiting = list_jobs(db, states=[JobState.QUEUED], limit=1_000)
    before = sum(job.resource is Resource.GPU for job in waiting)
    if not (device.is_busy or before):
        return None
    runs = f"{before} more wait" if before else "none waits"
    what = "The GPU is busy" if device.is_gpu else "A run is under way"
    other = " or take the queue of the CPU" if device.is_gpu else ""
    return f"{what}, {runs}: this run starts when its turn comes; let it wait{other}."
