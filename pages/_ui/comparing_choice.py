"""Which versions are compared, on which rows, and starting a comparison."""

import uuid
from collections.abc import Sequence

import streamlit as st

from pages._ui.data import read_dataset_versions
from pages._ui.launch_policy_choice import REWARD_KINDS, name_version
from pages._ui.messages import plain, reporting
from pages._ui.version_actions import fitting, name_parts
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.dataset.service import DatasetVersionView
from rlhf_core.errors import NotFound
from rlhf_core.jobs.compare_versions import (
    MAX_VERSIONS,
    check_versions,
    enqueue_compare_versions,
    estimate_compare_s,
)
from rlhf_core.jobs.evaluate import ALL
from rlhf_core.registry.comparisons import POLICY_PURPOSE, ComparisonHead, get_comparison
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Alias, DatasetPurpose, ModelKind

RUNS = "pages/train/runs.py"
MINUTE_S = 60
FIGURES, SLICES, ROWS, ANSWERS = "Figures", "By slice", "Disagreements", "Answers"
CURVES, PARAMETERS, DATA = "Learning curves", "Parameters", "Data"


def read_linked(actor: Actor) -> ComparisonHead | None:
    """The comparison of `?comparison=`; None where there is no such one."""
    wanted = st.query_params.get("comparison")
    if wanted is None:
        return None
    try:
        with get_store().reading() as db:
            return get_comparison(db, uuid.UUID(wanted), actor=actor)
    except (ValueError, NotFound):
        return None


def choose_model(versions: list[ModelVersionView], linked: ComparisonHead | None) -> str:
    """The model with several versions: that of `?comparison=` or `?versions=`, else the first."""
    counts: dict[str, int] = {}
    for version in versions:
        counts[version.model_name] = counts.get(version.model_name, 0) + 1
    names = sorted(name for name, count in counts.items() if count > 1)
    first = linked.model_name if linked else None
    asked = st.query_params.get("versions", "").split(",")
    first = first or next((v.model_name for v in versions if str(v.id) in asked), None)
    usual = names.index(first) if first in names else 0
    if len(names) == 1:
        return names[0]
    return st.selectbox(
        "Model", names, usual, format_func=plain, key="compared_model", on_change=_forget
    )


def choose_versions(
    versions: list[ModelVersionView], comparisons: Sequence[ComparisonHead]
) -> list[ModelVersionView]:
    """The versions to compare; the first is what the others are compared with.

    To begin with those of the address, else of the newest comparison, else what serves and the
    newest version.
    """
    by_id = {str(version.id): version for version in versions}
    linked = _find_linked(comparisons) or next(iter(comparisons), None)
    asked = [one for one in st.query_params.get("versions", "").split(",") if one in by_id]
    compared = [str(one) for one in (linked.version_ids if linked else ()) if str(one) in by_id]
    serving = [str(version.id) for version in versions if Alias.PRODUCTION in version.aliases]
    usual = list(dict.fromkeys([*serving, *by_id]))[:2]
    chosen = st.multiselect(
        "Versions: the others against the first",
        list(by_id),
        default=(asked or compared or usual)[:MAX_VERSIONS],
        format_func=lambda one: _describe(by_id[one]),
        max_selections=MAX_VERSIONS,
        key=f"compared_versions_{versions[0].model_name}",
    )
    return [by_id[one] for one in chosen]


def choose_comparison(
    comparisons: Sequence[ComparisonHead], chosen: list[ModelVersionView]
) -> ComparisonHead | None:
    """The comparison of just these versions to show; None where there is none yet."""
    wanted = {version.id for version in chosen}
    found = {str(one.id): one for one in comparisons if set(one.version_ids) == wanted}
    if not found:
        return None
    linked = st.query_params.get("comparison")
    names = list(found)
    first = names.index(linked) if linked in names else 0
    if len(names) == 1:
        return found[names[0]]
    shown = st.selectbox(
        "Compared on",
        names,
        first,
        format_func=lambda one: name_comparison(found[one]),
        key=f"comparison_{'_'.join(sorted(one.hex[-6:] for one in wanted))}",
    )
    return found[shown]


def choose_part(found: ComparisonHead | None) -> str:
    """Which part to show; only that one is computed."""
    parts = [CURVES, PARAMETERS, DATA]
    if found is not None:
        middle = ANSWERS if found.purpose == POLICY_PURPOSE else ROWS
        parts = [FIGURES, SLICES, middle, *parts]
    chosen = st.segmented_control(
        "Part",
        parts,
        default=parts[0],
        required=True,
        key=f"compared_part_{len(parts)}_{parts[2]}",
        label_visibility="collapsed",
    )
    return chosen or parts[0]


