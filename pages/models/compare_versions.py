"""Compare versions: the same frozen rows, paired differences, and what made them different."""

import streamlit as st

from pages._ui.comparing_choice import (
    ANSWERS,
    CURVES,
    DATA,
    FIGURES,
    PARAMETERS,
    ROWS,
    SLICES,
    choose_comparison,
    choose_model,
    choose_part,
    choose_versions,
    read_linked,
    show_start,
)
from pages._ui.comparing_figures import show_charts, show_figures, show_slices
from pages._ui.comparing_origin import show_datasets, show_parameters, show_runs
from pages._ui.comparing_people import show_people
from pages._ui.comparing_rows import show_answers, show_rows
from pages._ui.data import read_model_versions
from pages._ui.guard import require_page
from pages._ui.messages import empty_state, reporting
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.queues.reward_pairs import list_people
from rlhf_core.registry.comparisons import (
    POLICY_PURPOSE,
    ComparisonView,
    get_comparison,
    list_comparisons,
)
from rlhf_core.store.engine import get_store


def show_part(part: str, found: ComparisonView) -> None:
    """A part of a comparison."""
    if part == FIGURES:
        with get_store().reading() as db:
            people = list_people(db, actor=actor, comparison_ids=[found.id])
        show_figures(found, people)
        show_people(found, people, actor)
        if found.purpose != POLICY_PURPOSE:
            show_charts(found)
    elif part == SLICES:
        show_slices(found)
    elif part == ROWS:
        show_rows(found, actor)
    elif part == ANSWERS:
        show_answers(found)


actor = require_page(Permission.READ_MODELS)
st.title("Compare versions")
show_notices()
with reporting():
    every = read_model_versions(actor)
    if len(every) == len({version.model_name for version in every}):
        empty_state(
            "Nothing to compare yet",
            "Versions of one model are compared with each other: train two or more.",
            icon=":material/difference:",
            page="pages/train/launch.py",
            page_label="Launch training",
        )
        st.stop()
    linked = read_linked(actor)
    name = choose_model(every, linked)
    versions = [version for version in every if version.model_name == name]
    known = {version.id for version in versions}
    with get_store().reading() as db:
        listed = list_comparisons(db, actor=actor, model_name=name)
    if linked is not None and linked.model_name == name:
        listed = [linked, *(one for one in listed if one.id != linked.id)]
    own = [one for one in listed if known.issuperset(one.version_ids)]
    chosen = choose_versions(versions, own)
    if len(chosen) < 2:
        st.caption("Choose two versions or more.")
        st.stop()
    head = choose_comparison(own, chosen)
    found = None
    if head is not None:
        with get_store().reading() as db:
            found = get_comparison(db, head.id, actor=actor)
    show_start(chosen, every, actor)
    if found is None:
        st.info(
            "These versions were not compared on the same rows yet: start it above. What made them "
            "different is below.",
            icon=":material/info:",
        )
    part = choose_part(found)
    ordered = chosen
    if found is not None:
        place = {one: number for number, one in enumerate(found.version_ids)}
        ordered = sorted(chosen, key=lambda version: place[version.id])
        show_part(part, found)
    if part == CURVES:
        show_runs(ordered)
    elif part == PARAMETERS:
        show_parameters(ordered)
    elif part == DATA:
        show_datasets(ordered, actor)
