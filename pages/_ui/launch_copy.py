"""A run to copy: what it was asked for is what the launch page offers at first."""

import uuid

import streamlit as st

from pages._ui.measures import JOB_KIND_NAMES, POLICY_KINDS
from pages._ui.messages import reporting
from rlhf_core.errors import NotFound
from rlhf_core.jobs.policy_params import TrainPolicyParams, parse_policy_params
from rlhf_core.jobs.service import get_job
from rlhf_core.jobs.train_params import LEARNERS, TrainRewardParams, parse_train_params
from rlhf_core.store.engine import get_store


def find_copied() -> TrainRewardParams | TrainPolicyParams | None:
    """What the run of `?copy=` was asked for; None where there is none, which it says."""
    wanted = st.query_params.get("copy", "")
    if not wanted:
        return None
    with reporting():
        try:
            run_id = uuid.UUID(wanted)
        except ValueError as error:
            raise NotFound(f"There is no run {wanted!r} to copy.") from error
        with get_store().reading() as db:
            job = get_job(db, run_id)
        if job.kind not in LEARNERS and job.kind not in POLICY_KINDS:
            raise NotFound(f"The run {wanted} trained no model: there is nothing to copy.")
        is_policy = job.kind in POLICY_KINDS
        copied = parse_policy_params(job.params) if is_policy else parse_train_params(job.params)
        st.info(
            f"Copied from the run {JOB_KIND_NAMES[job.kind]} of "
            f"{job.created_at:%Y-%m-%d %H:%M} UTC: change what you like.",
            icon=":material/content_copy:",
        )
        return copied
    return None
