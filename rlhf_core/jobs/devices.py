"""What a worker's machine computes on: GPUs of NVIDIA (CUDA) and AMD (ROCm), Apple's (MPS), CPU.

Asked of the drivers' own tools and files, never of torch: a worker stays light. A worker may own
some of the GPUs only; its runs then see no other.
"""

import csv
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlhf_core.errors import InvalidInput

CUDA, ROCM, MPS, CPU = "cuda", "rocm", "mps", "cpu"
MEBIBYTE = 2**20
NVIDIA_FIELDS = ("index", "uuid", "name", "memory.total", "memory.used", "utilization.gpu")
ASK_FOR_S = 10.0
DRM = Path("/sys/class/drm")


@dataclass(frozen=True)
class Device:
    """One device. `index` counts those of its kind on the machine; -1 of a CPU.

    Memory in MiB; for a GPU its own, for CPU and MPS the machine's. `used_mb` and `load_percent`
    (0..100) as of the last heartbeat; None where the driver does not tell. `cores` of a CPU.
    """

    kind: str
    index: int
    name: str
    memory_mb: float
    used_mb: float | None = None
    load_percent: float | None = None
    cores: int | None = None

    @property
    def is_gpu(self) -> bool:
        """Whether trainings are quick on it."""
        return self.kind != CPU


def parse_owned(text: str | None) -> tuple[str, ...] | None:
    """The GPUs of `0,1`, as `CUDA_VISIBLE_DEVICES` names them; `none` is none, None is all."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise InvalidInput("--devices: name GPUs, such as 0 or 0,1, or none.", field="devices")
    if words == ["none"]:
        return ()
    wrong = [word for word in words if not (word.isdecimal() or word.startswith(("GPU-", "MIG-")))]
    if wrong or len(set(words)) < len(words):
        raise InvalidInput(
            f"--devices {text!r}: give each GPU once, by number or by its UUID.", field="devices"
        )
    return tuple(words)


def visible_environment(owned: Sequence[str] | None) -> dict[str, str]:
    """The variables that let a run see these GPUs and no other; none where it may see all."""
    if owned is None:
        return {}
    named = ",".join(owned) or "-1"  # an empty value is ignored by some versions of ROCm
    return {
        "CUDA_VISIBLE_DEVICES": named,
        "HIP_VISIBLE_DEVICES": named,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the numbers of nvidia-smi; CUDA's own are others
    }


def find_owned() -> tuple[str, ...] | None:
    """The GPUs that this process was given by its environment; None where it may use all."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return None
    words = [word.strip() for word in given.split(",") if word.strip()]
    return () if words in ([], ["-1"]) else tuple(words)


def list_devices(owned: Sequence[str] | None = None) -> list[Device]:
    """The GPUs of this machine that are owned, then its CPU."""
    gpus = _list_nvidia(owned) or _list_amd(owned) or _list_apple(owned)
    return [*gpus, _describe_cpu()]


def count_gpus() -> int:
    """How many GPUs of CUDA or ROCm this machine shows to this process."""
    owned = find_owned()
    return len(_list_nvidia(owned) or _list_amd(owned))


def devices_to_json(devices: Sequence[Device]) -> dict[str, Any]:
    """Plain values, as they are stored with a heartbeat."""
    return {"devices": [asdict(device) for device in devices]}


def parse_devices(plain: dict[str, Any] | None) -> tuple[Device, ...]:
    """The devices that `devices_to_json` wrote; none of what another version wrote otherwise."""
    try:
        return tuple(Device(**device) for device in (plain or {}).get("devices", ()))
    except TypeError:
        return ()


def _list_nvidia(owned: Sequence[str] | None) -> list[Device]:
    tool = shutil.which("nvidia-smi")
    if tool is None or owned == ():
        return []
    query = [tool, f"--query-gpu={','.join(NVIDIA_FIELDS)}", "--format=csv,noheader,nounits"]
    text = _ask(query)
    return [] if text is None else parse_nvidia(text, owned)


def parse_nvidia(text: str, owned: Sequence[str] | None) -> list[Device]:
    """What nvidia-smi printed of `NVIDIA_FIELDS`, without header and units.

    A slice of a GPU (MIG) is reported as its GPU's name with what is known of the whole.
    """
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) != len(NVIDIA_FIELDS) or not row[0].strip().isdecimal():
            continue
        index, uuid, name, total, used, load = (cell.strip() for cell in row)
        is_owned = owned is None or index in owned or any(uuid.startswith(o) for o in owned)
        is_slice = owned is not None and any(o.startswith("MIG-") for o in owned)
        if is_owned or is_slice:
            found.append(
                Device(CUDA, int(index), name, _number(total) or 0.0, _number(used), _number(load))
            )
    return found


def _list_amd(owned: Sequence[str] | None, folder: Path = DRM) -> list[Device]:
    """The GPUs of the amdgpu driver, from the kernel's files: they need no tool."""
    cards = [
        path / "device"
        for path in folder.glob("card*")
        if path.name.removeprefix("card").isdecimal()
        and (path / "device" / "mem_info_vram_total").exists()
    ]
    found = []
    for index, card in enumerate(sorted(cards, key=lambda card: int(card.parent.name[4:]))):
        if owned is not None and str(index) not in owned:
            continue
        used = _number(_read(card / "mem_info_vram_used"))
        found.append(
            Device(
                ROCM,
                index,
                _read(card / "product_name") or "AMD GPU",
                (_number(_read(card / "mem_info_vram_total")) or 0.0) / MEBIBYTE,
                None if used is None else used / MEBIBYTE,
                _number(_read(card / "gpu_busy_percent")),
            )
        )
    return found


def _list_apple(owned: Sequence[str] | None) -> list[Device]:
    if owned == () or sys.platform != "darwin" or platform.machine() != "arm64":
        return []
    import psutil

    memory = psutil.virtual_memory()
    name = (_ask(["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]) or "Apple GPU").strip()
    return [Device(MPS, 0, name, memory.total / MEBIBYTE, memory.used / MEBIBYTE)]


def _describe_cpu() -> Device:
    import psutil

    memory = psutil.virtual_memory()
    return Device(
        kind=CPU,
        index=-1,
        name=_name_cpu(),
        memory_mb=memory.total / MEBIBYTE,
        used_mb=(memory.total - memory.available) / MEBIBYTE,
        load_percent=psutil.cpu_percent(),  # since the call before, so since the last heartbeat
        cores=psutil.cpu_count(),
    )


def _name_cpu() -> str:
    for line in (_read(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine() or "CPU"


def _ask(command: list[str]) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - a driver's own tool
            command, capture_output=True, text=True, timeout=ASK_FOR_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:  # "[N/A]"
        return None
