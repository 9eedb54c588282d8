"""From chosen parameters to a frozen version: what is there, what is short, and the rows."""

from typing import Any

import streamlit as st

from pages._ui.data import read_readiness
from pages._ui.dataset_rows import show_rows
from pages._ui.messages import plain, reporting
from pages._ui.readiness_panel import show_data
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor
from rlhf_core.clock import utcnow
from rlhf_core.dataset.builder import preview_rows
from rlhf_core.dataset.params import DATASET_NAMES, DatasetParams
from rlhf_core.dataset.readiness import Readiness
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import MAX_NAME_CHARS, freeze_version
from rlhf_core.dataset.splits import MAX_PART_PERCENT, SplitParams
from rlhf_core.examples import Example
from rlhf_core.queues.service import create_queue
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DatasetPurpose, QueueOrder, QueueSubject

RATE = "pages/collect/rate.py"
WISHES = {
    DatasetPurpose.PREFERENCES: "Rate these answers: their prompts have one rated answer each, and "
    "a second one makes a pair.",
    DatasetPurpose.STEPS: "Label the reasoning steps of these items as good or wrong.",
}
DEFAULT_WISH = "Rate these items: a dataset is short of them."


@st.cache_data(ttl=15, max_entries=50, show_spinner=False)
def read_preview(_actor: Actor, params: DatasetParams) -> list[Example]:
    """The first rows, at most 15 s old."""
    with get_store().reading() as db:
        return preview_rows(db, actor=_actor, params=params)


def show_build(actor: Actor, params: DatasetParams) -> None:
    """Readiness, preview and the button, for these parameters."""
    with st.spinner("Counting rows ..."):
        ready = read_readiness(actor, params)
    show_data(ready)
    _show_advice(actor, ready)
    if ready.have == 0:
        return
    st.header("Preview")
    rows = read_preview(actor, params)
    show_rows(rows, key=f"preview_{params.purpose.value}")
    st.header("Freeze")
    _ask_freeze(actor, params, ready)


def _show_advice(actor: Actor, ready: Readiness) -> None:
    """What is short, and the queue that would mend it."""
    if ready.is_ready:
        st.success(plain(ready.advice), icon=":material/check:")
        return
    if ready.missing:
        st.progress(ready.have / ready.need, text=f"{ready.have:,} of {ready.need:,}")
    st.warning(plain(ready.advice), icon=":material/info:")
    count = len(ready.short_interaction_ids)
    with st.container(horizontal=True, vertical_alignment="center"):
        if count and st.button(
            f"Make a rating queue of {count:,} item{'s' if count > 1 else ''}",
            key="dataset_queue",
            type="primary",
            icon=":material/playlist_add:",
        ):
            _make_queue(actor, ready)
        if not ready.have:
            st.page_link("pages/admin/transfer.py", label="Import", icon=":material/upload:")


def _make_queue(actor: Actor, ready: Readiness) -> None:
    with reporting():
        with get_store().writing() as db:
            queue = create_queue(
                db,
                actor=actor,
                name=f"For {DATASET_NAMES[ready.purpose]}, {utcnow():%Y-%m-%d %H:%M:%S}",
                interaction_ids=ready.short_interaction_ids,
                instructions=WISHES.get(ready.purpose, DEFAULT_WISH),
                subject=QueueSubject.STEPS
                if ready.purpose is DatasetPurpose.STEPS
                else QueueSubject.COMPLETIONS,
                order=QueueOrder.INFORMATIVE,
            )
        st.switch_page(RATE, query_params={"queue": str(queue.id)})


def _ask_freeze(actor: Actor, params: DatasetParams, ready: Readiness) -> None:
    """The name and the shares that are kept apart; one press freezes."""
    with st.form("dataset_freeze", border=True):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            name = st.text_input(
                "Dataset",
                value=DATASET_NAMES[params.purpose],
                max_chars=MAX_NAME_CHARS,
                key=f"dataset_name_{params.purpose.value}",
                width=260,
                help="The next version of this name is made; equal rows stay the version they are.",
            )
            test = _ask_share(
                "For the test (%)",
                20,
                "dataset_test",
                "Prompts on which finished models are examined.",
            )
            validation = _ask_share(
                "For validation (%)",
                10,
                "dataset_validation",
                "For choices such as when to stop, where exported rows train a model elsewhere; "
                "reward models trained here learn from these prompts too.",
            )
            seed = st.number_input(
                "Seed",
                min_value=0,
                max_value=2**32 - 1,
                value=0,
                key="dataset_seed",
                width=110,
                help="Decides which prompts those are.",
            )
        st.caption(
            "All answers to one prompt lie in one part, and prompts that are nearly the same lie "
            "together."
        )
        if not ready.is_ready:
            st.caption(":material/info: Too few to train on, but they can be frozen and exported.")
        label = f"Freeze {ready.have:,} row{'s' if ready.have != 1 else ''}"
        is_asked = st.form_submit_button(
            label, type="primary", icon=":material/ac_unit:", key="dataset_start"
        )
    if is_asked:
        split = {"test_percent": test, "validation_percent": validation, "seed": int(seed)}
        _freeze(actor, params, name, split)


def _ask_share(label: str, value: int, key: str, help: str) -> float:
    return float(
        st.number_input(
            label,
            min_value=0,
            max_value=MAX_PART_PERCENT,
            value=value,
            step=5,
            key=key,
            width=150,
            help=help,
        )
    )


def _freeze(actor: Actor, params: DatasetParams, name: str, split: dict[str, Any]) -> None:
    with reporting():
        with st.spinner("Freezing ..."):
            with get_store().reading() as db:
                staged = stage_rows(db, params=params, split=SplitParams(**split))
            with get_store().writing() as db:
                frozen = freeze_version(db, actor=actor, name=name, staged=staged)
        said = "is frozen" if frozen.was_created else "holds these rows already"
        notify(f"{plain(frozen.version.name)} {said}.", icon=":material/ac_unit:")
        st.query_params["version"] = str(frozen.version.id)
        st.session_state["dataset_part_wanted"] = "Versions"
        st.rerun()
