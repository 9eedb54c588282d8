"""Workers: which are alive, what they compute on, how loaded it is, and what each runs."""

from datetime import timedelta

import streamlit as st
from streamlit.errors import StreamlitAPIException

from pages._ui.guard import admit, require_page
from pages._ui.job_panel import describe_duration
from pages._ui.measures import JOB_KIND_NAMES
from pages._ui.messages import empty_state, plain, reporting
from rlhf_core.accounts.permissions import Permission
from rlhf_core.clock import utcnow
from rlhf_core.jobs.devices import Device
from rlhf_core.jobs.heartbeats import WorkerView, find_worker_trouble, list_workers
from rlhf_core.jobs.service import JobView, list_jobs
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import JobState, Resource


def show_worker(worker: WorkerView, jobs: list[JobView]) -> None:
    with st.container(border=True, key=f"worker_{worker.executor_id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(worker.executor_id)}**", width="content")
            if worker.is_alive:
                st.badge("Alive", icon=":material/favorite:", color="green")
            else:
                st.badge("Silent", icon=":material/heart_broken:", color="red")
            for resource in worker.resources:
                st.badge(resource.value, color="gray")
        since = describe_duration((utcnow() - worker.started_at).total_seconds())
        heard = describe_duration(max(0.0, (utcnow() - worker.seen_at).total_seconds()))
        said = f"{worker.host}, process {worker.pid}, up for {since}, heard of {heard} ago"
        st.caption(plain(said))
        for device in worker.devices if worker.is_alive else ():
            show_device(device)
        show_runs(worker, jobs)


def show_device(device: Device) -> None:
    """Name, memory and load."""
    label = DEVICE_NAMES.get(device.kind, device.kind)
    number = f" {device.index}" if device.index >= 0 else f", {device.cores} cores"
    st.markdown(f"{label}{number} · {plain(device.name)}")
    gib = device.memory_mb / 1024
    if device.used_mb is not None and device.memory_mb:
        used = min(1.0, device.used_mb / device.memory_mb)
        st.progress(used, text=f"Memory {device.used_mb / 1024:.1f} of {gib:.1f} GiB")
    elif gib:
        st.caption(f"Memory {gib:.1f} GiB")
    if device.load_percent is not None:
        load = min(100.0, max(0.0, device.load_percent))
        st.progress(load / 100, text=f"Load {load:.0f} %")


def show_runs(worker: WorkerView, jobs: list[JobView]) -> None:
    """What it runs now."""
    own = [job for job in jobs if job.executor_id == worker.executor_id]
    if not own:
        st.caption("Runs nothing now." if worker.is_alive else "It ran nothing.")
    for job in own:
        took = describe_duration(job.duration_s)
        label = (
            f"{JOB_KIND_NAMES[job.kind]}, {job.progress:.0%}, {took}, by {plain(job.created_by)}"
        )
        try:
            st.page_link(
                "pages/train/runs.py", label=label, icon=":material/play_arrow:",
                query_params={"run": str(job.id)},
            )  # fmt: skip
        except StreamlitAPIException:  # this role has no such page
            st.markdown(label)


def show_queues(queued: list[JobView], troubles: list[str]) -> None:
    """How many runs wait, and for what."""
    counts = {resource: 0 for resource in Resource}
    for job in queued:
        counts[job.resource] += 1
    waiting = ", ".join(f"{count} for {name.value}" for name, count in counts.items() if count)
    st.caption(f"Runs that wait: {waiting}." if waiting else "No run waits.")
    for trouble in troubles:
        st.warning(plain(trouble), icon=":material/cloud_off:")


def show_all() -> None:
    if admit(Permission.RUN_JOBS) is None:  # a fragment ticks without the page's guard
        return
    with reporting():
        with get_store().reading() as db:
            workers = list_workers(db)
            running = list_jobs(db, states=[JobState.RUNNING], limit=1_000)
            queued = list_jobs(db, states=[JobState.QUEUED], limit=1_000)
            needed = {job.resource for job in queued}
            troubles = [find_worker_trouble(db, resource) for resource in sorted(needed)]
        workers = [w for w in workers if w.is_alive or utcnow() - w.seen_at < SHOWN_FOR]
        show_queues(queued, [trouble for trouble in troubles if trouble])
        if not workers:
            empty_state(
                "No worker is alive",
                "Runs wait until one starts: `make run`, or `python -m rlhf_core worker`.",
                icon=":material/memory:",
            )
        columns = st.columns(2) if len(workers) > 1 else [st.container()]
        for number, worker in enumerate(workers):
            with columns[number % len(columns)]:
                show_worker(worker, running)


require_page(Permission.RUN_JOBS)
LOOK_EVERY = timedelta(seconds=5)
SHOWN_FOR = timedelta(days=1)  # a silent worker
DEVICE_NAMES = {"cuda": "CUDA", "rocm": "ROCm", "mps": "MPS", "cpu": "CPU"}
st.title("Workers")
st.fragment(show_all, run_every=LOOK_EVERY, key="workers")()
