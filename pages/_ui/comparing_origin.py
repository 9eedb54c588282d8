"""What made versions different: the curves of their runs, their parameters, their rows."""

import uuid
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui.measures import MODEL_KIND_NAMES, NONE_THERE
from pages._ui.messages import plain, reporting
from pages._ui.run_compare import find_differences, show_run_curves
from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.differences import DatasetDifference, compare_frozen
from rlhf_core.errors import NotFound
from rlhf_core.jobs.service import JobView, get_job
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import get_store


def show_runs(versions: list[ModelVersionView]) -> None:
    """The learning curves of the versions' runs on one chart."""
    jobs = {version.id: _find_job(version) for version in versions}
    without = [version.name for version in versions if jobs[version.id] is None]
    runs = [job for job in jobs.values() if job is not None]
    if without:
        st.caption(f"Without a run that is still known: {', '.join(map(plain, without))}.")
    if runs:
        names = {job.id: version.name for version in versions if (job := jobs[version.id])}
        show_run_curves(runs, names, otherwise="Their runs reported no numbers on their way.")


def show_parameters(versions: list[ModelVersionView]) -> None:
    """What the versions were told differently, and with what they were made."""
    facts = [
        {
            **version.params,
            "kind": MODEL_KIND_NAMES[version.kind],
            "dataset": version.dataset,
            "rows": version.details.get("num_rows"),
            "base": (version.details.get("base") or {}).get("name"),
            "seed": version.seed,
            "library": version.library_versions,
        }
        for version in versions
    ]
    differences = find_differences(facts)
    if not differences:
        st.caption("They were made with equal parameters, rows, seeds and libraries.")
        return
    frame = pd.DataFrame(
        {
            "Parameter": list(differences),
            **{
                version.name: [_show(values[place]) for values in differences.values()]
                for place, version in enumerate(versions)
            },
        }
    )
    st.dataframe(
        frame,
        hide_index=True,
        height="content" if len(frame) < 20 else 600,
        placeholder=NONE_THERE,
        key="compared_params",
        alt="Parameters of the versions that are not the same",
    )
    st.caption(f"Only what differs is shown; {NONE_THERE} is the method's own default.")


def show_datasets(versions: list[ModelVersionView], actor: Actor) -> None:
    """What the rows that the versions learned from have in common with the first one's."""
    first = versions[0]
    if first.dataset_version_id is None:
        st.caption(f"{plain(first.name)} was not made from a frozen dataset.")
        return
    for version in versions[1:]:
        if version.dataset_version_id is None:
            st.caption(f"{plain(version.name)} was not made from a frozen dataset.")
        elif version.dataset_version_id == first.dataset_version_id:
            st.markdown(
                f"{plain(version.name)} and {plain(first.name)} learned from the same rows: "
                f"{plain(first.dataset or 'rows that are gone')}."
            )
        else:
            with reporting():
                found = _compare(actor, first.dataset_version_id, version.dataset_version_id)
                _show_difference(version, first, found)


@st.cache_data(max_entries=50, show_spinner="Reading the rows")
def _compare(_actor: Actor, first: uuid.UUID, second: uuid.UUID) -> DatasetDifference:
    """Frozen rows never change: what was found stays."""
    with get_store().reading() as db:
        return compare_frozen(db, actor=_actor, first_id=first, second_id=second)


def _show_difference(
    version: ModelVersionView, first: ModelVersionView, found: DatasetDifference
) -> None:
    names = found.first.name, found.second.name
    st.markdown(
        f"**{plain(first.name)}** learned from {plain(names[0])}, **{plain(version.name)}** from "
        f"{plain(names[1])}"
    )
    rows = pd.DataFrame(
        {
            "": ["Rows", "Prompts"],
            "In both": [found.num_equal + found.num_relabelled, found.num_prompts_both],
            "of them rated otherwise": [found.num_relabelled, None],
            f"Only in {names[0]}": [found.num_only_first, found.num_prompts_only_first],
            f"Only in {names[1]}": [found.num_only_second, found.num_prompts_only_second],
        }
    )
    st.dataframe(
        rows,
        hide_index=True,
        placeholder=NONE_THERE,
        key=f"dataset_rows_{version.id}",
        alt=f"Rows and prompts that {names[0]} and {names[1]} have in common, and of one only",
    )
    if not found.params:
        st.caption("Their rows were chosen by the same filters.")
        return
    st.dataframe(
        pd.DataFrame(
            {
                "Filter": list(found.params),
                names[0]: [_show(one) for one, _ in found.params.values()],
                names[1]: [_show(other) for _, other in found.params.values()],
            }
        ),
        hide_index=True,
        placeholder=NONE_THERE,
        key=f"dataset_params_{version.id}",
        alt="Filters of the datasets that are not the same",
    )


def _find_job(version: ModelVersionView) -> JobView | None:
    if version.job_id is None:
        return None
    try:
        with get_store().reading() as db:
            return get_job(db, version.job_id)
    except NotFound:
        return None


def _show(value: Any) -> str | None:
    return None if value is None else str(value)