def name_comparison(comparison: ComparisonHead) -> str:
    """`ratings v3, test · 412 rows · 2026-05-04 16:20 UTC`."""
    return (
        f"{comparison.dataset or 'rows that are gone'}, {comparison.split} · "
        f"{comparison.num_rows:,} rows · {comparison.created_at:%Y-%m-%d %H:%M} UTC"
    )


def show_start(chosen: list[ModelVersionView], every: list[ModelVersionView], actor: Actor) -> None:
    """Where this person may: choose the rows, see how long it takes, and start."""
    if not actor.may(Permission.RUN_JOBS):
        return
    with (
        st.container(key="compare_actions"),
        st.popover("Compare on frozen rows", icon=":material/difference:", key="compare_on"),
        reporting(),
    ):
        check_versions(chosen)
        _ask_rows(chosen, every, actor)


def _ask_rows(chosen: list[ModelVersionView], every: list[ModelVersionView], actor: Actor) -> None:
    datasets = read_dataset_versions(actor)
    is_policy = chosen[0].kind is ModelKind.POLICY
    offered = sorted(datasets, key=_rank) if is_policy else _fit_all(chosen, datasets)
    if not offered:
        st.caption("No frozen rows fit these versions: freeze some on the page Datasets.")
        return
    dataset = st.selectbox(
        "Rows",
        offered,
        format_func=lambda each: f"{each.name} · {each.num_rows:,} rows",
        key="compare_dataset",
    )
    parts = name_parts(dataset)
    part = st.radio(
        "Part", list(parts), format_func=parts.__getitem__, key=f"compare_part_{dataset.id}"
    )
    judge = _ask_judge(every) if is_policy else ""
    with_learned = st.toggle(
        "Also rows that one of them learned from",
        key="compare_with_learned",
        help="Otherwise prompts that any of the versions was trained on are left out: on those a "
        "version looks better than it is.",
    )
    num_rows = dataset.num_rows if part == ALL else dataset.card.get("parts", {}).get(part, 0)
    with get_store().reading() as db:
        took_s = estimate_compare_s(db, chosen, num_rows=num_rows)
    if st.button("Start the comparison", type="primary", key="compare_start"):
        with get_store().writing() as db:
            job = enqueue_compare_versions(
                db,
                actor=actor,
                version_ids=[version.id for version in chosen],
                dataset=dataset.dataset,
                number=dataset.number,
                split=part,
                judge=judge or None,
                with_learned=with_learned,
            )
        st.switch_page(RUNS, query_params={"run": str(job.id)})
    st.caption(_say_duration(took_s))


def _ask_judge(every: list[ModelVersionView]) -> str:
    judges = {name_version(one): one.name for one in every if one.kind in REWARD_KINDS}
    return st.selectbox(
        "Judge",
        ["", *judges],
        format_func=lambda name: judges.get(name, "that of the first one's training, else serving"),
        key="compare_judge",
        help="Best one that none of the policies learned from.",
    )


def _rank(dataset: DatasetVersionView) -> tuple[bool, float]:
    """For policies: prompts before rows with answers, the newest first."""
    return dataset.purpose is not DatasetPurpose.PROMPTS, -dataset.created_at.timestamp()


def _fit_all(
    chosen: list[ModelVersionView], datasets: list[DatasetVersionView]
) -> list[DatasetVersionView]:
    ids = set.intersection(*({one.id for one in fitting(v, datasets)} for v in chosen))
    return [dataset for dataset in datasets if dataset.id in ids]


def _say_duration(seconds: float) -> str:
    if seconds < MINUTE_S:
        return "It takes less than a minute, once a worker is free."
    return f"It takes about {seconds / MINUTE_S:.0f} minutes, once a worker is free."


def _find_linked(comparisons: Sequence[ComparisonHead]) -> ComparisonHead | None:
    wanted = st.query_params.get("comparison")
    return next((one for one in comparisons if str(one.id) == wanted), None)


def _describe(version: ModelVersionView) -> str:
    serves = ", production" if Alias.PRODUCTION in version.aliases else ""
    return f"{version.name} ({version.created_at:%Y-%m-%d}{serves})"


def _forget() -> None:
    """Of another model, show what it starts with; a callback."""
    for name in ("comparison", "versions"):
        st.query_params.pop(name, None)
